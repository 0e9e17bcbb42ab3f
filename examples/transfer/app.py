"""The bank's bus, as `sagabus worker examples.transfer.app:bus` runs it.

Store and transport come from `SAGABUS_STORE` and `SAGABUS_TRANSPORT`; `TRANSFER_NAMESPACE` keeps one run apart from
another.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Final

from examples.racing.rollcall import open_rollcall
from sagabus import Bus
from sagas.transfer import Transfer, open_bank

NAMESPACE: Final = os.environ.get("TRANSFER_NAMESPACE", "transfer")
KEPT_FOR: Final = timedelta(hours=1)
"""How long a finished transfer stays in the store; a bank would choose days."""
CLAIM_S: Final = 3.0
"""After how long a worker is taken for dead; short, because here it usually is."""
TRANSFERS: Final = "transfers"


def open_bus(namespace: str, store: str | None = None, transport: str | None = None) -> Bus:
    """Return a bus of this example; the workers' has the bank on it as well."""
    return Bus(store, transport, namespace=namespace, dedupe_window=KEPT_FOR, claim_s=CLAIM_S)


bus = open_bus(NAMESPACE)
bus.endpoint(TRANSFERS, Transfer)
# Accounts are few, and those who write to one outrun each other: more hands would do more work and not get further.
open_bank(bus, concurrency=4)
open_rollcall(bus)
