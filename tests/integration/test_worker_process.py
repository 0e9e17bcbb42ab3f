"""One worker in a process of its own: signals, drains, aborts, and what its log lines carry."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from tests.integration.processes import APP, Place, signal_until_ended
from tests.servers import until


def log_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_worker_asked_to_stop_in_a_handler_finishes_it_and_exits_0(place: Place) -> None:
    """SIGTERM drains: what is in hand is finished and acked, and the exit code is 0."""
    place.sagabus("send", APP, "held.job", '{"number": 1}', "--to", "held")
    with place.running("worker", APP, "--endpoints", "held") as worker:
        place.await_done("begin-1")
        worker.send_signal(signal.SIGTERM)
        place.open_gate()
        assert worker.wait(timeout=60) == 0
    assert place.done() == ["begin-1", "end-1"]
    assert place.depth("held") == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_worker_asked_to_stop_twice_aborts_and_loses_nothing(place: Place, number: signal.Signals) -> None:
    """The second signal ends the worker at once, with exit code 1; what was in hand is still in the queue."""
    place.sagabus("send", APP, "held.job", '{"number": 1}', "--to", "held")
    with place.running("worker", APP, "--endpoints", "held") as worker:
        place.await_done("begin-1")
        assert signal_until_ended(worker, number) == 1
    assert place.done() == ["begin-1"]
    assert place.depth("held") == 1


def test_worker_asked_to_stop_under_load_leaves_each_message_done_or_queued(place: Place) -> None:
    """A drain under load does nothing twice and loses nothing: a successor finds just what was not done."""
    total, half = 400, 200
    place.send_quick_jobs(total, stop_at=half, whom="worker")
    with place.running("worker", APP, "--endpoints", "quick") as worker:
        assert worker.wait(timeout=60) == 0
    done = len(place.done())
    assert half <= done < total
    assert place.depth("quick") == total - done
    with place.running("worker", APP, "--endpoints", "quick") as worker:
        until(lambda: len(place.done()) >= total, "the rest")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=60) == 0
    assert sorted(place.done()) == sorted(f"quick-{number}" for number in range(total))


def test_worker_restarted_under_its_name_gets_back_what_it_had_in_hand(place: Place) -> None:
    """A worker that died is followed by one of its name, which handles its unfinished message at once."""
    place.sagabus("send", APP, "held.job", '{"number": 1}', "--to", "held")
    with place.running("worker", APP, "--endpoints", "held", "--name", "w") as worker:
        place.await_done("begin-1")
        worker.kill()
        worker.wait()
        place.open_gate()
        # Far sooner than the claim time, after which anybody might have it.
        with place.running("worker", APP, "--endpoints", "held", "--name", "w"):
            until(lambda: "end-1" in place.done(), "the second try", timeout_s=60)
    assert place.done() == ["begin-1", "begin-1", "end-1"]


def test_lines_logged_in_a_handler_carry_saga_and_message_id(place: Place) -> None:
    """Lines that users log in a handler, by structlog or logging, say which saga and message they are about."""
    message_id = place.sagabus("send", APP, "creditapp.check", '{"customer": "42"}', "--to", "credit").stdout.strip()
    with place.running("worker", APP, "--log-format", "json", "--log-level", "debug") as worker:
        with place.bus() as bus:
            until(lambda: list(bus.store.sagas()), "the saga")
        worker.send_signal(signal.SIGTERM)
        _, text = worker.communicate(timeout=60)
    lines = {line["event"]: line for line in log_lines(text)}
    carried = {
        "saga": "CreditCheck/42",
        "message_id": message_id,
        "message_type": "creditapp.check",
        "endpoint": "credit",
    }
    assert carried.items() <= lines["asked"].items()
    assert lines["asked"]["customer"] == "42"
    assert carried.items() <= lines["asked too"].items()
    assert lines["asked too"]["level"] == "warning"
    handled = lines["handled"]
    assert (handled["saga"], handled["message_id"], handled["outcome"]) == ("CreditCheck/42", message_id, "stored")


def test_worker_with_console_logs_writes_them_to_stderr_alone(place: Place) -> None:
    """Logs never go to stdout, and have no colors where stderr is no terminal."""
    place.send_quick_jobs(1, stop_at=0, whom="worker")
    with place.running("worker", APP, "--endpoints", "quick") as worker:
        out, err = worker.communicate(timeout=60)
    assert out == ""
    assert "stopped" in err
    assert "\x1b" not in err


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("nowhere.app:bus",), 2, "no module 'nowhere.app'"),
        (("tests.integration.creditapp:nothing",), 2, "it has tests.integration.creditapp:bus"),
        (("tests/integration/creditapp.py",), 2, "write it as package.module:bus"),
        ((APP, "--endpoints", "credit,nowhere"), 2, "no endpoint nowhere on this bus"),
    ],
)
def test_worker_that_cannot_be_says_why_in_a_line(place: Place, args: tuple[str, ...], code: int, words: str) -> None:
    """What was asked for and cannot be is said in one line, with the next step; the exit code is 2."""
    done = place.sagabus("worker", *args, check=False)
    assert done.returncode == code
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_worker_without_a_server_exits_4(place: Place) -> None:
    """A server that does not answer is exit code 4, and its URL is shown without credentials."""
    url = "redis://someone:secret@127.0.0.1:1/0"
    done = place.sagabus("worker", APP, check=False, env={"SAGABUS_STORE": url, "SAGABUS_TRANSPORT": url})
    assert done.returncode == 4
    assert "redis://127.0.0.1:1/0" in done.stderr
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr


def test_error_of_the_app_itself_keeps_its_traceback(place: Place) -> None:
    """What sagabus did not expect is not swallowed."""
    done = place.sagabus("worker", APP, check=False, env={"CREDITAPP_BROKEN": "1"})
    assert done.returncode == 1
    assert "RuntimeError: this app cannot be imported" in done.stderr
    assert "Traceback" in done.stderr
