"""A cluster of three primaries, each with a replica where wanted: slots moved, primaries killed, replicas promoted."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import redis
from attrs import define, field

from tests.chaos.lab.server import HOST, Server
from tests.servers import SLOTS, free_ports, until

PRIMARIES: Final = 3
_KEYS_A_MOVE: Final = 100
_MOVE_TIMEOUT_MS: Final = 30_000


@define
class Cluster:
    """Three primaries with an equal share of the slots each.

    Attributes:
        folder: where the data of all nodes lie.
        replicas: whether each primary has one.
        config: settings of every node, as of `Server`.
        nodes: the primaries first, then their replicas in the same order.
        moved: how many slots were moved so far.
    """

    folder: Path
    replicas: bool = False
    config: dict[str, str | int] = field(factory=dict)
    nodes: list[Server] = field(factory=list, init=False)
    moved: int = field(default=0, init=False)

    @property
    def url(self) -> str:
        """Return its URL, for a bus; it names the first node."""
        return f"redis+cluster://{HOST}:{self.nodes[0].port}"

    @property
    def primaries(self) -> list[Server]:
        """Return the nodes that were made as primaries."""
        return self.nodes[:PRIMARIES]

    def replica_of(self, primary: int) -> Server:
        """Return the replica of primary number *primary*."""
        return self.nodes[PRIMARIES + primary]

    def move_slot(self, slot: int, target: int) -> int:
        """Move one slot with its keys to primary number *target*, as a resharding does; return how many keys moved."""
        home = self.owner(slot)
        if home == target:
            return 0
        keys = 0
        with self.nodes[home].client() as source, self.nodes[target].client() as sink:
            source_id, sink_id = _node_id(source), _node_id(sink)
            sink.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source_id)
            source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", sink_id)
            address = (HOST, self.nodes[target].port)
            while names := source.execute_command("CLUSTER GETKEYSINSLOT", slot, _KEYS_A_MOVE):
                source.execute_command("MIGRATE", *address, "", 0, _MOVE_TIMEOUT_MS, "REPLACE", "KEYS", *names)
                keys += len(names)
            # The new owner first: were it the old one, the slot would be nobody's for a moment.
            for node in (sink, source):
                node.execute_command("CLUSTER SETSLOT", slot, "NODE", sink_id)
        for index in range(PRIMARIES):
            if index not in (home, target):
                with self.nodes[index].client() as other:
                    other.execute_command("CLUSTER SETSLOT", slot, "NODE", sink_id)
        until(self._agrees_on_epochs, "nodes that agree on whose slots are newest")
        self.moved += 1
        return keys

    def owner(self, slot: int) -> int:
        """Return the number of the primary that has *slot*."""
        with self._someone().client() as client:
            for first, last, primary, *_ in client.execute_command("CLUSTER SLOTS"):
                if first <= slot <= last:
                    ports = [node.port for node in self.nodes]
                    return ports.index(int(primary[1]))
        raise RuntimeError(f"slot {slot} belongs to nobody")

    def promote(self, primary: int, *, kill: bool = True) -> Server:
        """Kill a primary and have its replica take over; return the replica when the cluster is whole again."""
        heir = self.replica_of(primary)
        if kill:
            self.nodes[primary].kill()
        with heir.client() as client:
            client.execute_command("CLUSTER FAILOVER", *(["TAKEOVER"] if kill else []))
        until(lambda: heir.info("replication")["role"] == "master", "a replica that is promoted")
        self.await_whole()
        return heir

    def await_whole(self) -> None:
        """Return when every node that runs says that all slots are served."""
        until(lambda: all(_is_whole(node) for node in self.nodes if node.runs), "a cluster that serves all slots")

    def _agrees_on_epochs(self) -> bool:
        """Return whether all nodes know the primaries' newest epochs, by which they settle whose a slot is.

        Until then a message of the old owner, sent before it gave the slot away, takes it back from the new one, who
        drops its keys: a slot that moved on at once would lose them, without any client.
        """
        views = list[dict[str, str]]()
        for node in self.nodes:
            if node.runs:
                with node.client() as client:
                    facts = client.execute_command("CLUSTER NODES").values()
                views.append({fact["node_id"]: fact["epoch"] for fact in facts if "master" in fact["flags"]})
        return all(view == views[0] for view in views) and len(set(views[0].values())) == len(views[0])

    def _someone(self) -> Server:
        return next(node for node in self.nodes if node.runs)

    def __enter__(self) -> Self:
        count = PRIMARIES * (2 if self.replicas else 1)
        ports = free_ports(2 * count)
        try:
            for index in range(count):
                settings: dict[str, str | int] = {
                    "cluster-enabled": "yes",
                    "cluster-port": ports[count + index],
                    "cluster-node-timeout": 3000,
                    "cluster-replica-no-failover": "yes",
                }
                node = Server(self.folder / f"node-{index}", settings | self.config, port=ports[index])
                self.nodes.append(node)
                node.start()
            self._form(ports[count:])
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        for node in self.nodes:
            node.kill()

    def _form(self, bus_ports: list[int]) -> None:
        clients: list[Any] = [node.client() for node in self.nodes]
        try:
            for index, client in enumerate(clients):
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", index + 1)
                if index < PRIMARIES:
                    first, last = SLOTS * index // PRIMARIES, SLOTS * (index + 1) // PRIMARIES - 1
                    client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
                for earlier in range(index):
                    client.execute_command("CLUSTER MEET", HOST, self.nodes[earlier].port, bus_ports[earlier])
            until(lambda: all(_knows(client, len(clients)) for client in clients), "nodes that know each other")
            for index in range(PRIMARIES, len(clients)):
                primary_id = _node_id(clients[index - PRIMARIES])
                clients[index].execute_command("CLUSTER REPLICATE", primary_id)
            self.await_whole()
            for index in range(PRIMARIES, len(clients)):
                replica = self.nodes[index]
                until(lambda r=replica: r.info("replication").get("master_link_status") == "up", "a replica with all")  # type: ignore[misc]
        finally:
            for client in clients:
                client.close()


def _node_id(client: Any) -> str:
    return str(client.execute_command("CLUSTER MYID"))


def _knows(client: Any, count: int) -> bool:
    facts: dict[str, str] = client.execute_command("CLUSTER INFO")
    return facts["cluster_known_nodes"] == str(count)


def _is_whole(node: Server) -> bool:
    try:
        with node.client() as client:
            facts: dict[str, str] = client.execute_command("CLUSTER INFO")
    except redis.RedisError:
        return False
    return facts["cluster_state"] == "ok" and facts["cluster_slots_ok"] == str(SLOTS)
