"""What the overview is told: figures of looks, by hand-made cards and a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from attrs import define, field

from sagabus import Bus
from sagabus.dashboard import live as module
from sagabus.dashboard.live import Live, Look
from sagabus.dashboard.shown import environment
from sagabus.dashboard.site import Site
from sagabus.errors import StoreUnavailableError
from sagabus.telemetry.card import Roster, WorkerCard
from sagabus.telemetry.counters import EndpointCounts, TypeCounts
from sagabus.transport import QueueInfo

BEGAN_MS = 1_700_000_000_000


@define
class Presence:
    """Shows the cards that the test has put there."""

    now_ms: int = BEGAN_MS
    cards_now: tuple[WorkerCard, ...] = ()
    down: bool = False
    asked: int = 0
    _rest: dict[str, Any] = field(factory=dict)

    def cards(self) -> Roster:
        self.asked += 1
        if self.down:
            raise StoreUnavailableError("redis://here", "refused")
        return Roster(self.now_ms, self.cards_now)

    def paused(self) -> dict[str, Any]:
        return self._rest

    def after(self, seconds: float, *cards: WorkerCard) -> None:
        self.now_ms += int(seconds * 1000)
        self.cards_now = cards


def card(handled: int, *, worker: str = "w", started_ms: int = BEGAN_MS - 60_000, forked: int = 0) -> WorkerCard:
    counts = EndpointCounts(types={"credit.check": TypeCounts(handled)}, forked=forked)
    return WorkerCard(worker, endpoints=("credit",), started_ms=started_ms, seen_ms=BEGAN_MS, counts={"credit": counts})


@pytest.fixture
def presence() -> Presence:
    return Presence()


@pytest.fixture
def live(presence: Presence, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    monkeypatch.setattr(module, "EVERY_S", 0.0)  # each call is a look; the store's clock is the test's
    with Bus("memory:", "memory:") as bus:
        bus.endpoint("credit")
        monkeypatch.setattr(bus.store, "presence", presence)
        yield Live(Site(bus, "tests:bus", False, environment()))


def test_first_look_knows_no_rate(live: Live, presence: Presence) -> None:
    """What a worker has done since it began is not done in the first second; nothing is said until two looks."""
    presence.after(0, card(1_000_000))
    trend = live.trend()
    assert trend.per_s(trend.recent.handled) is None
    presence.after(2, card(1_000_100, forked=3))
    trend = live.trend()
    assert trend.per_s(trend.recent.handled) == 50
    assert trend.per_min(trend.minute.forked) == 90


def test_worker_that_restarts_counts_what_it_did_since(live: Live, presence: Presence) -> None:
    """Its counts begin at zero again: no rate is negative, and none counts twice what it did before."""
    presence.after(0, card(500))
    live.trend()
    presence.after(1, card(30, started_ms=presence.now_ms + 500))
    assert live.trend().recent.handled == 30
    presence.after(1)
    live.trend()
    presence.after(1, card(40, started_ms=BEGAN_MS + 500))
    assert live.trend().recent.handled == 30, "nobody knows when it did the others"
    presence.after(1, card(45, started_ms=BEGAN_MS + 500))
    assert live.trend().recent.handled == 35


def test_look_after_a_long_time_begins_anew(live: Live, presence: Presence) -> None:
    """What happened while nobody looked is not what happened in the last second."""
    presence.after(0, card(0))
    live.trend()
    presence.after(3600, card(1_000_000))
    assert live.trend().per_s(1) is None


def test_rate_is_of_the_last_ten_seconds(live: Live, presence: Presence) -> None:
    presence.after(0, card(0))
    live.trend()
    for second in range(1, 31):
        presence.after(1, card(1000 if second < 15 else 1000 + 2 * (second - 14)))
        trend = live.trend()
    assert trend.per_s(trend.recent.handled) == 2
    assert len(trend.looks) == 31


def test_cards_of_past_looks_are_not_kept(live: Live, presence: Presence) -> None:
    """Five minutes of the cards of a large fleet would be hundreds of megabytes."""
    for second in range(5):
        presence.after(1, card(second))
        trend = live.trend()
    assert [len(look.cards) for look in trend.looks] == [0, 0, 0, 0, 1]


def test_viewers_share_a_look_and_its_failure(live: Live, presence: Presence, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is down is waited for once a second, whoever asks; it is looked at again when it is back."""
    monkeypatch.setattr(module, "EVERY_S", 3600.0)
    presence.down = True
    for _ in range(3):
        with pytest.raises(StoreUnavailableError):
            live.trend()
    assert presence.asked == 1
    presence.down = False
    monkeypatch.setattr(module, "EVERY_S", 0.0)
    assert live.trend().now.at_ms == presence.now_ms


@pytest.mark.parametrize(("depths", "said"), [((), 0), ((3, 4), 7), ((3, -1), 3), ((-1, -1), None)])
def test_depth_is_what_is_known(depths: tuple[int, ...], said: int | None) -> None:
    """Brokers that tell nothing of a queue do not tell that it is empty."""
    queues = tuple(QueueInfo(f"e{n}", depth, 1, ()) for n, depth in enumerate(depths))
    assert Look(BEGAN_MS, 0.0, queues=queues).depth == said


def test_message_that_is_gone_grows_no_older() -> None:
    """The broker is asked for ages every few seconds; a queue that is empty meanwhile has no oldest message."""
    queues = (QueueInfo("busy", 3, 1, ()), QueueInfo("done", 0, 1, ()))
    look = Look(BEGAN_MS, 1.0, queues=queues, oldest_ms={"busy": 40, "done": 50})
    assert (look.waited_ms("busy"), look.waited_ms("done"), look.waited_ms("other")) == (40, None, None)
