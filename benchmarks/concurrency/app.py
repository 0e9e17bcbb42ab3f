"""The bus that is measured: one saga three times, which gathers replies under a merger, serially, and exclusively.

`CONCURRENCY_NAMESPACE` keeps one run apart from another; `CONCURRENCY_BATCH` is how many messages a worker takes.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Final

from attrs import define, field

from benchmarks.meter import open_meter
from mergers import fieldwise, highest, union
from sagabus import Bus, Saga, handles, message, starts
from sagabus.worker import Worker

HANDLER_RUNS: Final[Counter[str]] = Counter()
"""How often the handler of a reply was run in this process, in vain or not. Counting is no part of the saga."""


@message("concurrency.gather")
class Gather:
    """Start a saga that waits for some replies."""

    key: str
    replies: int


@message("concurrency.replied")
class Replied:
    """One of them."""

    key: str
    number: int


@message("concurrency.gathered")
class Gathered:
    """All of them were there."""

    key: str
    replies: int


@define
class Gathering:
    """What came so far."""

    wanted: Annotated[int, highest] = 0
    numbers: Annotated[set[int], union] = field(factory=set)


class _Gatherer(Saga[Gathering]):
    @starts
    def asked(self, m: Gather) -> None:
        self.state.wanted = m.replies

    @handles
    def replied(self, m: Replied) -> None:
        HANDLER_RUNS["replied"] += 1
        self.state.numbers.add(m.number)

    def decide(self) -> None:
        if self.state.wanted and len(self.state.numbers) == self.state.wanted:
            self.publish(Gathered(self.id, self.state.wanted))
            self.complete()


class Merging(_Gatherer, Saga[Gathering], key="key", merger=fieldwise(Gathering)):
    """Replies that meet fork the saga, and a merger folds what they left."""


class Serial(_Gatherer, Saga[Gathering], key="key"):
    """Of replies that meet one is stored, and the others are run again."""


class Exclusive(_Gatherer, Saga[Gathering], key="key", exclusive=True):
    """Replies wait for the saga's lease."""


WAYS: Final[Mapping[str, type[Saga[Any]]]] = {"merge": Merging, "serial": Serial, "exclusive": Exclusive}
"""Way of coping with replies that meet -> the saga that copes so; the endpoint is called as the way."""


class CountedBus(Bus):
    """A bus that knows its workers, so that they can be asked what they did."""

    def worker(self, *args: Any, **options: Any) -> Worker:
        worker = super().worker(*args, **options)
        WORKERS.append(worker)
        return worker


WORKERS: Final[list[Worker]] = []


def counts() -> dict[str, int]:
    """Return what this process has done so far: runs of the reply's handler, and what all its lanes have counted.

    `again`: commits in vain; `waited`: looks at a saga whose lease another worker held; `parked`: messages put off;
    `siblings`: versions that were folded.
    """
    totals = Counter({"handler_runs": HANDLER_RUNS["replied"]})
    for lane in (lane for worker in WORKERS for lane in worker.lanes):
        tally = lane.tally
        totals["again"] += sum(tally.again.values())
        totals["waited"] += tally.waited
        totals["parked"] += sum(counts.retried for counts in tally.types.values())
        totals["siblings"] += tally.folded
    return dict(totals)


bus = CountedBus(namespace=os.environ.get("CONCURRENCY_NAMESPACE", "concurrency"))
for way, saga in WAYS.items():
    bus.endpoint(way, saga, batch=int(os.environ.get("CONCURRENCY_BATCH", "4")))
open_meter(bus, counts)
