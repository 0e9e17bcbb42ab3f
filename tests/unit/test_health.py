"""What a worker says of itself, and how probes get to hear it."""

from __future__ import annotations

import errno
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from attrs import define
from click.testing import CliRunner

from sagabus import Bus, Saga, message, starts
from sagabus.cli.health import command
from sagabus.errors import ConfigurationError, StoreUnavailableError
from sagabus.health.health_file import HealthFile, HealthWriter
from sagabus.health.health_server import HealthServer, address_of
from sagabus.health.probes import Probes
from sagabus.health.vitals import Health, LaneVitals, judge, together
from sagabus.observe.log import get_logger
from tests.servers import free_ports, until

WELL = Health()


def judged(*lanes: LaneVitals, draining: bool = False) -> Health:
    return judge(lanes, draining=draining, alive_within_s=60.0)


def test_lanes_that_get_on_are_alive_and_ready() -> None:
    """Also one that runs a handler for a while, and one that waits for its next message."""
    busy = LaneVitals("a", beat_age_s=100.0, handler="Saga.handler", handler_age_s=5.0, asking_age_s=100.0)
    idle = LaneVitals("b", beat_age_s=0.5, asking_age_s=0.5)
    assert judged(busy, idle) == WELL


@pytest.mark.parametrize(
    ("lane", "reason"),
    [
        (LaneVitals("a", beat_age_s=61.0), "lane a: has not got on for 61 s"),
        (LaneVitals("a", 61.0, handler="Saga.handler", handler_age_s=61.0), "lane a: Saga.handler has run for 61 s"),
    ],
)
def test_lane_that_stands_still_is_not_alive(lane: LaneVitals, reason: str) -> None:
    """Neither alive nor ready, and the reason says which."""
    assert judged(lane, LaneVitals("b", 0.0)) == Health(False, False, (reason,))


@pytest.mark.parametrize(
    ("lane", "reason"),
    [
        (LaneVitals("a", 1.0, waits_for="the store is down"), "lane a: the store is down"),
        (LaneVitals("a", 1.0, answered=False), "lane a: no server has answered yet"),
        (LaneVitals("a", 16.0, asking_age_s=16.0), "lane a: a server has not answered for 16 s"),
    ],
)
def test_lane_that_waits_for_its_server_is_alive_and_not_ready(lane: LaneVitals, reason: str) -> None:
    """Its end would not bring the server back."""
    assert judged(lane) == Health(True, False, (reason,))


def test_worker_that_starts_or_drains_is_alive_and_not_ready() -> None:
    """It says which of them."""
    assert judged() == Health(True, False, ("starting",))
    assert judged(LaneVitals("a", 0.0), draining=True) == Health(True, False, ("draining",))


def test_supervisor_is_ready_when_all_its_workers_are() -> None:
    """It is alive whatever they are: it replaces them itself."""
    waiting = Health(True, False, ("lane a: down",))
    assert together([("w-0", WELL), ("w-1", WELL)], draining=False) == WELL
    assert together([("w-0", None), ("w-1", waiting)], draining=True) == Health(
        True, False, ("draining", "worker w-0: does not say how it is", "worker w-1: lane a: down")
    )


@message("health.job")
class Job: ...


ENDED: list[float] = []


@message("health.begin")
class Begin:
    key: str

    def ended(self) -> None:
        ENDED[:] = [time.monotonic()]


class Noticing:
    """A store that has somebody look whenever something is committed."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.look: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> Any:
        if name == "commit":
            self.look()
        return getattr(self._store, name)


class Unreachable:
    """A store whose server can be taken away."""

    def __init__(self, store: Any) -> None:
        self._store, self.down = store, False

    def __getattr__(self, name: str) -> Any:
        if self.down and name in ("load", "commit", "note", "note_commands", "next_due_ms"):
            raise StoreUnavailableError("here", "down")
        return getattr(self._store, name)


def test_worker_whose_store_goes_away_is_alive_and_not_ready_until_it_is_back() -> None:
    """Its lanes go on asking."""
    store: Any = Unreachable(Bus(store="memory:", transport="memory:").store)
    bus = Bus(store=store, transport="memory:")
    bus.endpoint("jobs").consumer(Job)(lambda m: None)
    worker = bus.worker()
    assert worker.health(60.0).reasons == ("starting",)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    until(lambda: worker.health(60.0) == WELL, "a ready worker")
    store.down = True
    bus.send(Job(), to="jobs")
    until(lambda: not worker.health(60.0).ready, "a worker that waits")
    health = worker.health(60.0)
    assert health.alive
    assert "does not answer" in health.reasons[0]
    store.down = False
    until(lambda: worker.health(60.0).ready, "a ready worker again")
    worker.stop()
    until(lambda: "draining" in worker.health(60.0).reasons, "a worker that drains")
    thread.join(60)


@define
class State:
    steps: int = 0


class Steps(Saga[State], key="key"):
    @starts
    def begun(self, m: Begin) -> None:
        m.ended()


def test_lane_whose_handlers_end_one_by_one_gets_on_however_long_they_take_together() -> None:
    """Between two of them, or while what they did is stored, it is as far as the last that ended."""
    store: Any = Noticing(Bus(store="memory:", transport="memory:").store)
    bus = Bus(store=store, transport="memory:")
    bus.endpoint("e", Steps)
    bus.send(Begin("1"), to="e")
    worker = bus.worker()
    moments: list[float] = []

    def look() -> None:
        now = time.monotonic()
        moments.append(now - worker.lanes[0].vitals(now).beat_age_s)

    store.look = look
    worker.run_until_idle()
    assert moments
    assert min(moments) >= ENDED[0]


def test_lane_that_has_ended_is_not_stuck_while_others_drain() -> None:
    """It does not get on any more, and that is as it should be."""
    bus = Bus(store="memory:", transport="memory:")
    bus.endpoint("jobs").consumer(Job)(lambda m: None)
    worker = bus.worker()
    worker.stop()
    worker.run()
    assert worker.health(0.0) == Health(True, False, ("draining",))


def probed(file: Path, *options: str) -> tuple[int, str]:
    result = CliRunner().invoke(command, ["--file", str(file), *options])
    return result.exit_code, result.output


def test_health_command_says_what_the_file_says(tmp_path: Path) -> None:
    """0 for well, 1 for not, and why; no file is not well."""
    path = tmp_path / "worker.health"
    assert probed(path)[0] == 1
    HealthFile(path).write(Health(True, False, ("draining",)))
    assert probed(path) == (0, "alive\n  draining\n")
    assert probed(path, "--ready") == (1, "not ready\n  draining\n")
    HealthFile(path).write(WELL)
    assert probed(path, "--ready") == (0, "ready\n")
    path.write_text("{")
    code, text = probed(path)
    assert code == 1
    assert "cannot be read" in text
    assert [p.name for p in tmp_path.iterdir()] == ["worker.health"]


@pytest.mark.parametrize("age_s", [31.0, -5.0])
def test_health_file_that_is_too_old_or_of_another_boot_says_nothing(tmp_path: Path, age_s: float) -> None:
    """Its age is told by the machine's own clock, which a boot begins anew and nobody sets."""
    path = tmp_path / "worker.health"
    HealthFile(path).write(WELL)
    held = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode(held | {"at_monotonic_s": time.monotonic() - age_s}))
    health = HealthFile(path).read(30.0)
    assert health is not None
    assert not health.alive
    assert held["at"] in health.reasons[0]


def test_health_writer_writes_while_its_block_runs_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file follows what is said."""
    monkeypatch.setattr("sagabus.health.health_file.WRITE_EVERY_S", 0.01)
    said = [WELL]
    file = HealthFile(tmp_path / "worker.health")
    with HealthWriter(file, lambda: said[0], get_logger()):
        assert file.read(30.0) == WELL
        said[0] = Health(False, False, ("stuck",))
        until(lambda: file.read(30.0) == said[0], "the other word")
    assert list(tmp_path.iterdir()) == []


def test_health_writer_on_a_full_disk_says_nothing_and_goes_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old file would have a supervisor kill workers that are well, and a mistake of the user's ends all of them."""
    monkeypatch.setattr("sagabus.health.health_file.WRITE_EVERY_S", 0.01)
    full, write = threading.Event(), Path.write_bytes

    def write_bytes(path: Path, data: bytes) -> int:
        if full.is_set():
            path.touch()
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    file = HealthFile(tmp_path / "worker.health")
    file.write(WELL)
    full.set()
    with Probes(file=str(file.path)).answered(lambda: WELL, get_logger()):
        assert file.read(30.0) is None
        full.clear()
        until(lambda: file.read(30.0) == WELL, "a file when there is room")
        full.set()
        until(lambda: file.read(30.0) is None, "no file when there is none")
    assert list(tmp_path.iterdir()) == []


def test_health_command_says_that_a_file_cannot_be_read(tmp_path: Path) -> None:
    """A folder, or what only others may read, is not well."""
    code, text = probed(tmp_path)
    assert code == 1
    assert "cannot be read" in text


def asked(port: int, path: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_health_server_answers_probes_with_status_and_reasons() -> None:
    """200 or 503, and 404 for what nobody should ask."""
    said = [Health(True, False, ("draining",))]
    server = HealthServer("0", lambda: said[0])
    with server:
        assert asked(server.port, "/livez") == (200, {"alive": True, "ready": False, "reasons": ["draining"]})
        assert asked(server.port, "/readyz?verbose")[0] == 503
        said[0] = WELL
        assert asked(server.port, "/readyz")[0] == 200
        assert asked(server.port, "/")[0] == 404


def test_address_of_probes_is_on_loopback_unless_it_says_otherwise() -> None:
    """Who wants the world to ask says so."""
    assert [address_of(text) for text in ("8080", ":8080", "0.0.0.0:80", "[::1]:80")] == [
        ("127.0.0.1", 8080),
        ("127.0.0.1", 8080),
        ("0.0.0.0", 80),
        ("::1", 80),
    ]
    for text in ("", "host", "host:port", "host:70000"):
        with pytest.raises(ConfigurationError, match="HOST:PORT"):
            address_of(text)


def test_probes_that_cannot_be_answered_are_a_mistake_in_the_options(tmp_path: Path) -> None:
    """It is said before any work begins."""
    (port,) = free_ports(1)
    with (
        Probes(http=str(port)).answered(lambda: WELL, get_logger()),
        pytest.raises(ConfigurationError, match="choose a free address"),
        Probes(http=str(port)).answered(lambda: WELL, get_logger()),
    ):
        pass
    with (
        pytest.raises(ConfigurationError, match="cannot be written"),
        Probes(file=str(tmp_path / "no" / "file")).answered(lambda: WELL, get_logger()),
    ):
        pass
