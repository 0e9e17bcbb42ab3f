"""The soak's own judgement: its ledger, and what it calls flat."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.soak.driver import wrong_decision
from benchmarks.soak.ledger import Ledger
from benchmarks.soak.samples import flatness


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Return an empty ledger that remembers for a hundred seconds."""
    return Ledger(tmp_path, window_s=100.0)


def counted(ledger: Ledger) -> tuple[int, ...]:
    """Return what was accepted, closed, is open, came twice, contradicts, and is a repeat."""
    totals = ledger.totals()
    return (totals.accepted, totals.closed, totals.open, totals.twice, totals.contradictory, totals.repeats)


def test_ledger_case_with_one_outcome_is_closed_whichever_comes_first(ledger: Ledger) -> None:
    """An outcome may be heard before the send that asked for it has returned."""
    ledger.ask("check", [1, 2], 0.0)
    ledger.outcome("check", 1, "a", "", 1.0)
    ledger.accept("check", [1, 2], 1.0)
    assert counted(ledger) == (2, 1, 1, 0, 0, 0)
    ledger.outcome("check", 2, "b", "", 2.0)
    assert (counted(ledger), ledger.lost(), ledger.oldest_s(9.0)) == ((2, 2, 0, 0, 0, 0), [], 0.0)


def test_ledger_accepted_case_without_an_outcome_is_lost(ledger: Ledger) -> None:
    """One that was never accepted is not."""
    ledger.ask("check", [1, 2], 0.0)
    ledger.accept("check", [2], 1.0)
    assert (ledger.lost(), ledger.open_cases("check"), ledger.oldest_s(5.0)) == (["check 2"], 2, 5.0)


def test_ledger_second_outcome_is_twice_unless_it_is_a_copy_of_the_first(ledger: Ledger) -> None:
    """A consumer may get one message twice; two messages are two outcomes."""
    ledger.ask("check", [1], 0.0)
    ledger.accept("check", [1], 0.0)
    for message_id in ("a", "a", "b"):
        ledger.outcome("check", 1, message_id, "", 1.0)
    assert counted(ledger) == (1, 1, 0, 1, 0, 1)
    assert "second outcome" in ledger.findings[0]


def test_ledger_outcome_after_its_case_was_forgotten_is_twice(ledger: Ledger) -> None:
    """Nobody can say any more that it is a copy, so it counts."""
    ledger.ask("check", [1], 0.0)
    ledger.accept("check", [1], 0.0)
    ledger.outcome("check", 1, "a", "", 1.0)
    ledger.compact(102.0)
    ledger.outcome("check", 1, "a", "", 103.0)
    assert counted(ledger)[3] == 1


def test_ledger_outcome_that_cannot_be_right_is_contradictory(ledger: Ledger) -> None:
    """It closes its case, and is found."""
    ledger.ask("alarm", [1], 0.0)
    ledger.accept("alarm", [1], 0.0)
    ledger.outcome("alarm", 1, "a", "came 5 ms early", 1.0)
    assert (counted(ledger), ledger.findings) == ((1, 1, 0, 0, 1, 0), ["alarm 1: came 5 ms early"])


def test_ledger_memory_and_disk_stay_bounded(ledger: Ledger, tmp_path: Path) -> None:
    """What is closed for longer than the window goes, in memory and on disk; what is open keeps its segment."""
    ledger.ask("check", [999_999], 0.0)
    ledger.accept("check", [999_999], 0.0)
    for number in range(100):
        now_s = 10.0 * number
        ledger.ask("check", [number], now_s)
        ledger.accept("check", [number], now_s)
        ledger.outcome("check", number, f"m{number}", "", now_s)
        ledger.compact(now_s)
    assert len(list(tmp_path.iterdir())) > 10, "the oldest case is open"
    ledger.outcome("check", 999_999, "late", "", 1000.0)
    ledger.compact(1200.0)
    assert len(ledger._kinds["check"].closed) == 0
    (left,) = tmp_path.iterdir()
    assert json.loads(left.read_text().splitlines()[-1]) == [1000.0, "outcome", "check", 999_999, "late", ""]
    ledger.close()


def test_ledger_evidence_stays_once_something_was_found(ledger: Ledger, tmp_path: Path) -> None:
    """The segments are what tells how it came about."""
    ledger.outcome("check", 1, "a", "", 0.0)
    ledger.outcome("check", 2, "a", "", 100.0)
    ledger.compact(1000.0)
    assert len(list(tmp_path.iterdir())) == 2
    ledger.close()


def test_flatness_of_a_leak_is_seen_through_noise() -> None:
    """A line that rises by ten per cent is not flat, whatever jumps around it; noise alone is."""
    times = [10.0 * n for n in range(300)]
    noise = [(n * 37 % 21 - 10) / 100 for n in range(300)]
    quiet = flatness(times, [100 + 30 * jump for jump in noise])
    leak = flatness(times, [100 + 30 * jump + 10 * n / 300 for n, jump in enumerate(noise)])
    assert (quiet.flat, leak.flat) == (True, False)
    assert leak.drift == pytest.approx(0.095, abs=0.01)


def test_flatness_of_a_step_is_seen_in_its_windows() -> None:
    """What grew once and stayed may fit a line that hardly rises; the median of its window tells."""
    values = [100.0] * 130 + [112.0] * 40 + [100.0] * 130
    found = flatness([10.0 * n for n in range(300)], values)
    assert (abs(found.drift) < 0.05, found.spread > 0.05, found.flat) == (True, True, False)


def test_flatness_takes_the_load_off_and_leaves_the_leak() -> None:
    """A store that holds twice as much for a while holds what came then; what rises with time stays."""
    times = [10.0 * n for n in range(300)]
    load = [1000.0 + 400.0 * (n // 50 % 2) for n in range(300)]
    held = [50 + 0.1 * amount for amount in load]
    assert not flatness(times, held).flat
    assert flatness(times, held, load).flat
    leak = flatness(times, [value + 0.1 * n for n, value in enumerate(held)], load)
    assert leak.drift == pytest.approx(30 / 165, abs=0.03)


def test_wrong_decision_names_what_is_wrong() -> None:
    """A decision rests on scores that bureaus gave, and is what their mean says."""
    assert "decided on {}" in wrong_decision("C1", {}, 0.0, False)
    assert "decided on" in wrong_decision("C1", {"equifax": 1, "experian": 2}, 1.5, False)
