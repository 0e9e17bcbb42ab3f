"""What the part of every store that shows and changes waiting messages must do; `StoreContract` inherits it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sagabus.store.protocol import Bookkeeping, Scheduled, Store
from sagabus.waiting.message import Waiting

FAR_MS = 3_600_000
"""Later than any test takes."""


def scheduled(store: Store, *names: str, in_ms: int = FAR_MS) -> list[Scheduled]:
    """Schedule messages, each a millisecond after the one before."""
    now_ms, _ = store.next_due_ms()
    items = [Scheduled(name, "credit", b"{}", now_ms + in_ms + n, "42") for n, name in enumerate(names)]
    store.note(Bookkeeping(scheduled=tuple(items)))
    return items


class WaitingStoreContract:
    """The laws of `sagabus.waiting.part.WaitingStore`. Inherit it and give it `store`."""

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        """Yield an open store in which nothing is stored yet."""
        raise NotImplementedError("override the store fixture")

    def test_waiting_messages_are_found_soonest_first(self, store: Store) -> None:
        """Wherever they lie, and in a window: the first moment counts, the last does not."""
        items = scheduled(store, *(f"m{n:03}" for n in range(40)))
        assert [waiting.item for waiting in store.waiting.find()] == items
        window = store.waiting.find(items[10].due_ms, items[12].due_ms)
        assert [waiting.item.id for waiting in window] == ["m010", "m011"]
        assert store.waiting.get("m007") == Waiting(items[7], items[7].due_ms)
        assert store.waiting.get("m") is None

    def test_more_of_one_moment_than_a_page_are_all_found(self, store: Store) -> None:
        """Each once."""
        at_ms = store.next_due_ms()[0] + FAR_MS
        items = tuple(Scheduled(f"m{n:04}", "credit", b"{}", at_ms) for n in range(1300))
        store.note(Bookkeeping(scheduled=items))
        assert [waiting.item for waiting in store.waiting.find()] == list(items)

    def test_page_whose_last_message_went_meanwhile_is_followed_by_the_next(self, store: Store) -> None:
        """Of one moment, too: what is still there comes once, and nothing is left out."""
        at_ms = store.next_due_ms()[0] + FAR_MS
        items = tuple(Scheduled(f"m{n:04}", "credit", b"{}", at_ms) for n in range(1700))
        store.note(Bookkeeping(scheduled=items))
        found = store.waiting.find()
        seen = [next(found).item.id for _ in range(500)]
        store.note(Bookkeeping(unscheduled=tuple(item.id for item in items if item.id <= "m0499")))
        assert [*seen, *(waiting.item.id for waiting in found)] == [item.id for item in items]

    def test_message_that_is_taken_is_never_sent(self, store: Store) -> None:
        """It goes whole, and once."""
        (item,) = scheduled(store, "a")
        waiting = Waiting(item, item.due_ms)
        assert store.waiting.take(waiting)
        assert not store.waiting.take(waiting)
        assert not store.waiting.hurry(waiting)
        assert (store.scheduled(), store.next_due_ms()[1]) == ([], None)

    def test_message_that_is_due_is_not_taken(self, store: Store) -> None:
        """Somebody may be sending it; handed out or not."""
        (item,) = scheduled(store, "a", in_ms=-1000)
        assert not store.waiting.take(Waiting(item, item.due_ms))
        assert store.due(1, 60.0) == [item]
        assert not store.waiting.take(Waiting(item, item.due_ms))
        handed_out = store.waiting.get("a")
        assert handed_out is not None
        assert not handed_out.still
        assert not store.waiting.take(handed_out)
        assert not store.waiting.hurry(handed_out)

    def test_message_that_was_put_off_is_not_taken_for_the_first(self, store: Store) -> None:
        """Whoever looked at the one must not cancel the other."""
        (item,) = scheduled(store, "a")
        scheduled(store, "a", in_ms=2 * FAR_MS)
        assert not store.waiting.take(Waiting(item, item.due_ms))
        assert [waiting.item.id for waiting in store.waiting.find()] == ["a"]

    def test_hurried_message_is_due_at_once(self, store: Store) -> None:
        """It is handed out as it was; to hurry it twice is too late."""
        first, second = scheduled(store, "a", "b")
        assert store.waiting.hurry(Waiting(second, second.due_ms))
        assert not store.waiting.hurry(Waiting(second, second.due_ms))
        assert store.due(5, 60.0) == [second]
        assert store.due(5, 60.0) == []
        assert store.waiting.get("a") == Waiting(first, first.due_ms)
