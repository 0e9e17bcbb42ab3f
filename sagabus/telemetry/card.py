"""The card of a worker: what its process shows of itself once a second, and what it is told in the answer."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from attrs import field, frozen

from sagabus.telemetry.counters import Counts, EndpointCounts, TypeCounts
from sagabus.telemetry.histogram import Histogram

SHOW_EVERY_S: Final = 0.8
"""With the second that an idle lane waits for messages, a pause is heard of within two."""
KEPT_MS: Final = 60_000
"""A card that was not renewed for so long is removed by whoever shows theirs next."""

WORKING, DRAINING, PAUSED, WAITS, UNREADABLE = "working", "draining", "paused", "waits-for-server", "unreadable"


@frozen
class WorkerCard:
    """One worker process.

    Attributes:
        worker: its name.
        host: the machine, as it calls itself.
        pid: its process id there.
        endpoints: what it works through.
        started_ms: when it began, ms since 1970, by its machine's clock.
        seen_ms: when it showed itself last, ms since 1970, by the store's clock; 0 until the store has noted it.
        state: `working`, `draining` (finishes what is in hand), `paused` (all its endpoints are), `waits-for-server`,
            or `unreadable`, of a card that another version has written.
        handled_per_s: messages handled since the card before, a second.
        counts: what it has done since it began, by endpoint.
    """

    worker: str
    host: str = ""
    pid: int = 0
    endpoints: tuple[str, ...] = ()
    started_ms: int = 0
    seen_ms: int = 0
    state: str = WORKING
    handled_per_s: float = 0.0
    counts: Counts = field(factory=dict, repr=False)


@frozen
class Pause:
    """Why an endpoint is paused.

    Attributes:
        endpoint: its name.
        by: who did it, as `user@host`, or what the caller of the API says.
        why: what they said; may be empty.
        at_ms: when, ms since 1970, by the store's clock; 0 where nobody knows.
    """

    endpoint: str
    by: str = ""
    why: str = ""
    at_ms: int = 0


@frozen
class Orders:
    """What a worker is told when it shows its card.

    Attributes:
        paused: endpoints that nothing is to be received from.
    """

    paused: frozenset[str] = frozenset()


@frozen
class Roster:
    """All workers that have shown themselves lately.

    Attributes:
        now_ms: the store's time, ms since 1970; how long ago a card was shown is the difference.
        cards: by name.
    """

    now_ms: int
    cards: tuple[WorkerCard, ...] = ()


class _Counts(msgspec.Struct, array_like=True, frozen=True):
    """The counts of one endpoint as they are written; what later versions add comes behind."""

    types: dict[str, tuple[int, int, int, int]]
    outcomes: tuple[int, int, int, int]
    again: dict[str, int]
    merges: int
    folded: int
    dropped_decisions: int
    posted_merges: int
    early: int
    repeated: int
    waited: int
    parked: int
    latency: tuple[list[int], float]
    handlers: tuple[list[int], float]
    siblings: tuple[list[int], float]
    unmergeable: int = 0


class _Card(msgspec.Struct, frozen=True, omit_defaults=True):
    worker: str
    host: str = ""
    pid: int = 0
    endpoints: tuple[str, ...] = ()
    started_ms: int = 0
    state: str = WORKING
    handled_per_s: float = 0.0
    counts: dict[str, _Counts] = {}


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(_Card)


def encode_card(card: WorkerCard) -> bytes:
    """Return *card* as it is stored, without when it was seen: MessagePack."""
    written = {name: _write(counts) for name, counts in card.counts.items()}
    return _encoder.encode(
        _Card(
            card.worker,
            card.host,
            card.pid,
            card.endpoints,
            card.started_ms,
            card.state,
            round(card.handled_per_s, 3),
            written,
        )
    )


def decode_card(worker: str, data: bytes, seen_ms: int) -> WorkerCard:
    """Return what `encode_card` wrote, seen at that time; what cannot be read says so, and whose it is."""
    try:
        card = _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError):
        return WorkerCard(worker, seen_ms=seen_ms, state=UNREADABLE)
    return WorkerCard(
        worker,
        card.host,
        card.pid,
        card.endpoints,
        card.started_ms,
        seen_ms,
        card.state,
        card.handled_per_s,
        {name: _read(counts) for name, counts in card.counts.items()},
    )


def _write(counts: EndpointCounts) -> _Counts:
    return _Counts(
        {name: (t.handled, t.failed, t.retried, t.dead) for name, t in counts.types.items()},
        (counts.stored, counts.forked, counts.late, counts.duplicate),
        counts.again,
        counts.merges,
        counts.folded,
        counts.dropped_decisions,
        counts.posted_merges,
        counts.early,
        counts.repeated,
        counts.waited,
        counts.parked,
        _trimmed(counts.latency),
        _trimmed(counts.handlers),
        _trimmed(counts.siblings),
        counts.unmergeable,
    )


def _read(written: _Counts) -> EndpointCounts:
    plain: dict[str, Any] = dict(zip(("stored", "forked", "late", "duplicate"), written.outcomes, strict=True))
    return EndpointCounts(
        types={name: TypeCounts(*numbers) for name, numbers in written.types.items()},
        again=written.again,
        merges=written.merges,
        folded=written.folded,
        dropped_decisions=written.dropped_decisions,
        posted_merges=written.posted_merges,
        early=written.early,
        repeated=written.repeated,
        waited=written.waited,
        parked=written.parked,
        latency=Histogram.of_seconds(*written.latency),
        handlers=Histogram.of_seconds(*written.handlers),
        siblings=Histogram.of_siblings(*written.siblings),
        unmergeable=written.unmergeable,
        **plain,
    )


def _trimmed(histogram: Histogram) -> tuple[list[int], float]:
    counts = list(histogram.counts)
    while counts and not counts[-1]:
        counts.pop()
    return counts, histogram.total
