"""What the workers of one command have done, as it is told to who scrapes them."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from sagabus.telemetry.counters import Counts


@frozen
class Work:
    """What the workers of one command have done.

    Attributes:
        counts: by endpoint; they never fall, also where a worker was replaced.
        workers: name -> whether it runs and gets on.
        restarts: how many were replaced.
    """

    counts: Counts
    workers: Mapping[str, bool]
    restarts: int = 0
