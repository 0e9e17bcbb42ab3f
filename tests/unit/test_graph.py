"""The version graph as text: golden drawings."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import dedent

from sagabus.commit import HistoryEntry, Outcome
from sagabus.envelope import Envelope
from sagabus.observe.graph import draw, rows, short_names
from sagabus.versions import Dot

NOON_MS = 1_767_268_800_000


def entry(
    counter: int | None,
    parents: Sequence[int] = (),
    outcome: str = "stored",
    *types: str,
    by: str = "A",
    completed: bool = False,
    dropped: bool = False,
    life: int = 1,
    actor: str = "m",
    at_ms: int = 0,
) -> HistoryEntry:
    envelopes = [
        Envelope(specversion="1.0", id=f"{counter}-{index}", source="/client", type=name)
        for index, name in enumerate(types or ("scored",))
    ]
    return HistoryEntry(
        dot=Dot(actor, counter) if counter is not None else None,
        outcome=Outcome(outcome),
        at_ms=NOON_MS + at_ms,
        parents=tuple(Dot(actor, parent) for parent in parents),
        by=by,
        messages=tuple(envelopes),
        completed=completed,
        dropped_decision=dropped,
        life=life,
    )


def golden(text: str) -> str:
    return dedent(text).strip("\n")


def lanes(*entries: HistoryEntry) -> str:
    """Return the drawing without its columns, but with the counters of versions."""
    lines = [
        f"{row.lanes}  {row.entry.dot.counter}" if row.entry is not None and row.entry.dot else row.lanes
        for row in rows(entries)
    ]
    return "\n".join(lines)


def test_graph_of_no_history_is_empty() -> None:
    """Nothing is drawn for nothing."""
    assert draw([]) == ""


def test_graph_of_a_race_forks_merges_and_completes() -> None:
    """A second reader of one version gets a lane of its own, which ends where both are merged."""
    drawn = draw(
        [
            entry(1, (), "stored", "check"),
            entry(2, (1,), at_ms=10),
            entry(3, (1,), "forked", by="worker-b", dropped=True, at_ms=11),
            entry(4, (2, 3), "stored", "sagabus.MergeSagaState", completed=True, at_ms=25),
            entry(None, (), "late", at_ms=40),
        ]
    )
    assert drawn == golden(
        """
        ●    m:1  check           A         12:00:00.000  stored
        ├─╮
        ● │  m:2  scored          A         12:00:00.010  stored
        │ ●  m:3  scored          worker-b  12:00:00.011  forked, decision dropped
        ├─╯
        ■    m:4  MergeSagaState  A         12:00:00.025  merged m:2 + m:3, completed
        ✕         scored          A         12:00:00.040  late
        """
    )


def test_graph_of_three_siblings_joins_all_in_one_merge() -> None:
    """One merge of three siblings joins three lanes in one line."""
    assert lanes(
        entry(1), entry(2, (1,)), entry(3, (1,), "forked"), entry(4, (1,), "forked"), entry(5, (2, 3, 4))
    ) == golden(
        """
        ●  1
        ├─┬─╮
        ● │ │  2
        │ ● │  3
        │ │ ●  4
        ├─┴─╯
        ●  5
        """
    )


def test_graph_of_a_partial_merge_passes_the_sibling_that_is_left_out() -> None:
    """A merge that a third sibling has not been part of leaves that lane alone; the next merge joins it."""
    assert lanes(
        entry(1),
        entry(2, (1,)),
        entry(3, (1,), "forked"),
        entry(4, (1,), "forked"),
        entry(5, (2, 4), "forked"),
        entry(6, (3, 5)),
    ) == golden(
        """
        ●  1
        ├─┬─╮
        ● │ │  2
        │ ● │  3
        │ │ ●  4
        ├─│─╯
        ● │  5
        ├─╯
        ●  6
        """
    )


def test_graph_of_a_merge_to_the_right_leaves_the_first_lane_alone() -> None:
    """A merge stands in the leftmost of the lanes that it joins."""
    assert lanes(
        entry(1), entry(2, (1,)), entry(3, (1,), "forked"), entry(4, (1,), "forked"), entry(5, (3, 4), "forked")
    ) == golden(
        """
        ●  1
        ├─┬─╮
        ● │ │  2
        │ ● │  3
        │ │ ●  4
        │ ├─╯
        │ ●  5
        """
    )


def test_graph_of_a_late_reader_opens_its_lane_where_it_read() -> None:
    """A lane begins below the version that was read, however much later its version was written."""
    assert lanes(
        entry(1), entry(2, (1,)), entry(3, (2,)), entry(4, (3,)), entry(5, (2,), "forked"), entry(6, (1,), "forked")
    ) == golden(
        """
        ●  1
        ├─╮
        ● │  2
        ├─│─╮
        ● │ │  3
        ● │ │  4
        │ │ ●  5
        │ ● │  6
        """
    )


def test_graph_of_two_first_writes_begins_with_two_lanes() -> None:
    """Two starts at once have no parent, and no line between them."""
    assert lanes(entry(1), entry(2, (), "forked"), entry(3, (1, 2))) == golden(
        """
        ●  1
        │ ●  2
        ├─╯
        ●  3
        """
    )


def test_graph_of_a_trimmed_history_shows_parents_that_are_gone() -> None:
    """Versions whose entries are gone head the drawing, so that what came of them still hangs together."""
    drawn = draw([entry(72, (70,)), entry(73, (71,), "forked"), entry(74, (70,), "forked"), entry(75, (72, 73, 74))])
    assert drawn == golden(
        """
        ┊      m:70  trimmed from the history
        ├─╮
        │ │ ┊  m:71  trimmed from the history
        ● │ │  m:72  scored  A  12:00:00.000  stored
        │ │ ●  m:73  scored  A  12:00:00.000  forked
        │ ● │  m:74  scored  A  12:00:00.000  forked
        ├─┴─╯
        ●      m:75  scored  A  12:00:00.000  merged m:72 + m:73 + m:74
        """
    )


def test_graph_of_a_commit_without_version_marks_the_version_it_left_alone() -> None:
    """A commit that wrote no version stands on the lane of the one it read, or beside all where that moved on."""
    drawn = draw(
        [
            entry(1, (), "stored", "check", "scored", "scored"),
            entry(None, (1,), "stored", "sagabus.MergeSagaState"),
            entry(2, (1,)),
            entry(None, (1,), "stored", "sagabus.MergeSagaState"),
            entry(None, (2,), completed=True),
        ]
    )
    assert drawn == golden(
        """
        ●    m:1  check, scored ×2  A  12:00:00.000  stored
        ○         MergeSagaState    A  12:00:00.000  stored, state unchanged
        ●    m:2  scored            A  12:00:00.000  stored
        │ ○       MergeSagaState    A  12:00:00.000  stored, state unchanged
        ■         scored            A  12:00:00.000  completed
        """  # noqa: RUF001
    )


def test_graph_of_several_lives_separates_them() -> None:
    """A new life begins below a head; a message of an earlier life says which it was."""
    drawn = draw(
        [
            entry(1),
            entry(2, (1,), completed=True),
            entry(3, (), life=2),
            entry(None, (), "late", life=1),
            entry(4, (3,), life=2, completed=True),
        ]
    )
    assert drawn == golden(
        """
        ●    m:1  scored  A  12:00:00.000  stored
        ■    m:2  scored  A  12:00:00.000  completed
             ── life 2 ──
        ●    m:3  scored  A  12:00:00.000  stored
        │ ✕       scored  A  12:00:00.000  late (life 1)
        ■    m:4  scored  A  12:00:00.000  completed
        """
    )


def test_graph_over_midnight_shows_dates() -> None:
    """Times have their date where the history spans more than one day."""
    drawn = draw([entry(1), entry(2, (1,), at_ms=86_400_000)]).splitlines()
    assert ["2026-01-01 12:00:00.000" in drawn[0], "2026-01-02 12:00:00.000" in drawn[1]] == [True, True]


def test_short_names_tell_actors_apart() -> None:
    """Long actors are cut to what tells them apart, at least four characters; short ones stay."""
    entries = [entry(1, actor="b710d27e36b2"), entry(2, actor="b710d99e36b2"), entry(3, actor="memory")]
    assert sorted(short_names(entries).values()) == ["b710d2:1", "b710d9:2", "memory:3"]
