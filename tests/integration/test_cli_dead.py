"""`sagabus dead` and `sagabus timers` as people and scripts use them, against a private server."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sagabus.envelope import decode, encode, wrap
from sagabus.store.protocol import Bookkeeping, DeadLetter
from tests.changes import evolve
from tests.integration import creditapp
from tests.integration.processes import APP, Place


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def letter(id_: str, number: int = 1, **changes: Any) -> DeadLetter:
    body = encode(wrap(creditapp.QuickJob(number), id=id_, source="/client", now_ms=0).with_attempt(5))
    at_ms = time.time_ns() // 1_000_000
    context = b'{"saga":"CreditCheck/42","lifecycle":"live","life":1,"versions":[{"version":"a:1","state":{"n":7}}]}'
    made = DeadLetter(
        id_, "quick", "failed", "ValueError: never", "Trace", 5, at_ms, body, "quick.job", context=context
    )
    return evolve(made, **changes)


@pytest.fixture
def letters(place: Place) -> Place:
    """Return a place where three messages were given up, and the queues are declared."""
    place.sagabus("list", APP, "--queues")
    old = letter("job-3", 3, at_ms=time.time_ns() // 1_000_000 - 7_200_000, reason="no-saga")
    with place.bus() as bus:
        bus.store.note(Bookkeeping(buried=(letter("job-1"), letter("job-2", 2), old)))
    return place


def test_dead_list_is_filtered_and_counted(letters: Place) -> None:
    """In the order APP first or last; spans are counted back from now."""
    listed = rows(letters.sagabus("dead", "list", APP, "--json").stdout)
    assert {row["kind"] for row in listed} == {"dead"}
    assert [row["id"] for row in listed][-1] == "job-3"
    assert [row["id"] for row in rows(letters.sagabus("dead", APP, "--since", "1h", "--json").stdout)] == [
        row["id"] for row in listed[:2]
    ]
    assert "job-3" in letters.sagabus("dead", APP, "list", "--reason", "no-saga").stdout
    counted = rows(letters.sagabus("dead", "list", APP, "--count", "--json").stdout)
    assert {row["reason"]: row["letters"] for row in counted} == {"failed": 2, "no-saga": 1}
    assert [row["id"] for row in rows(letters.sagabus("dead", APP, "--until", "1h", "--json").stdout)] == ["job-3"]
    assert letters.sagabus("dead", "list", APP, "--since", "soon", check=False).returncode == 2


def test_dead_show_has_all_of_one(letters: Place) -> None:
    """For people the error, the message and the saga; for programs all of it."""
    text = letters.sagabus("dead", "show", APP, "job-1").stdout
    for part in ("ValueError: never", '"number": 1', "the saga then: live", '"n": 7'):
        assert part in text
    (row,) = rows(letters.sagabus("dead", "show", APP, "job-1", "--json").stdout)
    assert (row["context"]["versions"][0]["state"], row["resent"], row["audit"]) == ({"n": 7}, False, [])
    assert letters.sagabus("dead", "show", APP, "nothing", check=False).returncode == 3
    ambiguous = letters.sagabus("dead", "show", APP, "job-", check=False)
    assert ambiguous.returncode == 2
    assert "quick/job-1" in ambiguous.stderr


def test_dead_retry_sends_again_and_the_trail_says_who(letters: Place) -> None:
    """One by its id; many by what they have in common; none where nothing says which."""
    assert letters.sagabus("dead", "retry", APP, check=False).returncode == 2
    assert letters.sagabus("dead", "retry", APP, "job-1", "--all", check=False).returncode == 2
    assert "job-1" in letters.sagabus("dead", "retry", APP, "job-1", "--dry-run").stdout
    assert letters.depth("quick") == 0
    assert letters.sagabus("dead", "retry", APP, "job-1").stdout == "job-1\n"
    assert len(rows(letters.sagabus("dead", "retry", APP, "--since", "1w", "--json").stdout)) == 2
    assert letters.depth("quick") == 3
    trail = rows(letters.sagabus("dead", "audit", APP, "--json").stdout)
    assert {(row["what"], row["id"]) for row in trail} == {("retry", f"job-{n}") for n in (1, 2, 3)}
    assert all("@" in row["by"] for row in trail)
    with letters.bus() as bus:
        receiver = bus.transport.receiver(["quick"], consumer="t", claim_s=30.0)
        envelopes = [decode(delivery.body) for delivery in receiver.receive(10, 1.0)]
        receiver.close()
    assert {(found.id, found.attempt) for found in envelopes} == {(f"job-{n}", 1) for n in (1, 2, 3)}


def test_dead_retry_with_another_body_is_checked_first(letters: Place, tmp_path: Path) -> None:
    """From the command line, from a file, or from an editor; what does not fit its class leaves all as it was."""
    refused = letters.sagabus("dead", "retry", APP, "job-1", "--body", '{"number": "x"}', check=False)
    assert refused.returncode == 1
    assert "$.number" in refused.stderr
    letters.sagabus("dead", "retry", APP, "job-1", "--body", '{"number": 10}')
    (tmp_path / "body.json").write_text('{"number": 20}')
    letters.sagabus("dead", "retry", APP, "job-2", "--body", f"@{tmp_path / 'body.json'}", "--new-id")
    editor = tmp_path / "editor.py"
    editor.write_text(
        "import pathlib, sys\npath = pathlib.Path(sys.argv[1])\npath.write_text(path.read_text().replace('3', '30'))\n"
    )
    env = {"EDITOR": f"{shlex.quote(sys.executable)} {shlex.quote(str(editor))}", "VISUAL": ""}
    letters.sagabus("dead", "retry", APP, "job-3", "--edit", env=env)
    with letters.bus() as bus:
        receiver = bus.transport.receiver(["quick"], consumer="t", claim_s=30.0)
        found = {decode(d.body).id: json.loads(bytes(decode(d.body).data))["number"] for d in receiver.receive(10, 1.0)}
        receiver.close()
    assert found["job-1"] == 10
    assert found["job-3"] == 30
    assert "job-2" not in found
    assert set(found.values()) == {10, 20, 30}
    line = rows(letters.sagabus("dead", "audit", APP, "job-3", "--json").stdout)[0]
    assert (line["what"], line["details"]["patch"]) == ("edit", [{"op": "replace", "path": "/number", "value": 30}])


def test_dead_letters_are_exported_dropped_and_brought_back(letters: Place, tmp_path: Path) -> None:
    """Whole, so that a file is as good as the store."""
    exported = letters.sagabus("dead", "export", APP).stdout
    assert len(rows(exported)) == 3
    assert letters.sagabus("dead", "drop", APP, "--reason", "no-saga").stdout == "dropped 1\n"
    assert letters.sagabus("dead", "drop", APP, "--all", "--yes").stdout == "dropped 2\n"
    (tmp_path / "letters.jsonl").write_text(exported)
    done = letters.sagabus("dead", "retry", APP, "--from", str(tmp_path / "letters.jsonl"))
    assert sorted(done.stdout.split()) == ["job-1", "job-2", "job-3"]
    assert letters.depth("quick") == 3
    (tmp_path / "bad.jsonl").write_text(exported + "{}\n")
    assert "line 4" in letters.sagabus("dead", "retry", APP, "--from", str(tmp_path / "bad.jsonl"), check=False).stderr
    assert letters.depth("quick") == 3


def test_dead_retry_to_nowhere_fails_and_keeps_the_letter(letters: Place) -> None:
    """It says which were not sent, and ends with 1."""
    done = letters.sagabus("dead", "retry", APP, "job-1", "--to", "nowhere", check=False)
    assert done.returncode == 1
    assert "no endpoint 'nowhere'" in done.stderr
    assert letters.sagabus("dead", "show", APP, "job-1").stdout


def test_timers_are_listed_shown_cancelled_and_fired(place: Place) -> None:
    """Of one saga, or due within a time; the audit trail has both."""
    place.sagabus("send", APP, "quick.job", '{"number": 1}', "--after", "3600", "--id", "one", "--to", "quick")
    place.sagabus("send", APP, "quick.job", '{"number": 2}', "--after", "7200", "--id", "two", "--to", "quick")
    (soon,) = rows(place.sagabus("timers", APP, "--within", "90m", "--json").stdout)
    assert (soon["kind"], soon["why"], soon["id"]) == ("timers", "delayed", "one")
    assert rows(place.sagabus("timers", "list", APP, "--count", "--json").stdout) == [
        {"kind": "timers", "why": "delayed", "messages": 2}
    ]
    assert place.sagabus("timers", "list", APP, "--overdue", "--json").stdout == ""
    assert '"number": 2' in place.sagabus("timers", "show", APP, "two").stdout
    assert place.sagabus("timers", "cancel", APP, "on").stdout == "one: cancelled\n"
    assert rows(place.sagabus("timers", APP, "fire", "two", "--json").stdout)[0]["became"] == "fired"
    (left,) = rows(place.sagabus("timers", "list", APP, "--overdue", "--json").stdout)
    assert left["id"] == "two"
    assert place.sagabus("timers", "cancel", APP, "one", check=False).returncode == 3
    assert {row["what"] for row in rows(place.sagabus("dead", "audit", APP, "--json").stdout)} == {"cancel", "fire"}


def test_dead_groups_counts_what_went_wrong_alike(letters: Place) -> None:
    """One error, type, reason and endpoint is a group; the largest comes first."""
    found = rows(letters.sagabus("dead", "groups", APP, "--json").stdout)
    assert [(row["letters"], row["reason"]) for row in found] == [(2, "failed"), (1, "no-saga")]
    assert (found[0]["kind"], found[0]["error"], found[0]["endpoint"]) == ("dead-group", "ValueError: never", "quick")
    assert found[0]["first"] <= found[0]["last"]
    short = letters.sagabus("dead", APP, "groups", "--limit", "1")
    assert "only the newest 1 of 3 were looked at" in short.stderr


def test_dead_groups_retries_and_drops_all_of_one(letters: Place) -> None:
    """Also those beyond what was looked at; by the beginning of its name."""
    first, second = (row["id"] for row in rows(letters.sagabus("dead", "groups", APP, "--json").stdout))
    done = rows(letters.sagabus("dead", "groups", APP, "--retry", first[:6], "--limit", "1", "--json").stdout)
    assert sorted(row["of"] for row in done) == ["job-1", "job-2"]
    assert letters.depth("quick") == 2
    assert letters.sagabus("dead", "groups", APP, "--drop", second).stdout == "dropped 1\n"
    assert letters.sagabus("dead", "groups", APP).stderr == "no dead letters\n"
    trail = rows(letters.sagabus("audit", APP, "--json").stdout)
    assert sorted(row["what"] for row in trail) == ["drop", "retry", "retry"]


def test_dead_groups_of_no_such_group_exits_3(letters: Place) -> None:
    """Nothing is touched; nor where two things are asked for."""
    missing = letters.sagabus("dead", "groups", APP, "--drop", "ffffffffff", check=False)
    assert (missing.returncode, "no group of dead letters" in missing.stderr) == (3, True)
    assert letters.sagabus("dead", "groups", APP, "--drop", "a", "--retry", "b", check=False).returncode == 2
    assert len(rows(letters.sagabus("dead", "list", APP, "--json").stdout)) == 3
