"""The bus that fuzzed commands look at: in memory, with a saga, and names that nobody would choose."""

from __future__ import annotations

from examples.credit_check.messages import CheckCredit
from examples.credit_check.saga import CreditCheck
from sagabus import Bus

bus = Bus(store="memory:", transport="memory:", namespace="fuzzed-commands")
bus.endpoint("credit", CreditCheck)
bus.route(CheckCredit, to="credit")
