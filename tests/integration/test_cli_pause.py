"""Pausing from the command line, and who is at work: with workers in processes of their own."""

from __future__ import annotations

import json
import signal
import socket
from typing import Any

from sagabus import Bus
from sagabus.telemetry.card import WorkerCard
from tests.integration.processes import APP, Place
from tests.servers import until

HEARD_WITHIN_S = 4.0
"""Twice what is promised, on a machine that has other things to do."""


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def cards(bus: Bus) -> list[WorkerCard]:
    return list(bus.store.presence.cards().cards)


def test_workers_of_two_processes_obey_a_pause_and_a_resume(place: Place) -> None:
    """Both stop receiving, say so, and go on later; whoever asks sees by whom and why, and the trail has both."""
    with place.bus() as bus, place.running("worker", APP, "--endpoints", "quick", "--processes", "2") as workers:
        until(lambda: [card.state for card in cards(bus)] == ["working"] * 2, "two workers")
        done = place.sagabus("pause", APP, "quick", "--why", "the bank is down")
        assert done.stdout == f"quick: paused; sagabus resume {APP} quick\n"
        until(lambda: [card.state for card in cards(bus)] == ["paused"] * 2, "both to obey", HEARD_WITHIN_S)
        place.send_quick_jobs(5, stop_at=-1, whom="")
        (queue,) = [
            row for row in rows(place.sagabus("list", APP, "--queues", "--json").stdout) if row["endpoint"] == "quick"
        ]
        assert queue["depth"] == 5
        assert queue["oldest_s"] >= 0
        assert queue["paused"].endswith(": the bank is down")
        again = json.loads(place.sagabus("pause", APP, "quick", "--json").stdout)
        assert (again["became"], again["why"]) == ("already", "the bank is down")
        # The server of the tests is not all that it should be, so there are other findings.
        found = rows(place.sagabus("doctor", APP, "--json", check=False).stdout)
        (finding,) = [row for row in found if row["check"] == "queue: quick"]
        assert (finding["verdict"], finding["mend"]) == ("warn", "go on: sagabus resume APP quick")
        assert "the bank is down" in finding["found"]
        assert place.done() == []
        assert place.sagabus("resume", APP, "quick").stdout.startswith("quick: resumed; it was paused by ")
        until(lambda: len(place.done()) == 5, "the jobs", HEARD_WITHIN_S)
        assert place.sagabus("resume", APP, "quick").stdout == "quick: it is not paused\n"
        assert [(line.what, line.endpoint) for line in bus.store.letters.audit()] == [
            ("resume", "quick"),
            ("pause", "quick"),
        ]
        workers.send_signal(signal.SIGTERM)
        assert workers.wait(timeout=60) == 0
        assert cards(bus) == []


def test_workers_are_listed_with_what_they_do(place: Place) -> None:
    """For people and for programs; of a worker that is gone nothing is left."""
    assert place.sagabus("list", APP, "--workers").stderr == "no workers\n"
    with place.bus() as bus, place.running("worker", APP, "--endpoints", "quick,held", "--name", "w1") as worker:
        place.send_quick_jobs(3, stop_at=-1, whom="")
        until(lambda: any(each.handled for card in cards(bus) for each in card.counts.values()), "the jobs on its card")
        (row,) = rows(place.sagabus("list", APP, "--workers", "--json").stdout)
        assert (row["kind"], row["worker"], row["host"], row["pid"]) == (
            "workers",
            "w1",
            socket.gethostname(),
            worker.pid,
        )
        assert (row["endpoints"], row["state"], row["handled"]) == (["quick", "held"], "working", 3)
        assert 0 <= row["seen_s"] < HEARD_WITHIN_S
        text = place.sagabus("list", APP, "--workers").stdout
        assert text.split()[:4] == ["worker", "host", "pid", "endpoints"]
        assert "quick, held" in text


def test_endpoint_that_was_never_declared_is_not_paused(place: Place) -> None:
    """A name that is mistyped would pause nothing, so it is refused, with those that there are."""
    for command in ("pause", "resume"):
        done = place.sagabus(command, APP, "qick", check=False)
        assert (done.returncode, done.stdout) == (3, "")
        assert "no endpoint 'qick'; known endpoints: " in done.stderr
        assert "quick" in done.stderr
