"""`inspect`, `siblings`, `merge`, `cancel`, `audit` and `record --pytest` as people and scripts use them."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from typing import Any

import pytest

from sagabus import Bus, Saga, envelope
from sagabus.advance import advance
from sagabus.commit import Commit, Want
from sagabus.envelope import Incoming, SagaKey
from sagabus.store.protocol import Store
from tests.integration import creditapp
from tests.integration.processes import APP, ROOT, Place

KEY = SagaKey("CreditCheck", "42")
SAGA = str(KEY)


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def run(store: Store, body: Any, id_: str) -> Commit:
    """Return what a worker that loads the saga now would commit."""
    definition = creditapp.bus.saga("CreditCheck")
    assert definition is not None
    message = Incoming(envelope.wrap(body, id=id_, source="/client", now_ms=0, saga=SAGA), body)
    (snapshot,) = store.load([Want(KEY, (id_,))])
    return advance(definition, snapshot, [message])


def forked(bus: Bus, *scores: int) -> None:
    """Leave the saga with two siblings: both scores were handled on the version that the start made."""
    store = bus.store
    store.commit([run(store, creditapp.CheckCredit("42"), "start")], by="worker-a")
    runs = [
        run(store, creditapp.ScoreReported("42", bureau, score), bureau)
        for bureau, score in zip(("equifax", "experian"), scores, strict=True)
    ]
    for commit, by in zip(runs, ("worker-a", "worker-b"), strict=True):
        store.commit([commit], by=by)


@pytest.fixture
def siblings(place: Place) -> Place:
    """Return a place with a saga that has two siblings, and its queues declared."""
    place.sagabus("list", APP, "--queues")
    with place.bus() as bus:
        forked(bus, 700, 500)
    return place


@pytest.fixture
def unmergeable(place: Place) -> Place:
    """Return a place with a saga whose siblings the merger refuses."""
    place.sagabus("list", APP, "--queues")
    with place.bus() as bus:
        forked(bus, 666, 500)
    return place


def versions(place: Place) -> list[str]:
    (found,) = rows(place.sagabus("inspect", APP, SAGA, "--json").stdout)
    return [version["version"] for version in found["versions"]]


# -- inspect -----------------------------------------------------------------------------------------------------


def test_inspect_says_what_a_saga_waits_for(siblings: Place) -> None:
    """A merge under way, and a message that nobody has dispatched; programs get ages."""
    (found,) = rows(siblings.sagabus("inspect", APP, SAGA, "--json").stdout)
    assert {(wait["for"], wait["overdue"]) for wait in found["waits_for"]} >= {("merge", False), ("dispatch", False)}
    assert all(wait["age_s"] >= 0 for wait in found["waits_for"])
    text = siblings.sagabus("inspect", APP, SAGA).stdout
    assert "waits for" in text
    assert "merge sagabus.MergeSagaState" in text


def test_inspect_graph_draws_the_graph_alone(siblings: Place) -> None:
    """Three commits are three lines and a fork; programs get the history."""
    lines = siblings.sagabus("inspect", APP, SAGA, "--graph").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["●", "├─╮", "●", "│"]
    (found,) = rows(siblings.sagabus("inspect", APP, SAGA, "--graph", "--json").stdout)
    assert [entry["outcome"] for entry in found["history"]] == ["stored", "stored", "forked"]


def test_inspect_at_a_version_shows_its_state_and_what_it_changed(siblings: Place) -> None:
    """By the number alone where one has it; a past state is made again, and proved."""
    (found,) = rows(siblings.sagabus("inspect", APP, SAGA, "--at", "2", "--json").stdout)
    assert (found["state"]["scores"], found["proof"]) == ({"equifax": 700}, "stored")
    (changed,) = found["changed"].values()
    assert changed == [{"path": "scores.equifax", "after": 700}]
    (first,) = rows(siblings.sagabus("inspect", APP, SAGA, "--at", "1", "--json").stdout)
    assert (first["state"]["scores"], first["proof"]) == ({}, "re-made")
    assert "scores.equifax: missing -> 700" in siblings.sagabus("inspect", APP, SAGA, "--at", "2").stdout
    missing = siblings.sagabus("inspect", APP, SAGA, "--at", "9", check=False)
    assert (missing.returncode, missing.stdout) == (3, "")
    assert "no one version called '9'" in missing.stderr


def test_inspect_diff_shows_where_two_versions_differ(siblings: Place) -> None:
    """Siblings too; to say two things at once is a mistake."""
    text = siblings.sagabus("inspect", APP, SAGA, "--diff", "2", "3").stdout
    assert "scores.equifax: 700 -> missing" in text
    assert "scores.experian: missing -> 500" in text
    (found,) = rows(siblings.sagabus("inspect", APP, SAGA, "--diff", "2", "3", "--json").stdout)
    assert found["changes"] == [{"path": "scores.equifax", "before": 700}, {"path": "scores.experian", "after": 500}]
    assert siblings.sagabus("inspect", APP, SAGA, "--graph", "--at", "1", check=False).returncode == 2


# -- siblings and merge ------------------------------------------------------------------------------------------


def test_siblings_lists_who_has_some_and_shows_those_of_one(siblings: Place) -> None:
    """Side by side with what they come from, and what this app's merger makes of them."""
    (listed,) = rows(siblings.sagabus("siblings", APP, "--json").stdout)
    assert (listed["saga"], listed["siblings"], listed["versions"]) == (SAGA, 2, 3)
    assert listed["since"].startswith("20")
    assert SAGA in siblings.sagabus("siblings", APP, "CreditCheck").stdout
    (view,) = rows(siblings.sagabus("siblings", APP, SAGA, "--json").stdout)
    assert view["result"]["scores"] == {"equifax": 700, "experian": 500}
    assert [side["ignored"] for side in view["sides"]] == [[], []]
    assert "the merger ignores nothing" in siblings.sagabus("siblings", APP, SAGA).stdout
    assert siblings.sagabus("siblings", APP, "CreditCheck/none", check=False).returncode == 3


def test_siblings_check_tries_the_merger_on_all(siblings: Place) -> None:
    """A mended merger is tried on what is stored before it is deployed; one that refuses a saga is exit code 1."""
    (row,) = rows(siblings.sagabus("siblings", APP, "--check", "--json").stdout)
    assert (row["merges"], row["problem"]) == (True, None)
    broken = "from tests.integration.test_cli_operations import changed\nbus = changed(lambda siblings: siblings[0])\n"
    (siblings.folder / "broken.py").write_text(broken)
    env = {"PYTHONPATH": str(ROOT)}
    done = siblings.sagabus("siblings", "broken:bus", "--check", "--json", check=False, cwd=siblings.folder, env=env)
    (row,) = rows(done.stdout)
    assert (done.returncode, row["merges"]) == (1, False)
    assert row["problem"].startswith("a broken merger: 2 different results")
    assert f"this app does not merge {SAGA}" in done.stderr
    assert siblings.sagabus("siblings", APP, SAGA, "--check", check=False).returncode == 2


def changed(merger: Any) -> Bus:
    """Return the app's bus with another merger."""
    bus = Bus(namespace=os.environ["CREDITAPP_NAMESPACE"])
    options: dict[str, Any] = {"key": "customer", "merger": merger, "name": "CreditCheck"}
    bus.endpoint("credit", type(Saga)("Changed", (creditapp.CreditCheck,), {}, **options))
    return bus


def test_siblings_where_there_are_none_says_so(place: Place) -> None:
    """An empty list is no failure."""
    done = place.sagabus("siblings", APP)
    assert (done.stdout, done.stderr) == ("", "no siblings\n")


def test_merge_dry_run_shows_result_and_what_follows(siblings: Place) -> None:
    """Nothing is written."""
    before = versions(siblings)
    text = siblings.sagabus("merge", APP, SAGA, "--dry-run").stdout
    assert "one result in all their orders" in text
    assert 'decision: event creditapp.decided {"approved":false,"customer":"42"}' in text
    assert "the saga would complete" in text
    (found,) = rows(siblings.sagabus("merge", APP, SAGA, "--dry-run", "--json").stdout)
    assert (found["broken"], found["tried"], found["next"]["completes"]) == (None, 3, True)
    assert versions(siblings) == before


def test_merge_has_a_worker_merge_now(siblings: Place) -> None:
    """Its message is sent again; the trail has who wanted that."""
    (sent,) = rows(siblings.sagabus("merge", APP, SAGA, "--json").stdout)
    assert (sent["kind"], sent["to"], len(sent["siblings"])) == ("merge", "credit", 2)
    assert siblings.depth("credit") == 1
    (line,) = rows(siblings.sagabus("audit", APP, "--what", "merge", "--json").stdout)
    assert (line["saga"], line["id"]) == (SAGA, sent["id"])
    creditapp_bus = Bus(siblings.url, siblings.url, namespace=siblings.namespace)
    with creditapp_bus as bus:
        bus.endpoint("credit", creditapp.CreditCheck)
        bus.worker().run_until_idle()
    done = siblings.sagabus("merge", APP, SAGA, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "it has completed" in done.stderr


def test_merge_that_the_merger_refuses_exits_1(unmergeable: Place) -> None:
    """With what it raises, dry or not."""
    for options in ((), ("--dry-run",)):
        done = unmergeable.sagabus("merge", APP, SAGA, *options, check=False)
        assert done.returncode == 1
        assert "UnmergeableStateError: 666 goes with nothing" in done.stderr
    assert unmergeable.depth("credit") == 0


# -- cancel and audit --------------------------------------------------------------------------------------------


def test_cancel_ends_a_saga_and_the_trail_says_who_and_why(siblings: Place) -> None:
    """Siblings are merged first; a second time there is nothing to end."""
    (done,) = rows(siblings.sagabus("cancel", APP, SAGA, "--why", "it hangs", "--yes", "--json").stdout)
    assert (done["kind"], len(done["merged"]), done["timers"]) == ("cancelled", 2, ["overdue"])
    assert done["state"]["scores"] == {"equifax": 700, "experian": 500}
    assert ", cancelled" in siblings.sagabus("inspect", APP, SAGA, "--graph").stdout.splitlines()[-1]
    (found,) = rows(siblings.sagabus("inspect", APP, SAGA, "--json").stdout)
    assert (found["lifecycle"], found["cancelled"]["why"]) == ("completed", "it hangs")
    assert ": it hangs" in siblings.sagabus("inspect", APP, SAGA).stdout.splitlines()[2]
    (line,) = rows(siblings.sagabus("audit", APP, "--json").stdout)
    assert (line["what"], line["saga"], line["details"]["why"]) == ("cancel", SAGA, "it hangs")
    assert f"cancel  {SAGA}  " in siblings.sagabus("audit", APP, "--saga", "CreditCheck", "--since", "1h").stdout
    again = siblings.sagabus("cancel", APP, SAGA, "--why", "x", "--yes", check=False)
    assert (again.returncode, "has completed already" in again.stderr) == (1, True)


def test_cancel_where_nobody_can_be_asked_needs_yes(siblings: Place) -> None:
    """A script that ends sagas says so; and everyone says why."""
    assert "--yes" in siblings.sagabus("cancel", APP, SAGA, "--why", "x", check=False).stderr
    for options in (("--why", "x"), ("--yes",), ("--why", " ", "--yes")):
        assert siblings.sagabus("cancel", APP, SAGA, *options, check=False).returncode == 2
    assert len(versions(siblings)) == 2
    assert siblings.sagabus("cancel", APP, "CreditCheck/none", "--why", "x", "--yes", check=False).returncode == 3


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("y", 0)])
def test_cancel_asks_whoever_sits_at_a_terminal(siblings: Place, answer: str, code: int) -> None:
    """With what will end; a no leaves the saga as it was."""
    ours, theirs = pty.openpty()
    with open(ours, "r+b", buffering=0) as terminal:
        process = subprocess.Popen(
            siblings.command("cancel", APP, SAGA, "--why", "x"),
            env={**os.environ, **siblings.env, "COLUMNS": "120"},
            cwd=ROOT,
            stdin=theirs,
            stdout=subprocess.DEVNULL,
            stderr=theirs,
        )
        os.close(theirs)
        asked = b""
        while not asked.endswith(b"[y/N]: "):
            asked += terminal.read(1)
        terminal.write(f"{answer}\n".encode())
        assert process.wait(timeout=60) == code
    assert asked.decode().startswith(f"End {SAGA} (2 siblings, merged first, 1 timer) for good?")
    (found,) = rows(siblings.sagabus("inspect", APP, SAGA, "--json").stdout)
    assert found["lifecycle"] == ("live" if code else "completed")


def test_cancel_of_siblings_that_cannot_be_merged_names_them(unmergeable: Place) -> None:
    """The one to keep is named; the others are gone."""
    refused = unmergeable.sagabus("cancel", APP, SAGA, "--why", "x", "--yes", check=False)
    assert refused.returncode == 1
    names = versions(unmergeable)
    assert all(name in refused.stderr for name in names)
    done = unmergeable.sagabus("cancel", APP, SAGA, "--why", "x", "--yes", "--keep", names[0])
    assert done.stdout == f"cancelled {SAGA}, having kept {names[0]} alone; ended its timers overdue\n"


def test_audit_of_nothing_says_so(place: Place) -> None:
    """An empty trail is no failure."""
    done = place.sagabus("audit", APP)
    assert (done.stdout, done.stderr) == ("", "nothing was done\n")


# -- copy as a test ----------------------------------------------------------------------------------------------


def test_record_as_pytest_writes_a_test_that_pytest_runs(siblings: Place) -> None:
    """Cancelled sagas included: what a person did is played as it was."""
    siblings.sagabus("cancel", APP, SAGA, "--why", "x", "--yes")
    source = siblings.sagabus("record", APP, "CreditCheck", "--pytest").stdout
    path = siblings.folder / "test_recorded.py"
    path.write_text(source)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)],
        env={**os.environ, **siblings.env, "PYTHONPATH": str(ROOT)},
        cwd=siblings.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
