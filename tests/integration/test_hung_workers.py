"""Workers with handlers that hang, in processes of their own: how they end, who replaces them, what probes hear."""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.error
import urllib.request
from typing import Any

from tests.integration.hangapp import Begin
from tests.integration.processes import ROOT, Place
from tests.servers import free_ports, until

APP = "tests.integration.hangapp:bus"
FOREVER_S = 600.0


def env(place: Place, **more: str) -> dict[str, str]:
    return {**place.env, "PYTHONPATH": str(ROOT), "HANGAPP_NAMESPACE": place.namespace, **more}


def sent(place: Place, sleep_s: float, id_: str) -> None:
    place.sagabus(
        "send",
        APP,
        "hangapp.begin",
        json.dumps({"key": id_, "sleep_s": sleep_s}),
        "--to",
        "sleepers",
        "--id",
        id_,
        env=env(place),
    )


def probe(port: int, path: str) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return json.load(answer) | {"status": answer.status}
    except urllib.error.HTTPError as error:
        return json.load(error) | {"status": error.code}
    except OSError:
        return None


def test_worker_with_a_handler_that_hangs_ends_with_5_and_its_message_is_a_dead_letter(place: Place) -> None:
    """A successor of its name acks the message unhandled, and goes on with the next."""
    assert Begin.__module__ == "tests.integration.hangapp"
    sent(place, FOREVER_S, "hangs")
    hung = place.sagabus("worker", APP, "--name", "w", check=False, env=env(place, HANGAPP_TIMEOUT_S="0.1"))
    assert hung.returncode == 5
    assert "Sleeper.begun hangs and cannot be interrupted" in hung.stderr
    with place.bus() as bus:
        (letter,) = bus.store.dead()
        assert (letter.id, letter.reason) == ("hangs", "timed-out")
        assert "time.sleep" in letter.traceback
        sent(place, 0.0, "well")
        command = place.command("worker", APP, "--name", "w")
        successor = subprocess.Popen(command, cwd=ROOT, env=_whole(env(place)), stderr=subprocess.PIPE, text=True)
        try:
            until(lambda: len(list(bus.store.sagas())) == 1 and place.depth("sleepers") == 0, "the next, and the ack")
            successor.send_signal(signal.SIGTERM)
            _, text = successor.communicate(timeout=60)
        finally:
            successor.kill()
        assert successor.returncode == 0, text
        assert len(bus.store.dead()) == 1


def test_supervisor_answers_for_its_workers_and_replaces_one_that_is_stuck(place: Place) -> None:
    """Without a limit for handlers, too: a worker whose lane stands still is killed, and its successor is ready."""
    (port,) = free_ports(1)
    file = place.folder / "health"
    options = ("--processes", "2", "--alive-within", "3", "--health-http", str(port), "--health-file", str(file))
    command = place.command("worker", APP, *options, "--log-format", "json")
    process = subprocess.Popen(command, cwd=ROOT, env=_whole(env(place)), stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: (probe(port, "/readyz") or {}).get("status") == 200, "ready workers")
        assert probe(port, "/livez") == {"alive": True, "ready": True, "reasons": [], "status": 200}
        until(lambda: file.exists() and '"ready":true' in file.read_text(), "the same in the file")
        assert place.sagabus("health", "--file", str(file), "--ready").stdout == "ready\n"
        sent(place, 30.0, "hangs")
        assert process.stderr is not None
        stuck = next(json.loads(line) for line in process.stderr if "has run for" in line)
        assert stuck["event"] == "worker-stuck"
        ended = next(json.loads(line) for line in process.stderr if "worker-ended" in line)
        assert ended["worker"] == stuck["worker"]
    finally:
        process.kill()
        process.communicate(timeout=60)


def _whole(env: dict[str, str]) -> dict[str, str]:
    import os

    return {**os.environ, **env}
