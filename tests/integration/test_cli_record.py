"""`sagabus record` and `sagabus replay` of what it exports: a saga that real workers raced over, and changed code."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from sagabus import Bus
from sagabus.commit import Outcome
from sagabus.envelope import SagaKey
from sagabus.store.redis import RedisStore
from tests.integration import creditapp
from tests.integration.apps import settle
from tests.integration.processes import APP, ROOT, Place

CHANGED = """
from sagabus import Bus, handles
from tests.integration import creditapp
from tests.integration.creditapp import CreditDecided, ScoreReported, everything


class CreditCheck(creditapp.CreditCheck, key="customer", merger={merger}, name="CreditCheck"):
{body}

bus = Bus()
bus.endpoint("credit", CreditCheck)
"""


class Meeting:
    """A store whose next two commits wait for each other, so that both runs have loaded before either commits."""

    def __init__(self, inner: RedisStore) -> None:
        self._inner = inner
        self.barrier: threading.Barrier | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def commit(self, commits: Any, *, by: str) -> Any:
        barrier = self.barrier
        if barrier is not None:
            barrier.wait(30)
            self.barrier = None
        return self._inner.commit(commits, by=by)


def raced(place: Place, customer: str = "42") -> None:
    """Have two workers handle two scores at once, merge them and decide; a third score comes late."""
    store = Meeting(RedisStore(place.url, namespace=place.namespace))
    with Bus(store=store, transport=place.url, namespace=place.namespace) as bus:
        bus.endpoint("credit", creditapp.CreditCheck, batch=1)
        bus.send(creditapp.CheckCredit(customer), to="credit")
        settle(bus)
        for bureau, value in (("equifax", 710), ("experian", 690)):
            bus.send(creditapp.ScoreReported(customer, bureau, value), to="credit")
        store.barrier = threading.Barrier(2)
        threads = [threading.Thread(target=bus.worker(name=f"worker-{n}").run_until_idle) for n in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        settle(bus)
        bus.send(creditapp.ScoreReported(customer, "transunion", 800), to="credit")
        settle(bus)
        history = store.history(SagaKey("CreditCheck", customer))
    assert [entry.outcome for entry in history] == [
        Outcome.STORED,
        Outcome.STORED,
        Outcome.FORKED,
        *((Outcome.STORED, Outcome.LATE)),
    ]
    assert [len(entry.parents) for entry in history] == [0, 1, 1, 2, 0]
    assert {entry.by for entry in history[1:3]} == {"worker-a", "worker-b"}


@pytest.fixture
def trace(place: Place) -> Path:
    """Return the record of a saga that two workers raced over."""
    raced(place)
    path = place.folder / "trace.jsonl"
    path.write_text(place.sagabus("record", APP, "CreditCheck/42").stdout)
    return path


def replayed(place: Place, trace: Path, *options: str, **change: str) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of a replay, by changed code where there is a change."""
    if change:
        body = change.get("body", "    pass").strip("\n")
        text = CHANGED.format(merger=change.get("merger", "everything"), body=body)
        (place.folder / "changed.py").write_text(text)
        options = ("--app", "changed:bus", *options)
    # Nothing is connected: there is no server where the replay looks for one.
    env = {
        "PYTHONPATH": str(ROOT),
        "SAGABUS_STORE": "redis://127.0.0.1:1/0",
        "SAGABUS_TRANSPORT": "redis://127.0.0.1:1/0",
    }
    done = place.sagabus("replay", str(trace), *options, cwd=place.folder, env=env, check=False)
    return done.returncode, done.stdout, done.stderr


def test_replay_of_a_race_that_workers_had_says_same(place: Place, trace: Path) -> None:
    """Start, fork, merge with decision, late message: today's code makes the same of all of it."""
    assert replayed(place, trace)[:2] == (0, "CreditCheck/42  same: 5 commits\n1 saga: 1 same\n")
    assert replayed(place, trace, body="    pass")[0] == 0


def test_replay_by_another_threshold_names_the_decision(place: Place, trace: Path) -> None:
    """The first commit that differs comes with its line of the version graph, its message, and what comes now."""
    body = """
    def decide(self) -> None:
        if len(self.state.scores) > 1:
            self.publish(CreditDecided(self.id, min(self.state.scores.values()) > 700))
            self.complete()
"""
    code, text, error = replayed(place, trace, body=body)
    assert code == 1
    head, graph, received, difference, count = text.splitlines()
    assert head == "CreditCheck/42  differs at commit 4 of 5"
    assert graph.startswith("  4. ■")
    assert "merged " in graph
    assert received.strip().startswith("MergeSagaState ")
    assert difference.strip() == (
        "decision: changed: the recorded digest is of another body; "
        'now event creditapp.decided {"approved": false, "customer": "42"}'
    )
    assert count == "1 saga: 1 different"
    assert error.endswith(
        "sagabus: CreditCheck/42 came out otherwise than recorded. Mend the code, or record anew what happens with it\n"
    )


def test_replay_by_another_merger_names_the_merge(place: Place, trace: Path) -> None:
    """A merger that keeps one side loses a score, and with it the decision."""
    code, text, _ = replayed(place, trace, merger="lambda siblings: siblings[0]")
    assert code == 1
    assert text.startswith("CreditCheck/42  differs at commit 4 of 5\n")
    assert "     decision: recorded event creditapp.decided, completion, now none\n" in text
    assert "  commit 5 differs too, which may follow from what differs before\n" in text
    assert re.search(
        r"^  at the end  state\.scores\.(equifax|experian): recorded \d+, now missing$", text, re.MULTILINE
    )
    assert "  at the end  state.scores.transunion: not recorded, now 800\n" in text


def test_replay_by_another_handler_names_the_first_score(place: Place, trace: Path) -> None:
    """The state differs from the second commit on; at the end it is compared member by member."""
    body = """
    @handles
    def scored(self, m: ScoreReported) -> None:
        self.state.scores[m.bureau] = m.score - 10
"""
    code, text, _ = replayed(place, trace, body=body)
    assert code == 1
    lines = text.splitlines()
    assert lines[0] == "CreditCheck/42  differs at commit 2 of 5"
    assert re.search(r'"bureau": "(equifax|experian)", "customer": "42"', lines[2])
    assert lines[3].startswith("     state: the recorded digest is of another one; now {")
    assert lines[4:] == [
        "  commits 3, 4 differ too, which may follow from what differs before",
        "  at the end  state.scores.equifax: recorded 710, now 700",
        "  at the end  state.scores.experian: recorded 690, now 680",
        "1 saga: 1 different",
    ]


def test_replay_for_programs_has_every_difference(place: Place, trace: Path) -> None:
    """One object a saga, with each difference, its commit, and whether it may follow from another."""
    body = """
    @handles
    def scored(self, m: ScoreReported) -> None:
        self.state.scores[m.bureau] = m.score - 10
"""
    code, text, _ = replayed(place, trace, "--json", body=body)
    assert code == 1
    (found,) = map(json.loads, text.splitlines())
    assert (found["saga"], found["verdict"], found["commits"], found["replayed"]) == ("CreditCheck/42", "differs", 5, 5)
    rows = [(row["commit"], row["about"], row["follows"]) for row in found["differences"] if row["commit"]]
    assert rows[:2] == [(2, "state", False), (3, "state", True)]
    assert found["differences"][-1] == {
        "commit": None,
        "version": None,
        "messages": [],
        "about": "end",
        "text": "state.scores.experian: recorded 690, now 680",
        "follows": True,
    }
    assert replayed(place, trace, "--json")[0] == 0


def test_record_of_a_class_has_its_sagas_up_to_the_limit(place: Place, trace: Path) -> None:
    """Many sagas go into one file; what is left out is said."""
    raced(place, "43")
    with place.bus() as bus:
        bus.endpoint("credit", creditapp.CreditCheck)
        bus.send(creditapp.CheckCredit("44"), to="credit")
        settle(bus)
    done = place.sagabus("record", APP, "CreditCheck")
    trace.write_text(done.stdout)
    assert done.stderr == ""
    code, text, _ = replayed(place, trace)
    assert (code, text.splitlines()) == (
        0,
        [
            "CreditCheck/42  same: 5 commits",
            "CreditCheck/43  same: 5 commits",
            "CreditCheck/44  same: 1 commit",
            "3 sagas: 3 same",
        ],
    )
    completed = place.sagabus("record", APP, "CreditCheck", "--completed").stdout
    assert completed.count('"sagabus-record"') == 2
    done = place.sagabus("record", APP, "CreditCheck", "--limit", "1")
    assert done.stdout.count('"sagabus-record"') == 1
    assert done.stderr == "only 1 sagas of CreditCheck are recorded; there are more (--limit)\n"
    done = place.sagabus("record", APP, "CreditCheck/43", "CreditCheck/42")
    assert [json.loads(line)["saga"] for line in done.stdout.splitlines() if "sagabus-record" in line] == [
        "CreditCheck/43",
        "CreditCheck/42",
    ]


@pytest.mark.parametrize(("saga", "words"), [("CreditCheck/7", "no saga CreditCheck/7;"), ("Other", "of class Other;")])
def test_record_of_what_is_not_there_exits_3(place: Place, saga: str, words: str) -> None:
    """Neither a saga nor a class of which there is none makes a file."""
    done = place.sagabus("record", APP, saga, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert words in done.stderr


def test_record_without_a_server_exits_4(place: Place) -> None:
    """A store that does not answer is exit code 4."""
    url = "redis://127.0.0.1:1/0"
    done = place.sagabus("record", APP, "CreditCheck", check=False, env={"SAGABUS_STORE": url})
    assert (done.returncode, done.stdout) == (4, "")


def test_replay_of_what_cannot_be_replayed_fails_and_says_why(place: Place, trace: Path) -> None:
    """A trimmed history is no success; beside others it is counted."""
    whole = trace.read_text().splitlines()
    head = json.loads(whole[0])
    trimmed = [json.dumps(head | {"commits": 4, "saga": "CreditCheck/9"}), *whole[2:]]
    trace.write_text("\n".join(trimmed))
    code, text, error = replayed(place, trace)
    assert code == 1
    assert text.splitlines()[0].startswith("CreditCheck/9  not replayed: its history does not reach back to its start")
    assert error == "sagabus: none of the 1 recorded sagas could be replayed to its end; record others\n"
    trace.write_text("\n".join([*whole, *trimmed]))
    code, text, _ = replayed(place, trace)
    assert (code, text.splitlines()[-1]) == (0, "2 sagas: 1 same, 1 not replayed")


def test_replay_that_is_asked_wrongly_exits_2(place: Place, trace: Path) -> None:
    """A spoiled file, an app without the saga, and an option that is for races are said in a line."""
    code, _, error = replayed(place, trace, "--step")
    assert code == 2
    assert "--step is for races" in error
    code, _, error = replayed(place, trace, "--app", "tests.integration.test_cli_record:EMPTY")
    assert code == 2
    assert "no saga 'CreditCheck' on tests.integration.test_cli_record:EMPTY, which line 1 of the record needs" in error
    trace.write_text("\n".join(trace.read_text().splitlines()[:-1]))
    code, _, error = replayed(place, trace)
    assert (code, len(error.splitlines())) == (2, 1)
    assert "line 6 of the record: the file ends here, before the 1 versions of CreditCheck/42" in error


def test_replay_of_a_race_takes_another_app(place: Place) -> None:
    """`--app` says whose code runs a race that was written by hand, too."""
    race = place.folder / "race.jsonl"
    steps = [
        {"sagabus-replay": 1, "app": "no.such:app", "saga": "CreditCheck/42"},
        {"worker": "A", "do": "load", "messages": [{"id": "1", "type": "creditapp.check", "data": {"customer": "42"}}]},
        {"worker": "A", "do": "commit", "expect": "stored"},
    ]
    race.write_text("# a race\n\n" + "\n".join(map(json.dumps, steps)))
    assert replayed(place, race)[0] == 2
    assert replayed(place, race, "--app", APP)[0] == 0


EMPTY = Bus(store="memory:", transport="memory:")
