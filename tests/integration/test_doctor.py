"""The doctor and really sick servers: what is wrong is found, and how to mend it said."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from attrs import define
from click.testing import CliRunner

from sagabus import Bus, RetryPolicy, Saga, UnmergeableStateError, message, starts
from sagabus.advance import advance
from sagabus.cli.doctor import command
from sagabus.commit import Want
from sagabus.envelope import Incoming, SagaKey, wrap
from sagabus.health.checks import check_all
from sagabus.health.finding import Verdict
from sagabus.health.gather import gather
from sagabus.telemetry.card import WorkerCard
from sagabus.testing.index_contract import begun
from tests import servers


@message("doctored.begin")
class Begin:
    key: str


@message("doctored.told")
class Told: ...


@define
class State:
    n: int = 0


def refuses(siblings: Sequence[State]) -> State:
    raise UnmergeableStateError("these go with nothing")


class Stubborn(Saga[State], key="key", merger=refuses):
    @starts
    def begun(self, m: Begin) -> None:
        self.state.n += 1
        self.send(Told(), to="elsewhere")


@contextmanager
def bus_at(url: str, namespace: str) -> Iterator[Bus]:
    with Bus(url, url, namespace=namespace, claim_s=1.0) as bus:
        bus.endpoint("e", Stubborn, retry=RetryPolicy(1))
        bus.endpoint("elsewhere")
        yield bus


def wrong(bus: Bus, limit: int = 100) -> dict[str, str]:
    findings = check_all(gather(bus, limit))
    return {f.check.partition(":")[0]: f"{f.found} | {f.mend}" for f in findings if f.verdict is not Verdict.OK}


@pytest.fixture
def healthy(namespace: str) -> Iterator[Bus]:
    """Yield a bus on a server of its own, with an append-only file."""
    with servers.valkey(appendonly="yes") as url, bus_at(url, namespace) as bus:
        yield bus


def fork(bus: Bus) -> SagaKey:
    """Have two first writes race, and nobody dispatch what they caused."""
    key, definition = SagaKey("Stubborn", "1"), bus.saga("Stubborn")
    assert definition is not None
    (snapshot,) = bus.store.load([Want(key)])
    for number in range(2):
        incoming = Incoming(wrap(Begin("1"), id=f"begin-{number}", source="/t", now_ms=0))
        bus.store.commit([advance(definition, snapshot, [incoming])], by="t")
    return key


def record_key(client: Any, namespace: str) -> bytes:
    (found,) = client.keys(f"{namespace}:*Stubborn/1*:r")
    return bytes(found)


def test_healthy_bus_is_ok(healthy: Bus) -> None:
    """Nothing is wrong with an empty bus on a server that keeps what it is told."""
    assert wrong(healthy) == {}
    facts = gather(healthy, 100)
    assert [queue.endpoint for queue in facts.queues] == ["e", "elsewhere"]
    assert facts.servers[0].role == "store and queues"
    assert facts.servers[0].appendfsync == "everysec"


def test_queue_is_at_work_only_where_a_worker_shows_itself(healthy: Bus) -> None:
    """A server that was started again takes each consumer for one that has just looked; cards tell who is there."""
    healthy.worker().run_until_idle()
    healthy.send(Begin("1"), to="e")
    assert "1 messages" in wrong(healthy)["queue"]
    assert "0 at work on it" in wrong(healthy)["queue"]
    healthy.store.presence.show(WorkerCard("ann", endpoints=("e",)))
    assert "queue" not in wrong(healthy)
    assert [queue.consumers for queue in gather(healthy, 100).queues] == [1, 0]


def test_sick_sagas_are_found(healthy: Bus, namespace: str) -> None:
    """Siblings that cannot be folded, an outbox that nobody dispatches, dead letters, a queue that nobody reads."""
    key = fork(healthy)
    path = healthy.store_url.removeprefix("unix://")
    servers.until(
        lambda: "mergers" in wrong(healthy) and "stuck sagas" in wrong(healthy), "an age above the claim time"
    )
    found = wrong(healthy)
    assert f"{key}: 2 siblings cannot be folded: UnmergeableStateError: these go with nothing" in found["mergers"]
    assert f"{key}: what 2 of its messages caused has not left" in found["stuck sagas"]
    healthy.send(Begin("2"), to="elsewhere")
    assert "1 messages" in wrong(healthy)["queue"]
    assert "0 at work on it" in wrong(healthy)["queue"]
    assert "--endpoints elsewhere" in wrong(healthy)["queue"]
    with redis.Redis(unix_socket_path=path) as client:
        client.hset(record_key(client, namespace), "m", b"\xc1")
    found = wrong(healthy)
    assert "the record of saga Stubborn/1 cannot be read" in found["records"]
    assert "stuck sagas" not in found


def test_limit_bounds_what_is_looked_at(healthy: Bus) -> None:
    """And it is said that there is more."""
    for number in range(5):
        healthy.send(Begin(str(number)), to="e")
    healthy.worker(["e"]).run_until_idle()
    facts = gather(healthy, 3)
    assert (facts.sagas_seen, facts.sagas_left) == (3, True)
    assert gather(healthy, 5).sagas_left is False


def test_dead_letters_and_overdue_timers_are_found(healthy: Bus) -> None:
    """Letters are counted by reason; a timer counts once it is late by more than a worker would be."""
    from datetime import UTC, datetime

    healthy.send(Told(), to="e")
    healthy.send(Begin("1"), to="e", at=datetime(2020, 1, 1, tzinfo=UTC))
    assert "1 overdue" in wrong(healthy)["timers"]
    healthy.worker(["e"]).run_until_idle()
    found = wrong(healthy)
    assert "timers" not in found
    assert found["dead letters"].startswith("1 no-handler | ")


def test_server_without_an_append_only_file_is_found(valkey_url: str, namespace: str) -> None:
    """It loses everything with its process."""
    with bus_at(valkey_url, namespace) as bus:
        assert list(wrong(bus)) == ["persistence"]
        assert "CONFIG SET appendonly yes" in wrong(bus)["persistence"]


def test_evicting_server_is_found_though_workers_refuse_it(namespace: str) -> None:
    """What it says of itself is read all the same."""
    with (
        servers.valkey(appendonly="yes", maxmemory="100mb", maxmemory_policy="allkeys-lru") as url,
        bus_at(url, namespace) as bus,
    ):
        found = wrong(bus)
    assert set(found) == {"store reachable", "broker reachable", "fit"}
    assert "allkeys-lru" in found["fit"]
    assert "CONFIG SET maxmemory-policy noeviction" in found["fit"]


def test_cluster_is_asked_node_by_node(cluster_url: str, namespace: str) -> None:
    """Each primary speaks for itself, and their clocks are compared."""
    with bus_at(cluster_url, namespace) as bus:
        checks = [finding.check for finding in check_all(gather(bus, 100))]
    assert len([check for check in checks if check.startswith("memory: ")]) == 3
    assert "clocks of servers" in checks


def test_rabbitmq_is_asked_for_what_it_can_tell(rabbitmq_url: str, valkey_url: str, namespace: str) -> None:
    """Queue lengths, and that it answers; the store is asked as ever."""
    with Bus(valkey_url, rabbitmq_url, namespace=namespace) as bus:
        bus.endpoint("e", Stubborn)
        bus.send(Begin("1"), to="e")
        facts = gather(bus, 100)
    assert [(queue.endpoint, queue.depth) for queue in facts.queues] == [("e", 1)]
    assert [server.role for server in facts.servers] == ["store"]


def test_bus_in_memory_has_no_servers_to_ask() -> None:
    """All that is left is looked at."""
    bus = Bus(store="memory:", transport="memory:")
    bus.endpoint("e", Stubborn)
    bus.endpoint("elsewhere")
    bus.send(Begin("1"), to="e")
    bus.worker(["e"]).run_until_idle()
    assert wrong(bus) == {}


APP = """
from sagabus import Bus
bus = Bus({url!r}, {url!r}, namespace="doctor-cli", claim_s=2.0)
"""


def doctored(monkeypatch: pytest.MonkeyPatch, folder: Path, url: str, name: str, *options: str) -> tuple[int, str]:
    (folder / f"{name}.py").write_text(APP.format(url=url))
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setitem(os.environ, "NO_COLOR", "1")
    result = CliRunner().invoke(command, [f"{name}:bus", *options])
    return result.exit_code, result.output


def test_doctor_command_exits_with_the_worst(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, valkey_url: str) -> None:
    """1 where something fails, 4 where nothing answers, 0 else; each line has its verdict, in JSON too."""
    code, text = doctored(monkeypatch, tmp_path, valkey_url, "doctorapp_sick")
    assert code == 1, text
    assert "fail  persistence: " in text
    code, text = doctored(monkeypatch, tmp_path, valkey_url, "doctorapp_sick", "--json")
    rows = [json.loads(line) for line in text.splitlines()]
    assert {"check": "timers", "verdict": "ok", "found": "none overdue", "mend": None} in rows
    (port,) = servers.free_ports(1)
    code, text = doctored(monkeypatch, tmp_path, f"redis://127.0.0.1:{port}/0", "doctorapp_gone")
    assert code == 4, text
    assert "fail  store reachable: the store at redis://127.0.0.1" in text
    with servers.valkey(appendonly="yes") as url:
        code, text = doctored(monkeypatch, tmp_path, url, "doctorapp_well")
    assert code == 0, text
    assert "0 warn, 0 fail" in text


def test_index_that_lacks_sagas_is_noticed_and_brought_in_line(valkey_url: str, namespace: str) -> None:
    """A store of before there was an index: the doctor says so and names the command, which mends it."""
    with bus_at(valkey_url, namespace) as bus:
        begun(bus.store, "a", "b", "c")
        link: Any = bus.store.link  # type: ignore[attr-defined]
        assert verdicts(bus)["index"] is Verdict.OK
        for key in [key for page in link.scan(f"{namespace}:{{{namespace}:index*") for key in page]:
            link.on_node("", "DEL", key)
        (finding,) = [finding for finding in check_all(gather(bus, 2)) if finding.check == "index"]
        assert (finding.verdict, finding.found[:28]) == (Verdict.WARN, "2 of 2 sagas looked at are n")
        assert finding.mend.endswith("sagabus reindex APP")
        bus.store.index.rebuild()
        assert verdicts(bus)["index"] is Verdict.OK


def verdicts(bus: Bus) -> dict[str, Verdict]:
    """Return what each check says."""
    return {finding.check: finding.verdict for finding in check_all(gather(bus, 100))}
