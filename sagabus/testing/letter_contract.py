"""What the part of every store that keeps dead letters must do; `StoreContract` inherits it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from attrs import evolve

from sagabus.dead_letters.audit import MAX_BYTES, AuditLine
from sagabus.dead_letters.groups import LetterHead
from sagabus.dead_letters.letter import DeadLetter
from sagabus.dead_letters.part import LetterStore, Removal
from sagabus.dead_letters.sought import Sought
from sagabus.store.protocol import Bookkeeping, Store

LONG_MS = 3_600_000


def buried(store: Store, *letters: DeadLetter) -> Sequence[DeadLetter]:
    """Put *letters* on record."""
    store.note(Bookkeeping(buried=letters))
    return letters


def dead(id_: str, at_ms: int, endpoint: str = "credit", **changes: Any) -> DeadLetter:
    """Return a dead letter with every field filled."""
    given = DeadLetter(
        id_,
        endpoint,
        "failed",
        "ValueError: no",
        "Traceback ...",
        5,
        at_ms,
        b"\x00\xff{}",
        "credit.check",
        "CreditCheck/42",
        b'{"lifecycle":"live"}',
        "worker-1",
        "host-1",
        "CreditCheck.requested",
    )
    return evolve(given, **changes)


def removing(letter: DeadLetter, key: str = "k", *, resent: str = "", **details: Any) -> Removal:
    """Return the removal of *letter* with its audit line."""
    line = AuditLine("drop", "ann@desk", letter.id, letter.endpoint, key, letter.type, letter.saga, details)
    return Removal(letter, line, resent)


class LetterStoreContract:
    """The laws of `sagabus.dead_letters.part.LetterStore`. Inherit it and give it `store`."""

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        """Yield an open store in which nothing is stored yet."""
        raise NotImplementedError("override the store fixture")

    @pytest.fixture
    def letters(self, store: Store) -> LetterStore:
        """Return the part of the store that is looked at."""
        return store.letters

    # -- looking -------------------------------------------------------------------------------------------------

    def test_letter_is_got_by_endpoint_and_id(self, store: Store, letters: LetterStore) -> None:
        """Every field comes back; the same id at another endpoint is another letter."""
        here, there = buried(store, dead("a", 1000), dead("a", 1000, "equifax", context=b"", body=b""))
        assert letters.get("credit", "a") == here
        assert letters.get("equifax", "a") == there
        assert letters.get("credit", "b") is None
        assert letters.given_up("credit", "a")
        assert not letters.given_up("credit", "b")

    @pytest.mark.parametrize(
        ("sought", "found"),
        [
            (Sought(), "edcba"),
            (Sought(endpoint="equifax"), "c"),
            (Sought(endpoint="equi"), ""),
            (Sought(type="credit.score"), "b"),
            (Sought(reason="no-saga"), "ed"),
            (Sought(saga="CreditCheck/7"), "d"),
            (Sought(id="e"), "e"),
            (Sought(since_ms=3000), "edc"),
            (Sought(until_ms=3000), "ba"),
            (Sought(since_ms=2000, until_ms=4000), "cb"),
            (Sought(text="REFUSED by"), "a"),
            (Sought(text="é"), "b"),
            (Sought(text="É"), ""),
            (Sought(text="the end"), "e"),
            (Sought(reason="no-saga", saga="CreditCheck/42", since_ms=1), "e"),
            (Sought(reason="no-saga", endpoint="equifax"), ""),
        ],
        ids=str,
    )
    def test_letters_are_found_by_all_that_is_said(
        self, store: Store, letters: LetterStore, sought: Sought, found: str
    ) -> None:
        """Newest first; each condition narrows, and the count agrees."""
        buried(
            store,
            dead("a", 1000, error="OSError: Refused BY peer"),
            dead("b", 2000, error="ValueError: é", type="credit.score"),
            dead("c", 3000, "equifax"),
            dead("d", 4000, reason="no-saga", saga="CreditCheck/7"),
            dead("e", 5000, reason="no-saga", error="x" * 5000 + " the end"),
        )
        assert "".join(letter.id for letter in letters.find(sought)) == found
        assert letters.count(sought).total == len(found)

    def test_letters_are_counted_by_reason(self, store: Store, letters: LetterStore) -> None:
        """One number for each reason that there is."""
        assert letters.count().reasons == {}
        buried(store, dead("a", 1), dead("b", 1), dead("c", 1, reason="no-saga"))
        assert letters.count().reasons == {"failed": 2, "no-saga": 1}
        assert letters.count(Sought(id="a")).reasons == {"failed": 1}

    def test_heads_say_what_is_known_without_looking_into_letters(self, store: Store, letters: LetterStore) -> None:
        """Newest first, of one moment the greatest name first; the total is that of all letters."""
        found = [dead("a", 1000), dead("b", 2000, error="x" * 5000), dead("c", 2000, "equifax", saga="", type="")]
        buried(store, *found)
        assert letters.heads() == [LetterHead.of(letter) for letter in (found[2], found[1], found[0])]
        assert letters.heads(limit=1) == [LetterHead.of(found[2])]
        assert letters.total() == 3

    def test_no_letters_have_no_heads(self, store: Store, letters: LetterStore) -> None:
        """Nothing is asked for in vain."""
        assert (letters.heads(), letters.total()) == ([], 0)

    def test_pages_of_one_moment_miss_nothing_while_letters_go(self, store: Store, letters: LetterStore) -> None:
        """The letter where a page ended may be gone when the next is asked for; new ones come before all pages."""
        buried(store, *(dead(f"{n:02}", 1000) for n in range(20)))
        seen: list[str] = []
        page = letters.page(Sought(), limit=3)
        while page.letters:
            seen += [letter.id for letter in page.letters]
            letters.remove([removing(letter, f"k{letter.id}") for letter in page.letters])
            buried(store, dead(f"new-{len(seen)}", 2000))
            page = letters.page(Sought(), after=page.next, limit=3)
            if page.next is None:
                seen += [letter.id for letter in page.letters]
                break
        assert seen == [f"{n:02}" for n in reversed(range(20))]

    # -- going ---------------------------------------------------------------------------------------------------

    def test_removed_letter_is_gone_and_the_trail_says_why(self, store: Store, letters: LetterStore) -> None:
        """The line has the store's time; asking twice removes once and notes once."""
        a, b = buried(store, dead("a", 1000), dead("b", 1000))
        removal = removing(a, "k1", before="x")
        assert letters.remove([removal]) == [True]
        letters.remove([removal])
        assert list(letters.find()) == [b]
        assert not letters.given_up("credit", "a")
        (line,) = letters.audit()
        assert evolve(line, at_ms=0) == removal.line
        assert abs(line.at_ms - store.next_due_ms()[0]) < 60_000

    def test_letter_that_was_replaced_is_not_removed(self, store: Store, letters: LetterStore) -> None:
        """Who looked at the first must not drop the second unseen."""
        (first,) = buried(store, dead("a", 1000))
        (second,) = buried(store, dead("a", 2000, error="again"))
        assert letters.remove([removing(first)]) == [False]
        assert list(letters.find()) == [second]
        assert letters.audit() == []

    def test_letter_that_is_sent_again_goes_only_with_its_mark(self, store: Store, letters: LetterStore) -> None:
        """A message that was given up anew before the old letter went stays; that it was sent is noted all the same."""
        (letter,) = buried(store, dead("a", 1000))
        assert letters.mark_resent([letter, dead("b", 1)], "t1") == [True, False]
        assert letters.resent([letter, dead("b", 1)]) == ["t1", ""]
        assert not letters.given_up("credit", "a")  # or a redelivery of the copy would be acked
        assert letters.get("credit", "a") == letter
        buried(store, letter)
        assert letters.given_up("credit", "a")
        assert letters.remove([removing(letter, resent="t1")]) == [False]
        assert [line.id for line in letters.audit()] == ["a"]
        letters.mark_resent([letter], "t2")
        assert letters.remove([removing(letter, "k2", resent="t2")]) == [True]
        assert list(letters.find()) == []

    def test_mark_can_be_taken_away(self, store: Store, letters: LetterStore) -> None:
        """Where the message could not be sent after all."""
        (letter,) = buried(store, dead("a", 1000))
        letters.mark_resent([letter], "t1")
        assert letters.mark_resent([letter], "") == [True]
        assert letters.resent([letter]) == [""]
        assert letters.given_up("credit", "a")

    def test_trail_is_found_by_id_and_limited(self, store: Store, letters: LetterStore) -> None:
        """Newest first; a line that would be too long has lost its details."""
        for n, id_ in enumerate(("a1", "a2", "b1")):
            letters.remove([removing(buried(store, dead(id_, 1))[0], f"k{n}", patch="x" * (MAX_BYTES if n else 9))])
        assert {line.id for line in letters.audit("a")} == {"a1", "a2"}
        assert len(letters.audit(limit=2)) == 2
        details = {line.id: line.details for line in letters.audit()}
        assert details["a1"] == {"patch": "x" * 9}
        assert set(details["b1"]) == {"omitted_bytes"}

    def test_letters_expire_by_the_stores_clock(self, store: Store, letters: LetterStore) -> None:
        """Oldest first, so many at a time; heads, marks and lines of the trail go too."""
        now_ms, _ = store.next_due_ms()
        old = buried(store, *(dead(f"old{n}", 1000 + n) for n in range(3)))
        (young,) = buried(store, dead("young", now_ms))
        letters.mark_resent(old, "t")
        assert letters.expire(LONG_MS, limit=2) == 2
        assert [letter.id for letter in letters.find()] == ["young", "old2"]
        assert letters.expire(LONG_MS) == 1
        assert letters.expire(LONG_MS) == 0
        assert list(letters.find()) == [young]
        assert letters.count().reasons == {"failed": 1}
        assert letters.resent(old) == ["", "", ""]
        letters.remove([removing(young)])
        assert letters.expire(LONG_MS) == 0
        assert len(letters.audit()) == 1
        assert letters.expire(-LONG_MS) == 0
        assert letters.audit() == []

    def test_many_letters_are_counted_and_found_in_pages(self, store: Store, letters: LetterStore) -> None:
        """More than one look at the server takes; what is rare is found among them all."""
        for first in range(0, 9000, 3000):
            buried(store, *(dead(f"{n:05}", 1000 + n // 10) for n in range(first, first + 3000)))
        buried(store, dead("rare", 500, reason="no-saga", body=b"x"))
        assert letters.count().reasons == {"failed": 9000, "no-saga": 1}
        assert [letter.id for letter in letters.find(Sought(reason="no-saga"))] == ["rare"]
        assert len({letter.id for letter in letters.find(Sought(type="credit.check"))}) == 9001
