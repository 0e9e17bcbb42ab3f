"""The command line as people and scripts use it: in processes of its own, against a private server."""

from __future__ import annotations

import errno
import json
import os
import pty
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sagabus import Bus, envelope
from sagabus.advance import advance
from sagabus.commit import Commit, Want
from sagabus.envelope import Incoming, SagaKey
from sagabus.store.protocol import Bookkeeping, DeadLetter, Store
from tests.integration import creditapp
from tests.integration.processes import APP, ROOT, Place
from tests.servers import until

KEY = SagaKey("CreditCheck", "42")
DEFINITION = creditapp.bus.saga("CreditCheck")


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def run(store: Store, *messages: Any) -> Commit:
    """Return what a worker that loads the saga now would commit."""
    assert DEFINITION is not None
    incoming = [Incoming(envelope.wrap(m, id=f"{m!r}", source="/client", now_ms=0, saga=str(KEY)), m) for m in messages]
    (snapshot,) = store.load([Want(KEY, tuple(m.id for m in incoming))])
    return advance(DEFINITION, snapshot, incoming)


def score(bureau: str, value: int) -> creditapp.ScoreReported:
    return creditapp.ScoreReported("42", bureau, value)


def forked(bus: Bus) -> None:
    """Leave the saga with two siblings: both scores were handled on the version that the start made."""
    store = bus.store
    store.commit([run(store, creditapp.CheckCredit("42"))], by="worker-a")
    first, second = run(store, score("equifax", 700)), run(store, score("experian", 500))
    store.commit([first], by="worker-a")
    store.commit([second], by="worker-b")


# -- all commands ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [("list", APP), ("inspect", APP, "CreditCheck/42")])
def test_command_without_a_server_exits_4_in_one_line(place: Place, args: tuple[str, ...]) -> None:
    """A server that does not answer is exit code 4; its URL is shown without credentials."""
    url = "redis://someone:secret@127.0.0.1:1/0"
    done = place.sagabus(*args, check=False, env={"SAGABUS_STORE": url, "SAGABUS_TRANSPORT": url})
    assert (done.returncode, done.stdout) == (4, "")
    assert len(done.stderr.splitlines()) == 1
    assert "redis://127.0.0.1:1/0" in done.stderr
    assert "secret" not in done.stderr


def test_app_in_the_current_folder_is_found_however_sagabus_was_started(place: Place) -> None:
    """The current folder is importable also where Python itself would not look there."""
    (place.folder / "mine.py").write_text("from sagabus import Bus\nbus = Bus()\nother = Bus()\n")
    env = {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(ROOT)}
    assert place.sagabus("list", "mine", cwd=place.folder, env=env, anew=True).stderr == "no sagas\n"
    done = place.sagabus("list", "mine:nothing", cwd=place.folder, env=env, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        "sagabus: module 'mine' has no attribute 'nothing'; it has mine:bus, mine:other\n",
    )
    done = place.sagabus("list", "mine:Bus", cwd=place.folder, env=env, check=False)
    assert "mine:Bus is of type type, not a Bus; it has mine:bus, mine:other" in done.stderr


def test_module_that_an_app_lacks_is_not_taken_for_the_app(place: Place) -> None:
    """An import that fails inside the app is the app's error, with its traceback."""
    (place.folder / "lacking.py").write_text("import no_such_module\n")
    done = place.sagabus("list", "lacking", cwd=place.folder, env={"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 2
    assert "ModuleNotFoundError: No module named 'no_such_module'" in done.stderr


FAULTY = {
    "a message that is none": (
        "from sagabus import Bus\nclass Plain:\n    pass\nbus = Bus()\nbus.route(Plain, to='e')\n",
        "faulty.Plain",
    ),
    "a merger without a rule": (
        "from attrs import define\nfrom mergers import fieldwise\n"
        "@define\nclass State:\n    items: object = None\nmerger = fieldwise(State)\n",
        "faulty.State.items: no merger can be made for it. ",
    ),
}


@pytest.mark.parametrize("case", FAULTY)
def test_app_that_is_defined_wrongly_exits_2_in_one_line(place: Place, case: str) -> None:
    """What is declared in a way that cannot work is said with its mend; several processes are not restarted for it."""
    text, words = FAULTY[case]
    (place.folder / "faulty.py").write_text(text)
    env = {"PYTHONPATH": str(ROOT)}
    for command in (("list", "faulty"), ("worker", "faulty", "--processes", "2", "--log-level", "error")):
        done = place.sagabus(*command, cwd=place.folder, env=env, check=False)
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr


SIGNALLED = {
    "while it ends after an error": (
        "import atexit, os, signal\nfrom sagabus import Bus\nclass Plain:\n    pass\n"
        "atexit.register(os.kill, os.getpid(), signal.SIGTERM)\nbus = Bus()\nbus.route(Plain, to='e')\n",
        2,
    ),
    "in an import that swallows it": (
        "import os, signal\nfrom tests.integration.creditapp import bus\n"
        "try:\n    os.kill(os.getpid(), signal.SIGTERM)\n"
        "except BaseException:\n    pass\n",
        0,
    ),
}


@pytest.mark.parametrize("case", SIGNALLED)
def test_worker_signalled_before_or_after_its_work_ends_in_good_order(place: Place, case: str) -> None:
    """A signal is not lost before the work begins, and has no say once it has ended."""
    text, code = SIGNALLED[case]
    (place.folder / "signalled.py").write_text(text)
    env = {"PYTHONPATH": str(ROOT)}
    done = place.sagabus("worker", "signalled", cwd=place.folder, env=env, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr


UNIMPORTABLE = {
    "a mistake in its syntax": ("def x(:\n", 2, ["SyntaxError: invalid syntax"]),
    "a package that is missing": ("import nothing_of_the_kind\n", 2, ["No module named 'nothing_of_the_kind'"]),
    "a type error": ("len(1)\n", 1, ["TypeError: object of type 'int' has no len()"]),
    "an error of its own": (
        "raise OSError('redis://u:hush@h is \\x1b[2J away')\n",
        1,
        ["OSError: redis://", "\\x1b[2J"],
    ),
}


@pytest.mark.parametrize("case", UNIMPORTABLE)
def test_app_that_cannot_be_imported_is_shown_where_it_went_wrong(place: Place, case: str) -> None:
    """The user's lines and the error, none of ours; several workers are not restarted for what only a change mends."""
    text, code, words = UNIMPORTABLE[case]
    (place.folder / "faulty.py").write_text(text)
    commands = [("list", "faulty"), ("worker", "faulty"), ("docs", "asyncapi", "faulty")]
    for command in commands + ([("worker", "faulty", "--processes", "2")] if code == 2 else []):
        done = place.sagabus(*command, cwd=place.folder, env={"PYTHONPATH": str(ROOT)}, check=False)
        assert done.returncode == code, done.stderr
        assert "sagabus: faulty cannot be imported\n" in done.stderr
        assert 'faulty.py", line 1' in done.stderr
        assert all(word in done.stderr.splitlines()[-1] for word in words) or "--processes" in command, done.stderr
        assert all(word not in done.stderr for word in ("hush", "\x1b", "/sagabus/", "importlib", "click"))


# -- send --------------------------------------------------------------------------------------------------------


def test_send_prints_the_id_of_what_it_sent(place: Place) -> None:
    """The id on stdout is that of the message in the queue."""
    done = place.sagabus("send", APP, "quick.job", '{"number": 1}')
    assert re.fullmatch(r"[0-9a-f]{32}\n", done.stdout)
    assert done.stderr == ""
    assert place.depth("quick") == 1


def test_send_later_keeps_the_message_in_the_store(place: Place) -> None:
    """With --after the message waits in the store, under the id given, to where it was told to go."""
    done = place.sagabus(
        "send", APP, "quick.job", '{"number": 1}', "--after", "3600", "--id", "mine", "--to", "held", "--json"
    )
    assert rows(done.stdout) == [{"kind": "sent", "id": "mine", "type": "quick.job", "to": "held"}]
    with place.bus() as bus:
        (waiting,) = bus.store.scheduled()
    sent = envelope.decode(waiting.body)
    assert (sent.id, sent.type, sent.source, waiting.endpoint) == ("mine", "quick.job", "/client", "held")
    (row,) = rows(place.sagabus("list", APP, "--timers", "--json").stdout)
    assert (row["kind"], row["id"], row["endpoint"], row["type"]) == ("timers", "mine", "held", "quick.job")


def test_send_publishes_to_those_who_subscribed(place: Place) -> None:
    """With --publish every endpoint that handles the type gets it."""
    place.sagabus("send", APP, "held.job", '{"number": 1}', "--publish")
    assert (place.depth("held"), place.depth("quick")) == (1, 0)


def test_send_of_lines_ends_at_a_bad_one(place: Place) -> None:
    """Lines before a bad one are sent, and their ids printed; those behind it are not."""
    lines = '{"number": 1}\n\n{"number": 2}\n{"number": "three"}\n{"number": 4}\n'
    done = place.sagabus("send", APP, "quick.job", "-", check=False, input=lines)
    assert done.returncode == 2
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr == "sagabus: line 4: quick.job: Expected `int`, got `str` - at `$.number`\n"
    assert place.depth("quick") == 2


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("quick.job", '{"number": "one"}'), 2, "Expected `int`, got `str` - at `$.number`"),
        (("quick.job", "{"), 2, "quick.job: "),
        (("held.job", '{"number": 1}'), 2, "no route for held.job; say --to held"),
        (("creditapp.decided", '{"customer": "1", "approved": true}'), 2, "--publish if it is an event"),
        (("no.such", "{}"), 3, "no message class is called 'no.such'"),
        (("quick.job", '{"number": 1}', "--to", "nowhere"), 3, "no endpoint 'nowhere'"),
        (("quick.job", '{"number": 1}', "--to", "nowhere", "--after", "1"), 3, "no endpoint 'nowhere'"),
        (("quick.job", '{"number": 1}', "--publish", "--to", "quick"), 2, "leave out --to"),
        (("quick.job", "-", "--id", "x"), 2, "--id is for one message"),
    ],
)
def test_send_of_what_cannot_be_sent_says_why(place: Place, args: tuple[str, ...], code: int, words: str) -> None:
    """Nothing is sent, the last line on stderr says why, and the exit code whether it was usage or not found."""
    done = place.sagabus("send", APP, *args, check=False, input="")
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr.splitlines()[-1]
    assert place.depth("quick") == 0


# -- list --------------------------------------------------------------------------------------------------------


def test_list_shows_sagas_with_their_siblings(place: Place) -> None:
    """A saga is a row: as a table for people, as JSON for programs."""
    with place.bus() as bus:
        forked(bus)
    (row,) = rows(place.sagabus("list", APP, "--json").stdout)
    assert row.pop("started").startswith("20")
    assert row.pop("age_s") >= row.pop("siblings_s") >= 0
    assert row == {
        "kind": "sagas",
        "saga": "CreditCheck/42",
        "lifecycle": "live",
        "siblings": 2,
        "life": 1,
        "versions": 3,
        "completed_s": None,
    }
    table = place.sagabus("list", APP, "--saga", "CreditCheck").stdout
    assert re.search(r"^CreditCheck/42 +live +2 +1 +3 +[\d.]+s +[\d.]+s *$", table, re.MULTILINE)
    assert "\x1b" not in table
    done = place.sagabus("list", APP, "--saga", "Other")
    assert (done.stdout, done.stderr) == ("", "no sagas\n")


def test_list_shows_queues_with_what_waits_and_routes_with_who_handles(place: Place) -> None:
    """Endpoints have a depth and subscriptions; message types a route and those who handle them."""
    place.send_quick_jobs(3, stop_at=3, whom="worker")
    listed = rows(place.sagabus("list", APP, "--queues", "--routes", "--json").stdout)
    queues = {row["endpoint"]: row for row in listed if row["kind"] == "queues"}
    assert (queues["quick"]["depth"], queues["quick"]["subscriptions"]) == (3, ["quick.job"])
    assert queues["credit"]["subscriptions"] == ["creditapp.check", "creditapp.overdue", "creditapp.score-reported"]
    routes = {row["type"]: row for row in listed if row["kind"] == "routes"}
    assert routes["quick.job"] == {
        "kind": "routes",
        "type": "quick.job",
        "version": 1,
        "route": "quick",
        "handled_by": ["quick"],
    }
    assert routes["creditapp.decided"]["handled_by"] == []
    text = place.sagabus("list", APP, "--queues").stdout
    assert re.search(
        r"^credit +0 +1 +creditapp.check, creditapp.overdue, creditapp.score-reported *$", text, re.MULTILINE
    )


def test_list_shows_dead_letters_with_their_error(place: Place) -> None:
    """A message that was given up is listed with why, where, and as it came off the wire."""
    place.sagabus("send", APP, "bad.job", "{}", "--to", "bad", "--id", "hopeless")
    with place.running("worker", APP, "--endpoints", "bad") as worker:
        with place.bus() as bus:
            until(bus.store.dead, "the dead letter")
        worker.send_signal(signal.SIGTERM)
        worker.wait(timeout=60)
    (row,) = rows(place.sagabus("list", APP, "--dead", "--json").stdout)
    assert {k: row[k] for k in ("endpoint", "type", "id", "reason", "attempts", "error")} == {
        "endpoint": "bad",
        "type": "bad.job",
        "id": "hopeless",
        "reason": "failed",
        "attempts": 1,
        "error": "ValueError: never works",
    }
    assert "creditapp.py" in row["traceback"]
    assert json.loads(row["body"])["id"] == "hopeless"
    assert "ValueError: never works" in place.sagabus("list", APP, "--dead").stdout


def test_list_says_when_there_is_more_than_its_limit(place: Place) -> None:
    """A list that was cut says so, on stderr."""
    place.sagabus("send", APP, "quick.job", '{"number": 1}', "--after", "60")
    place.sagabus("send", APP, "quick.job", '{"number": 2}', "--after", "70")
    done = place.sagabus("list", APP, "--timers", "--limit", "1", "--json")
    assert len(rows(done.stdout)) == 1
    assert "only the first 1 timers are shown" in done.stderr


# -- inspect -----------------------------------------------------------------------------------------------------


def test_inspect_shows_siblings_side_by_side_and_the_graph(place: Place) -> None:
    """Siblings stand beside each other, marked where they differ; below is how it came to that."""
    with place.bus() as bus:
        forked(bus)
    text = place.sagabus("inspect", APP, "CreditCheck/42").stdout
    assert text.startswith("CreditCheck/42  live, 2 siblings, MergeSagaState under way")
    assert re.search(r"^≠ +scores +\{ +\{ *$", text, re.MULTILINE)
    assert re.search(r'^ +"equifax": 700 +"experian": 500 *$', text, re.MULTILINE)
    assert re.search(r"^overdue  due 20\d\d-", text, re.MULTILINE)
    assert "creditapp.overdue to credit" in text.partition("not dispatched yet")[2]
    graph = text.partition("history\n")[2].splitlines()
    assert [re.split(r"  +", line)[0] for line in graph] == ["●", "├─╮", "● │", "│ ●"]
    assert re.search(r"creditapp.score-reported +worker-b +[\d:.]+ +forked$", graph[3])
    assert "\x1b" not in text


def test_inspect_as_json_has_all_of_it(place: Place) -> None:
    """Programs get versions, timers, what is undispatched, and the history, in one object."""
    with place.bus() as bus:
        forked(bus)
        (snapshot,) = bus.store.load([Want(KEY)])
    (found,) = rows(place.sagabus("inspect", APP, "CreditCheck/42", "--json").stdout)
    assert (found["saga"], found["lifecycle"], found["life"]) == ("CreditCheck/42", "live", 1)
    assert [v["state"]["scores"] for v in found["versions"]] == [{"equifax": 700}, {"experian": 500}]
    assert [v["version"] for v in found["versions"]] == [str(v.dot) for v in snapshot.versions]
    assert found["pending_merge"] == snapshot.pending_merge
    assert [(t["timer"], t["id"]) for t in found["timers"]] == list(snapshot.timers.items())
    assert [m["type"] for m in found["undispatched"]] == ["creditapp.overdue", "sagabus.MergeSagaState"]
    assert [entry["outcome"] for entry in found["history"]] == ["stored", "stored", "forked"]
    assert found["history"][2]["parents"] == found["history"][1]["parents"] == [found["history"][0]["version"]]


def test_inspect_of_a_completed_saga_shows_its_last_state(place: Place) -> None:
    """What has completed can be looked at, state and history, for as long as it is remembered."""
    with place.bus() as bus:
        store = bus.store
        store.commit([run(store, creditapp.CheckCredit("42"))], by="worker-a")
        store.commit([run(store, score("equifax", 700), score("experian", 500))], by="worker-a")
    text = place.sagabus("inspect", APP, "CreditCheck/42").stdout
    assert text.startswith("CreditCheck/42  completed\n")
    assert '"experian": 500' in text
    assert text.splitlines()[-1].startswith("■")
    assert text.splitlines()[-1].endswith("completed")


@pytest.mark.parametrize(("saga", "code"), [("CreditCheck/nobody", 3), ("CreditCheck", 2)])
def test_inspect_of_no_saga_says_so(place: Place, saga: str, code: int) -> None:
    """What is not there is exit code 3; what names no saga is 2."""
    done = place.sagabus("inspect", APP, saga, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    assert saga in done.stderr


@pytest.mark.parametrize(("no_color", "colors"), [("", True), ("1", False)])
def test_inspect_on_a_terminal_is_colored_unless_told_not_to(place: Place, no_color: str, colors: bool) -> None:
    """Colors are for terminals, and for those who did not set NO_COLOR."""
    with place.bus() as bus:
        forked(bus)
    ours, theirs = pty.openpty()
    with open(ours, "rb", buffering=0) as terminal:
        env = {"TERM": "xterm-256color", "NO_COLOR": no_color, "COLUMNS": "120"}
        process = subprocess.Popen(
            place.command("inspect", APP, "CreditCheck/42"),
            env={**os.environ, **place.env, **env},
            cwd=ROOT,
            stdout=theirs,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        text = b"".join(iter(lambda: read_terminal(terminal), b"")).decode()
        assert process.wait(timeout=60) == 0
    # 33 is yellow: what was forked.
    assert ("33m" in text) is colors
    assert "forked" in text


def read_terminal(terminal: Any) -> bytes:
    """Return what was written to the other end; empty once all who had it open are gone."""
    try:
        return bytes(terminal.read(65536))
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return b""


# -- tail --------------------------------------------------------------------------------------------------------


def test_tail_of_a_saga_shows_its_commits_and_those_that_follow(place: Place) -> None:
    """First the history there is; then each commit as it comes, once."""
    with place.bus() as bus:
        forked(bus)
        options = ("--saga", "CreditCheck/42", "--interval", "0.05", "--json")
        with place.running("tail", APP, *options) as tail:
            assert tail.stdout is not None
            first = [json.loads(tail.stdout.readline()) for _ in range(3)]
            bus.store.commit([run(bus.store, creditapp.Overdue())], by="worker-c")
            following = json.loads(tail.stdout.readline())
            tail.send_signal(signal.SIGINT)
            rest, _ = tail.communicate(timeout=60)
            assert tail.returncode == 0
    assert [row["outcome"] for row in first] == ["stored", "stored", "forked"]
    assert (following["by"], following["outcome"], len(following["parents"])) == ("worker-c", "stored", 2)
    assert rest == ""


LETTER = DeadLetter("7", "quick", "failed", "ValueError: never", "", attempts=1, at_ms=1, body=b"{}", type="quick.job")


def test_tail_of_a_bus_shows_queues_sagas_and_dead_letters_that_change(place: Place) -> None:
    """First a summary; then one line for whatever has changed since the look before."""
    with place.bus() as bus, place.running("tail", APP, "--interval", "0.05") as tail:
        assert tail.stdout is not None
        lines = iter(tail.stdout.readline, "")
        assert next(line for line in lines if line.startswith("sagas")).startswith("sagas: 0 live")
        forked(bus)
        last = next(line for line in lines if "2 siblings" in line)
        assert last.startswith("CreditCheck/42: live, 2 siblings, +")
        bus.send(creditapp.QuickJob(1), to="quick")
        assert next(lines) == "queue quick: 1\n"
        bus.store.note(Bookkeeping(buried=(LETTER,)))
        assert next(lines) == "dead letter on quick: quick.job 7: failed: ValueError: never\n"
        tail.send_signal(signal.SIGINT)
        assert tail.wait(timeout=60) == 0


def test_tail_that_does_not_follow_ends(place: Place) -> None:
    """Without following, what is there is shown once; a saga that is not there is exit code 3."""
    with place.bus() as bus:
        forked(bus)
    text = place.sagabus("tail", APP, "--no-follow", "--saga", "CreditCheck/42").stdout
    assert len(text.splitlines()) == 3
    assert "worker-b  forked" in text
    with place.bus() as bus:
        bus.store.commit([run(bus.store, creditapp.Overdue())], by="worker-c")
    text = place.sagabus("tail", APP, "--no-follow", "--saga", "CreditCheck/42").stdout
    assert re.search(r"worker-c  stored, merged \S+:2 \+ \S+:3, completed$", text)
    summary = rows(place.sagabus("tail", APP, "--no-follow", "--json").stdout)
    assert {"kind": "sagas", "live": 0, "completed": 1, "with_siblings": 0} in summary
    assert place.sagabus("tail", APP, "--no-follow", "--saga", "CreditCheck/0", check=False).returncode == 3


# -- replay ------------------------------------------------------------------------------------------------------

RACE = ROOT / "examples" / "credit_check" / "race.jsonl"


def test_replay_tells_the_race_and_draws_it(place: Place) -> None:
    """The example's race is told step by step, and the graph grows to a fork that is merged."""
    text = place.sagabus("replay", str(RACE)).stdout
    assert re.search(r"^   forked: memory:3 is stored beside", text, re.MULTILINE)
    assert re.search(r"^   dropped the decision: event credit.decided", text, re.MULTILINE)
    assert len(re.findall(r"^   released event credit.decided", text, re.MULTILINE)) == 1
    graph = text.rpartition("\n\n")[2].splitlines()
    assert [re.split(r"  +", line)[0] for line in graph] == ["●", "├─╮", "● │", "│ ●", "├─╯", "■"]


def check(id_: str = "check") -> dict[str, Any]:
    return {"id": id_, "type": "creditapp.check", "data": {"customer": "42"}}


def reported(bureau: str, value: int) -> dict[str, Any]:
    data = {"customer": "42", "bureau": bureau, "score": value}
    return {"id": f"from-{bureau}", "type": "creditapp.score-reported", "data": data}


def story(place: Place, *steps: tuple[str, str, *tuple[Any, ...]]) -> list[str]:
    """Return what a replay of steps (worker, what it does, messages) tells, a line each, without the graphs."""
    lines = [json.dumps({"sagabus-replay": 1, "app": APP, "saga": "CreditCheck/42", "title": "A story"})]
    for worker, do, *messages in steps:
        lines.append(json.dumps({"worker": worker, "do": do} | ({"messages": messages} if messages else {})))
    path = place.folder / "story.jsonl"
    path.write_text("\n".join(lines))
    return [line.strip() for line in place.sagabus("replay", str(path)).stdout.splitlines()]


def test_replay_tells_what_came_too_early_twice_or_too_late(place: Place) -> None:
    """Each thing that can become of a message is told in the glossary's words."""
    told = story(
        place,
        ("A", "load", reported("equifax", 700)),
        ("A", "commit"),
        ("A", "load", check()),
        ("A", "crash"),
        ("A", "load", check()),
        ("A", "commit"),
        ("A", "load", reported("equifax", 700)),
        ("B", "load", reported("equifax", 700)),
        ("A", "commit"),
        ("B", "commit"),
        ("B", "load", reported("equifax", 700), reported("experian", -1)),
        ("B", "commit"),
        ("A", "load", reported("transunion", 650)),
        ("A", "commit"),
        ("A", "load", reported("experian", 640)),
        ("A", "commit"),
        ("A", "load", "timer:overdue"),
    )
    for line in (
        "early: creditapp.score-reported from-equifax",
        "nothing to commit",
        "loses creditapp.check check; it was not acked, so it comes again",
        "released timer creditapp.overdue",
        "duplicate: all of it was consumed before; nothing was stored",
        "passed over from-equifax: consumed before",
        'decided: event creditapp.decided {"approved": true, "customer": "42"}, complete',
        "completed",
        "loaded a saga that has completed (memory:3)",
        "late: the saga has completed; its state stays, and what on_late sends leaves",
    ):
        assert any(said.startswith(line) for said in told), line
    assert any(re.match(r"failed Incoming\(.*ValueError\('a score is not negative'\)", said) for said in told)
    assert any(said.startswith("stale: creditapp.overdue") for said in told)


def test_replay_tells_what_has_to_run_again_and_what_cannot_be_merged(place: Place) -> None:
    """Two that merge at once: the second runs again. A merger that raises leaves the siblings as they were."""
    raced = (
        ("A", "load", check()),
        ("A", "commit"),
        ("A", "load", reported("equifax", 700)),
        ("B", "load", reported("experian", 666)),
        ("A", "commit"),
        ("B", "commit"),
    )
    told = story(place, *raced, ("A", "load", "merge"), ("A", "commit"))
    assert "unmergeable: UnmergeableStateError('666 goes with nothing')" in told
    assert any(line.startswith("left over: MergeSagaState") for line in told)
    raced = (*raced[:3], ("B", "load", "timer:overdue"), *raced[4:])
    told = story(place, *raced, ("A", "load", "merge"), ("B", "load", "merge"), ("A", "commit"), ("B", "commit"))
    assert "merged memory:2 and memory:3" in told
    assert "duplicate: all of it was consumed before; nothing was stored" in told
    other = (("A", "load", "merge"), ("B", "load", check("second")), ("A", "commit"), ("B", "commit"))
    told = story(place, *raced, *other)
    assert "again (merged): nothing was stored; load and run again" in told


def test_replay_step_by_step_needs_nobody_where_there_is_no_terminal(place: Place) -> None:
    """Waiting for a key is for terminals; elsewhere it goes on."""
    assert place.sagabus("replay", str(RACE), "--step").stdout == place.sagabus("replay", str(RACE)).stdout


def test_replay_as_json_has_a_line_for_each_step(place: Place) -> None:
    """Each step is an object with what it did."""
    steps = rows(place.sagabus("replay", str(RACE), "--json").stdout)
    assert [(step["worker"], step["do"], step["outcome"]) for step in steps][-4:] == [
        ("A", "commit", "stored"),
        ("B", "commit", "forked"),
        ("A", "load", None),
        ("A", "commit", "stored"),
    ]
    assert [message["type"] for message in steps[-1]["released"]] == ["credit.decided"]
    assert steps[-3]["dropped"][0]["data"]["accepted"] != steps[-1]["released"][0]["data"]["accepted"]


def test_replay_that_does_not_come_out_as_expected_exits_1(place: Place, tmp_path: Path) -> None:
    """The step and the difference are said in one line on stderr."""
    head = {"sagabus-replay": 1, "app": APP, "saga": "CreditCheck/42"}
    start = {"id": "m1", "type": "creditapp.check", "data": {"customer": "42"}}
    steps = [
        {"worker": "A", "do": "load", "messages": [start]},
        {"worker": "A", "do": "commit", "expect": "forked"},
        {"worker": "A", "do": "commit"},
    ]
    path = tmp_path / "race.jsonl"
    path.write_text("\n".join(map(json.dumps, (head, *steps))))
    done = place.sagabus("replay", str(path), check=False)
    assert done.returncode == 1
    assert (
        "line 3 of the recording did not come out as expected: outcome 'stored' instead of 'forked'"
        in done.stderr.splitlines()[-1]
    )
    assert "Traceback" not in done.stderr
    assert "not as expected" in done.stdout


@pytest.mark.parametrize(
    ("head", "code", "words"),
    [
        ({"sagabus-replay": 1, "app": APP, "saga": "Other/1"}, 2, "no saga 'Other' on"),
        ({"sagabus-replay": 9, "app": APP, "saga": "CreditCheck/1"}, 2, "format 9 is not known"),
    ],
)
def test_replay_of_what_is_no_recording_says_why(
    place: Place, tmp_path: Path, head: dict[str, Any], code: int, words: str
) -> None:
    """A recording that cannot be played is a usage error, with the line or the name at fault."""
    path = tmp_path / "race.jsonl"
    path.write_text(json.dumps(head))
    done = place.sagabus("replay", str(path), check=False)
    assert done.returncode == code
    assert words in done.stderr
    assert place.sagabus("replay", str(tmp_path / "none"), check=False).returncode == 2
