"""The comparison with peers: who does not do the task gets no figures, and ratios are what they say."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from benchmarks.peers import table
from benchmarks.peers.course import Rate, Wait
from benchmarks.peers.load import Mark
from benchmarks.peers.task import BUREAUS, UndoneError, average, bureaus, is_right, needed, score, until


class Stuck:
    """Books in which nothing more is entered."""

    def done(self) -> int:
        return 2

    def times(self, checks: Sequence[str]) -> list[float]:
        raise NotImplementedError

    def close(self, expected: int) -> None:
        raise NotImplementedError


def test_average_of_two_scores_or_of_three_is_right_and_no_other() -> None:
    """Who decides on two scores may take any two."""
    first, second, third = (score(bureau, "c1") for bureau in BUREAUS)
    for few in ([first, second], [second, third], [first, third], [first, second, third]):
        assert is_right("c1", average(few))
    assert not is_right("c1", average([first, second]) + 1)
    assert not is_right("c1", float(first))


def test_hot_check_asks_as_many_as_it_should_and_waits_for_all() -> None:
    """Three bureaus and two scores, or a crowd and all of them."""
    assert (list(bureaus(3)), needed(3)) == (list(BUREAUS), 2)
    assert (len(set(bureaus(100))), needed(100)) == (100, 100)


def test_peer_that_comes_to_a_stop_is_given_up() -> None:
    """Not measured for ever, and not with what it did before."""
    with pytest.raises(UndoneError, match="2 of 3 checks"):
        until(Stuck(), 3, give_up_s=0.01)


def mark(at: float, *, workers: float, machine: float, commands: int) -> Mark:
    return Mark(at, workers, server=0.0, driver=0.0, machine=machine, commands=commands, reads=0)


def figures(checks_per_s: float) -> dict[str, object]:
    usage = mark(10.0, workers=1.0, machine=5.0, commands=100).until(
        mark(14.0, workers=5.0, machine=10.0, commands=900)
    )
    return table.figures_of(Rate(checks_per_s, usage), Wait(2.0, 4.0), {1000: 50.0})


def test_figures_are_a_check_and_name_who_else_used_the_machine() -> None:
    """One core of workers at a hundred checks a second is ten milliseconds a check."""
    found = figures(100.0)
    assert found["worker_us_a_check"] == pytest.approx(10_000)
    assert found["commands_a_check"] == pytest.approx(2.0)
    assert (found["other_cores"], found["noisy"]) == (pytest.approx(0.25), True)


def test_table_divides_ours_by_theirs_and_says_what_is_met() -> None:
    """More is better of checks a second, less of times."""
    summaries = {
        name: table.summary(name, [figures(rate - 1), figures(rate), figures(rate + 1000)])
        for name, rate in (("sagabus", 5000.0), ("watch", 1000.0), ("batch", 10_000.0))
    }
    met = {(ratio["peer"], ratio["figure"]): (ratio["ratio"], ratio["met"]) for ratio in table.ratios(summaries)}
    assert met == {
        ("watch", "checks_per_s"): (5.0, True),
        ("batch", "checks_per_s"): (0.5, False),
        ("batch", "p50_ms"): (1.0, True),
        ("batch", "us_a_reply_at_1000"): (1.0, True),
    }
    place = {"cores": 2, "processor": "x", "server": "Valkey 9", "python": "3.11"}
    text = table.rendered(summaries, dict.fromkeys(summaries, "something"), place, "2026-01-01")
    assert "| batch | checks_per_s | 0.50 | at least 0.6 | missed |" in text
