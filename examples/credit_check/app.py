"""The bank's bus, as `sagabus worker examples.credit_check.app:bus` runs it.

Store and transport come from `SAGABUS_STORE` and `SAGABUS_TRANSPORT`; `CREDIT_CHECK_NAMESPACE` and `CREDIT_CHECK_SEED`
keep one run apart from another.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Final

from examples.credit_check.bureaus import open_bureau
from examples.credit_check.saga import BUREAUS, CreditCheck
from examples.racing.rollcall import open_rollcall
from sagabus import Bus

NAMESPACE: Final = os.environ.get("CREDIT_CHECK_NAMESPACE", "credit-check")
SEED: Final = int(os.environ.get("CREDIT_CHECK_SEED", "1"))
KEPT_FOR: Final = timedelta(hours=1)
"""How long a finished check stays in the store; a bank would choose days."""

bus = Bus(namespace=NAMESPACE, dedupe_window=KEPT_FOR)
# Small batches spread the replies for one customer over the workers; large ones would be faster, and fork less often.
bus.endpoint("credit", CreditCheck, batch=8)
for bureau in BUREAUS:
    open_bureau(bus, bureau, seed=SEED)
open_rollcall(bus)
