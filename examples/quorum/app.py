"""The bank's bus, as `sagabus worker examples.quorum.app:bus` runs it."""

from __future__ import annotations

from examples.quorum.bank import open_bank
from sagabus import Bus

bus = Bus(namespace="quorum")
open_bank(bus)
