"""Several worker processes under a supervisor: crashes, drains, aborts, and the supervisor's own death."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from sagabus.supervisor import HOPELESS, Supervisor
from tests.integration.processes import APP, ROOT, Place, signal_until_ended
from tests.servers import until

QUIET = ("--log-level", "warning")


def supervisor(place: Place, processes: int, *endpoints: str, **env: str) -> Supervisor:
    """Return a supervisor of this process, whose workers find the app as this process does."""
    return Supervisor(APP, processes, endpoints, options=QUIET, env={**place.env, "PYTHONPATH": str(ROOT), **env})


def until_checked(watched: Supervisor, condition: Callable[[], object], what: str) -> None:
    """Return once *condition* holds, having the supervisor do its work meanwhile."""

    def checked() -> object:
        watched.check()
        return condition()

    until(checked, what, timeout_s=60)


def test_crashed_worker_is_replaced_and_its_messages_are_handled_at_once(place: Place) -> None:
    """A killed worker's successor has its name, and so gets its unfinished message long before the claim time."""
    place.sagabus("send", APP, "held.job", '{"number": 1}', "--to", "held")
    with supervisor(place, 2, "held") as watched:
        place.await_done("begin-1")
        first = place.pid_of("begin-1")
        others = set(watched.pids) - {first}
        os.kill(first, signal.SIGKILL)
        until_checked(watched, lambda: place.done().count("begin-1") == 2, "the second try")
        second = place.pid_of("begin-1")
        assert set(watched.pids) == others | {second}
        assert second not in others | {first}
        assert watched.restarts == 1
        place.open_gate()
        place.await_done("end-1")
        assert watched.stop() == 0
    assert place.depth("held") == 0


def test_kill_ends_a_worker_that_runs_and_check_replaces_it_every_time(place: Place) -> None:
    """Workers killed on purpose are replaced without delay, however often."""
    with supervisor(place, 1, "quick") as watched:
        for restarts in range(1, 4):
            pid = watched.kill(restarts)
            assert pid is not None
            assert watched.pids == []
            watched.check()
            assert watched.restarts == restarts
            assert watched.pids not in ([], [pid])
        watched.kill(0)
        assert watched.kill(0) is None
        assert watched.stop() == 0


def test_worker_that_keeps_crashing_at_its_start_is_restarted_later_and_later(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first crash is mended at once; one that follows soon has to wait."""
    now_s = [1000.0]
    monkeypatch.setattr("sagabus.supervisor.time", SimpleNamespace(monotonic=lambda: now_s[0]))
    with supervisor(place, 1, "quick", CREDITAPP_BROKEN="1") as watched:
        until_checked(watched, lambda: watched.restarts == 1, "the first restart")
        for restarts, delay_s in ((1, 0.5), (2, 1.0)):
            until(lambda: not watched.pids, "another crash")
            watched.check()
            now_s[0] += delay_s / 2
            watched.check()
            assert watched.restarts == restarts
            now_s[0] += delay_s / 2
            watched.check()
            assert watched.restarts == restarts + 1


def test_worker_that_cannot_be_started_ends_the_supervisor_with_2(place: Place) -> None:
    """What no restart would mend is said once, and is exit code 2."""
    done = place.sagabus("worker", APP, "--processes", "2", "--endpoints", "nowhere", check=False)
    assert done.returncode == HOPELESS
    assert "no endpoint nowhere on this bus" in done.stderr


def test_worker_without_a_server_is_restarted_and_the_log_says_why(place: Place) -> None:
    """A server that is down may come back, so a supervisor goes on trying; what it waits for is in its log."""
    url = "redis://127.0.0.1:1/0"
    command = Place.command("worker", APP, "--processes", "2", "--log-format", "json")
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **place.env, "SAGABUS_STORE": url, "SAGABUS_TRANSPORT": url},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        ended = (json.loads(line) for line in process.stderr if "worker-ended" in line)
        first = next(ended)
        assert (first["exit_code"], first["reason"]) == (4, "store or broker do not answer")
        assert process.poll() is None
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_stop_kills_a_worker_that_does_not_end_in_time(place: Place) -> None:
    """A worker that hangs beyond the time-out is killed, the stop says that not all went well, and nothing is lost."""
    place.sagabus("send", APP, "held.job", '{"number": 1}', "--to", "held")
    with supervisor(place, 1, "held") as watched:
        place.await_done("begin-1")
        assert watched.stop(timeout_s=0.1) == 1
        assert watched.pids == []
    assert place.depth("held") == 1


def test_supervisor_asked_to_stop_under_load_drains_and_exits_0(place: Place) -> None:
    """SIGTERM lets each worker finish what it has; the rest stays in the queue; nothing is done twice."""
    total, half = 400, 200
    place.send_quick_jobs(total, stop_at=half, whom="supervisor")
    with place.running("worker", APP, "--processes", "2", "--endpoints", "quick") as process:
        process.communicate(timeout=60)
        assert process.returncode == 0
    done = place.done()
    assert len(set(done)) == len(done)
    assert f"quick-{half}" in done
    assert place.depth("quick") == total - len(done)


def test_supervisor_asked_to_stop_twice_aborts_and_loses_nothing(place: Place) -> None:
    """The second signal ends all workers at once, with exit code 1; what they had in hand is still in the queue."""
    place.sagabus("send", APP, "held.job", '{"number": 1}', "--to", "held")
    with place.running("worker", APP, "--processes", "2", "--endpoints", "held") as process:
        place.await_done("begin-1")
        assert signal_until_ended(process, signal.SIGTERM) == 1
        # Its workers hold the other end of its stderr: reading to the end waits for theirs.
        process.communicate(timeout=60)
    assert place.done() == ["begin-1"]
    assert place.depth("held") == 1


def test_workers_whose_supervisor_is_killed_finish_what_they_have_and_end(place: Place) -> None:
    """Workers drain when their supervisor is gone, so that a new one finds no strangers at work."""
    place.sagabus("send", APP, "held.job", '{"number": 1}', "--to", "held")
    options = ("--processes", "2", "--endpoints", "held", "--name", "site", "--log-format", "json")
    with place.running("worker", APP, *options) as process:
        place.await_done("begin-1")
        process.kill()
        process.wait()
        place.open_gate()
        _, text = process.communicate(timeout=60)
    assert place.done() == ["begin-1", "end-1"]
    assert place.depth("held") == 0
    stopped = [line["worker"] for line in map(json.loads, text.splitlines()) if line["event"] == "stopped"]
    assert sorted(stopped) == ["site-0", "site-1"]
