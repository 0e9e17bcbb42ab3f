"""What the part of every store that knows the workers must do; `StoreContract` inherits it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from attrs import evolve

from sagabus.store.protocol import Store
from sagabus.telemetry.card import KEPT_MS, PAUSED, Orders, Pause, WorkerCard
from sagabus.telemetry.counters import EndpointCounts, TypeCounts
from sagabus.testing.document_contract import AWKWARD


def worker_card(worker: str = "host-1", **changes: object) -> WorkerCard:
    """Return a card with something in every field that a worker fills in; *changes* are fields of it."""
    counts = EndpointCounts(
        types={"credit.check": TypeCounts(5, 1, 2, 3)},
        stored=4,
        forked=3,
        late=2,
        duplicate=1,
        again={"fence": 7},
        merges=2,
        folded=5,
        dropped_decisions=1,
        posted_merges=3,
        early=6,
        repeated=8,
        waited=9,
        parked=10,
        unmergeable=11,
    )
    counts.latency.note(0.003, 4)
    counts.handlers.note(1e9)
    counts.siblings.note(2)
    fields: dict[str, object] = {
        "worker": worker,
        "host": "böx",
        "pid": 42,
        "endpoints": ("credit", "mail"),
        "started_ms": 1_700_000_000_000,
        "state": PAUSED,
        "handled_per_s": 12.5,
        "counts": {"credit": counts, "mail": EndpointCounts()},
    }
    return WorkerCard(**{**fields, **changes})  # type: ignore[arg-type]


class PresenceStoreContract:
    """The laws of `sagabus.telemetry.part.PresenceStore`. Inherit it and give it `store`."""

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        """Yield an open store in which nothing is stored yet."""
        raise NotImplementedError("override the store fixture")

    def test_card_shown_is_there_as_it_was_shown(self, store: Store) -> None:
        """Whoever asks sees every worker, all that it has counted, and when it was there by the store's own clock."""
        before_ms, _ = store.next_due_ms()
        shown = [worker_card("b"), worker_card("a", counts={}, state="working")]
        assert [store.presence.show(card) for card in shown] == [Orders(), Orders()]
        roster = store.presence.cards()
        assert [card.worker for card in roster.cards] == ["a", "b"]
        for card, mine in zip(roster.cards, reversed(shown), strict=True):
            assert before_ms <= card.seen_ms <= roster.now_ms <= before_ms + KEPT_MS
            assert evolve(card, seen_ms=0) == mine

    def test_card_renewed_replaces_the_one_before(self, store: Store) -> None:
        """A worker has one card: its last."""
        store.presence.show(worker_card(pid=1))
        store.presence.show(worker_card(pid=2))
        [card] = store.presence.cards().cards
        assert card.pid == 2

    def test_worker_that_leaves_is_gone_at_once(self, store: Store) -> None:
        """The others stay; who leaves twice, or was never there, does no harm."""
        for worker in "ab":
            store.presence.show(worker_card(worker))
        for _ in range(2):
            store.presence.leave("a")
        assert [card.worker for card in store.presence.cards().cards] == ["b"]

    def test_counts_go_on_without_changing_what_was_shown(self, store: Store) -> None:
        """What a worker counts later is on its next card."""
        card = worker_card()
        store.presence.show(card)
        card.counts["credit"].stored += 1
        [shown] = store.presence.cards().cards
        assert shown.counts["credit"].stored == card.counts["credit"].stored - 1

    @pytest.mark.parametrize("name", AWKWARD, ids=range(len(AWKWARD)))
    def test_workers_of_any_name_are_kept_apart(self, store: Store, name: str) -> None:
        """Whatever a worker is called."""
        others = [name, f"{name}2"]
        for worker in others:
            store.presence.show(worker_card(worker))
        assert {card.worker for card in store.presence.cards().cards} == set(others)

    def test_endpoint_paused_is_told_to_whoever_shows(self, store: Store) -> None:
        """Until it is resumed; others are not concerned."""
        store.presence.show(worker_card("a"))
        pause = store.presence.pause("credit", "ann@box", "bureau is down")
        assert (pause.endpoint, pause.by, pause.why) == ("credit", "ann@box", "bureau is down")
        assert 0 <= store.next_due_ms()[0] - pause.at_ms < KEPT_MS
        for worker in "ab":
            assert store.presence.show(worker_card(worker)) == Orders(frozenset({"credit"}))
        assert store.presence.resume("credit") == pause
        assert store.presence.show(worker_card("a")) == Orders()
        assert store.presence.paused() == {}

    def test_endpoint_paused_again_keeps_its_first_reason(self, store: Store) -> None:
        """The one who is asked why is the one who did it; of many at once all hear who that is."""
        with ThreadPoolExecutor(8) as pool:
            heard = set(pool.map(lambda n: store.presence.pause("credit", f"user-{n}", "mine"), range(8)))
        assert heard == set(store.presence.paused().values())
        assert len(heard) == 1

    def test_endpoint_never_paused_is_not_resumed(self, store: Store) -> None:
        """And resuming it says so."""
        store.presence.pause("mail", "ann@box")
        assert store.presence.resume("credit") is None
        assert list(store.presence.paused()) == ["mail"]

    def test_pauses_are_listed_by_endpoint(self, store: Store) -> None:
        """With who and why, whatever they say."""
        said = {
            name: store.presence.pause(name, f"by {name}", text) for name, text in zip("cab", AWKWARD, strict=False)
        }
        found = store.presence.paused()
        assert list(found) == ["a", "b", "c"]
        assert found == said

    def test_pause_survives_when_no_worker_is_there(self, store: Store) -> None:
        """It belongs to the endpoint: workers that come later hear of it."""
        store.presence.show(worker_card("a"))
        store.presence.pause("credit", "ann@box")
        store.presence.leave("a")
        assert isinstance(store.presence.paused()["credit"], Pause)
        assert store.presence.show(worker_card("b")).paused == {"credit"}
