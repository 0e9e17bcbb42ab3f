"""The bus that is measured: the credit check of the examples, with bureaus that answer at once.

`BENCHMARK_NAMESPACE` keeps one run apart from another.
"""

from __future__ import annotations

import os
from typing import Final

from benchmarks.meter import open_meter
from examples.credit_check.bureaus import score_of
from examples.credit_check.messages import RequestScore, ScoreReported
from examples.credit_check.saga import BUREAUS, CreditCheck
from sagabus import Bus, Context

SEED: Final = 1

bus = Bus(namespace=os.environ.get("BENCHMARK_NAMESPACE", "benchmark"))
bus.endpoint("credit", CreditCheck)


def report(m: RequestScore, context: Context) -> None:
    """Answer at once: what is measured is what carries the answer."""
    context.reply(ScoreReported(bureau=context.endpoint, score=score_of(m.customer, context.endpoint, SEED)))


for bureau in BUREAUS:
    bus.endpoint(bureau).consumer(report)
open_meter(bus)
