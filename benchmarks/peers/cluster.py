"""A private cluster of three nodes on loopback, without replicas, and what a credit check costs on it."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import redis
from attrs import evolve, frozen

from benchmarks.peers import course
from benchmarks.peers.course import Pace
from benchmarks.peers.ours import Ours
from benchmarks.peers.peer import free_ports
from benchmarks.server import ServerDownError
from sagabus.store.keeper import end_with_parent
from sagabus.store.server_binary import find_server_binary

NODES: Final = 3
_SLOTS: Final = 16384
_FORMS_S: Final = 60.0
_HIGHEST: Final = 55_000
_OPTIONS: Final = {
    "save": "",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "cluster-enabled": "yes",
    "maxmemory-policy": "noeviction",
}


@frozen
class Cluster:
    """A cluster that runs.

    Attributes:
        url: of one of its nodes, as sagabus takes it.
        clients: one a node.
        pids: of its nodes.
    """

    url: str
    clients: Sequence[Any]
    pids: Sequence[int]

    def bytes(self) -> int:
        """Return how much went over the sockets of all nodes so far."""
        infos = [client.info("stats") for client in self.clients]
        return sum(info["total_net_input_bytes"] + info["total_net_output_bytes"] for info in infos)


def figures(pace: Pace, messages_a_check: int) -> dict[str, float]:
    """Return what a message costs two worker processes, the nodes together, and the sockets."""
    with (
        tempfile.TemporaryDirectory(prefix="sagabus-") as folder,
        running(Path(folder)) as cluster,
        Ours().running(cluster.url, Path(folder)) as ours,
    ):
        names = course.new_names()
        course.latency(ours, names, 5)
        began_at, before = time.perf_counter(), cluster.bytes()
        rate = course.throughput(evolve(ours, servers=cluster.pids), cluster.clients[0], names, pace)
        per_s = (cluster.bytes() - before) / (time.perf_counter() - began_at)
    per_message = rate.checks_per_s * messages_a_check
    return {
        "nodes": NODES,
        "checks_per_s": rate.checks_per_s,
        "worker_us_a_message": rate.usage.workers / per_message * 1e6,
        "server_us_a_message": rate.usage.server / per_message * 1e6,
        "bytes_a_message": per_s / per_message,
    }


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """Run the nodes, until the block is left."""
    ports = _ports()
    nodes: list[subprocess.Popen[bytes]] = []
    clients = [redis.Redis(port=port, protocol=2, socket_timeout=5) for port in ports]
    try:
        for port in ports:
            place = folder / f"node-{port}"
            place.mkdir()
            options = {**_OPTIONS, "port": str(port), "dir": str(place), "bind": "127.0.0.1"}
            nodes.append(_start(options, place / "log"))
        _until("an answer", lambda: all(_answers(client) for client in clients))
        for number, client in enumerate(clients):
            first, last = _SLOTS * number // NODES, _SLOTS * (number + 1) // NODES - 1
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
            for port in ports[:number]:
                client.execute_command("CLUSTER MEET", "127.0.0.1", port)
        _until("a cluster", lambda: all(_is_whole(client) for client in clients))
        yield Cluster(f"redis+cluster://127.0.0.1:{ports[0]}", clients, [node.pid for node in nodes])
    finally:
        for client in clients:
            client.close()
        for node in nodes:
            node.kill()
            node.wait()


def _ports() -> list[int]:
    """Return free ports that leave room for those on which nodes talk: 10,000 above."""
    while True:
        ports = free_ports(4 * NODES)
        low = [port for port in ports if port < _HIGHEST]
        if len(low) >= NODES:
            return low[:NODES]


def _start(options: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    with log.open("ab") as out:
        return subprocess.Popen(
            [find_server_binary().path, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            preexec_fn=end_with_parent(),
        )


def _until(what: str, is_so: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + _FORMS_S
    while not is_so():
        if time.monotonic() > give_up_at:
            raise ServerDownError(f"the nodes did not come to {what}")
        time.sleep(0.05)


def _answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except (redis.ConnectionError, redis.TimeoutError):
        return False


def _is_whole(client: Any) -> bool:
    facts = client.execute_command("CLUSTER INFO")
    return facts["cluster_state"] == "ok" and int(facts["cluster_known_nodes"]) == NODES
