"""Dead letters in groups of those that went wrong alike."""

from __future__ import annotations

import pytest

from sagabus import Bus
from sagabus.dead_letters.groups import LetterGroup, LetterHead, grouped, pattern
from sagabus.dead_letters.letter import DeadLetter
from sagabus.store.protocol import Bookkeeping
from tests.changes import evolve


def letter(id_: str, error: str, at_ms: int = 1000, **changes: str) -> DeadLetter:
    made = DeadLetter(id_, "credit", "failed", error, "", 5, at_ms, b"{}", "credit.check")
    return evolve(made, **changes)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("ValueError: no such customer: D1", "ValueError: no such customer: …"),
        ("KeyError: 'limit'", "KeyError: …"),
        ("Timeout at 10.0.0.7:5432 after 30s\nand more", "Timeout at … after …"),
        ('state says "it\'s over", 3 times', "state says …, … times"),
        ("", ""),
    ],
)
def test_pattern_leaves_out_what_an_error_names(error: str, said: str) -> None:
    """Two errors of one kind are about different things, and are one group."""
    assert pattern(error) == said


def test_groups_are_by_error_type_reason_and_endpoint() -> None:
    """Those of most letters come first; each says when its first and its last letter was given up."""
    letters = [
        letter("a", "ValueError: no 1", 1000),
        letter("b", "ValueError: no 2", 3000),
        letter("c", "ValueError: no 3", 2000, endpoint="equifax"),
        letter("d", "TimeoutError: late", 4000),
    ]
    found = grouped(map(LetterHead.of, letters))
    assert found[0] == LetterGroup("ValueError: no …", "credit.check", "failed", "credit", 2, 1000, 3000)
    assert [(group.error, group.endpoint) for group in found[1:]] == [
        ("TimeoutError: late", "credit"),
        ("ValueError: no …", "equifax"),
    ]


def test_letters_of_a_group_are_found_retried_and_dropped_together() -> None:
    """Whatever else there is stays."""
    with Bus("memory:", "memory:") as bus:
        bus.endpoint("credit")
        letters = [letter(f"v{n}", f"ValueError: no {n}", n) for n in range(250)]
        bus.store.note(Bookkeeping(buried=(*letters, letter("t", "TimeoutError: late"))))
        groups = bus.dead_letters.groups()
        assert (groups.looked_at, groups.total, groups.groups[0].count) == (251, 251, 250)
        assert sorted(one.id for one in bus.dead_letters.of_group(groups.groups[0])) == sorted(o.id for o in letters)
        assert bus.dead_letters.drop(bus.dead_letters.of_group(groups.groups[0])) == 250
        assert [one.id for one in bus.dead_letters.find()] == ["t"]


def test_groups_say_of_how_many_letters_they_are_made() -> None:
    """However many there are, a bounded number is looked at: the newest."""
    with Bus("memory:", "memory:") as bus:
        bus.store.note(Bookkeeping(buried=tuple(letter(f"v{n}", "E", n) for n in range(30))))
        groups = bus.dead_letters.groups(limit=10)
        assert (groups.looked_at, groups.total) == (10, 30)
        assert groups.groups[0].first_ms == 20
