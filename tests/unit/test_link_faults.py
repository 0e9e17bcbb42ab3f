"""Servers that are not fit, not primary, silent or elsewhere by now, and processes that were forked."""

from __future__ import annotations

import os
import socket
import threading
import time

import pytest

from sagabus.errors import NotReplicatedError, StoreFullError, StoreRefusedError, StoreUnavailableError
from sagabus.link import Command, Link
from sagabus.terms import Terms
from tests.scripted import OK, Connect, Pair, Serve, bulk, in_turn
from tests.servers import free_ports

GET = Command(("GET", "k"), "k")
LOW, HIGH = "a", "b"


@pytest.fixture
def always_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every connection asked who answers, before each use."""
    monkeypatch.setattr("sagabus.link.node._IDLE_S", 0.0)


def get(key: str) -> Command:
    """Return a command for the node of *key*."""
    return Command(("GET", key), key)


# -- who answers -------------------------------------------------------------------------------------------------


def test_server_that_would_evict_is_refused_on_every_new_connection(serve: Serve, connect: Connect) -> None:
    """A failover may land on a server that nobody has checked; when it is mended, all goes on."""
    server = serve(in_turn())
    link = connect(server)
    server.info = {"maxmemory_policy": "allkeys-lru"}
    with pytest.raises(StoreRefusedError, match=r"allkeys-lru.*CONFIG SET maxmemory-policy noeviction"):
        link.round([GET])
    server.info = {"redis_version": "6.2.1"}
    with pytest.raises(StoreRefusedError, match=r"Redis 6.2.1 .* needs Redis 7.0"):
        link.round([GET])
    assert server.asked == []
    server.info = {"redis_version": "7.0.0", "maxmemory_policy": "noeviction"}
    assert link.round([GET]) == [b"OK"]


@pytest.mark.usefixtures("always_looking")
def test_policy_that_changes_at_run_time_is_noticed(serve: Serve, connect: Connect) -> None:
    """Connections that are there already are asked again from time to time, and whenever they were idle."""
    server = serve(in_turn())
    link = connect(server)
    assert link.round([GET]) == [b"OK"]
    server.info = {"maxmemory_policy": "volatile-ttl"}
    with pytest.raises(StoreRefusedError, match="volatile-ttl"):
        link.round([GET])
    assert server.connections == 1
    server.info = {}
    assert link.round([GET]) == [b"OK"]


def test_unfit_node_of_a_cluster_leaves_the_replies_of_the_others_in_order(pair: Pair, connect: Connect) -> None:
    """A refusal by one node must not leave replies of another on the wire, for the next command to read."""
    pair.answers = {"one": lambda words: bulk(words[1]), "two": lambda words: bulk(words[1])}
    link = connect(pair.one, "redis+cluster")
    link.round([get(HIGH)])
    pair.two.info = {"maxmemory_policy": "allkeys-lru"}
    with pytest.raises(StoreRefusedError, match="allkeys-lru"):
        link.round([get(HIGH), get(LOW)])
    assert link.round([get("c")]) == [b"c"]
    pair.two.info = {}
    assert link.round([get(LOW), get(HIGH)]) == [b"a", b"b"]


def test_replica_is_no_server_to_work_on(serve: Serve, connect: Connect) -> None:
    """Behind a name or an address that moves with the primary there may still be a replica: it is waited for."""
    server = serve(in_turn())
    server.info = {"role": "slave"}
    with pytest.raises(StoreUnavailableError, match="is a replica, and no primary"):
        connect(server, patience_s=0.05).round([GET])
    assert server.asked == []
    threading.Timer(0.05, server.info.clear).start()
    assert connect(server, patience_s=30.0).round([GET]) == [b"OK"]


@pytest.mark.parametrize("error", ["READONLY You can't write", "UNBLOCKED force unblock from blocking operation"])
def test_primary_that_became_a_replica_is_left(serve: Serve, connect: Connect, error: str) -> None:
    """All its connections are closed: each of them carries the epoch of a life that is over."""
    server = serve(in_turn(b"-%s\r\n" % error.encode()))
    link = connect(server, patience_s=30.0)
    assert link.round([GET]) == [b"OK"]
    assert server.connections == 2


@pytest.mark.usefixtures("always_looking")
def test_idle_connection_to_a_server_that_restarted_carries_its_new_epoch(serve: Serve, connect: Connect) -> None:
    """A primary that failed over and back kept the connection: what it counted meanwhile may be lost."""
    server = serve(in_turn())
    link = connect(server)
    first = link.server()
    server.run_id = "run-2"
    assert link.server() != first
    assert server.connections == 1


# -- what passes, and what is full -------------------------------------------------------------------------------


def test_disk_that_is_full_is_a_store_that_is_full(serve: Serve, connect: Connect) -> None:
    """MISCONF is waited out where OOM is, and says that it is the disk."""
    server = serve(lambda words: b"-MISCONF Errors writing to the AOF file: No space left on device\r\n")
    with pytest.raises(StoreFullError, match=r"cannot write to its disk and refused GET .*No space left.*free space"):
        connect(server).round([GET])


def test_server_that_wants_replicas_for_too_long_is_unavailable(serve: Serve, connect: Connect) -> None:
    """Patience has an end here too."""
    server = serve(lambda words: b"-NOREPLICAS Not enough good replicas to write.\r\n")
    with pytest.raises(StoreUnavailableError, match="NOREPLICAS"):
        connect(server, patience_s=0.05).round([GET])
    assert not issubclass(StoreUnavailableError, NotReplicatedError)


# -- silence -----------------------------------------------------------------------------------------------------


def test_half_open_connection_is_given_up_for_another(serve: Serve, connect: Connect) -> None:
    """A peer that holds one connection's bytes costs one time-out; the round is made on a new connection."""
    release = threading.Event()
    server = serve(in_turn(OK))
    link = connect(server, timeout_s=0.2, patience_s=60.0)
    link.round([GET])
    held: list[int] = []

    def silent_once(words: list[str]) -> bytes | None:
        if not held:
            held.append(1)
            release.wait(60.0)
            return None
        return OK

    server.answer = silent_once
    started_at = time.monotonic()
    assert link.round([GET]) == [b"OK"]
    assert time.monotonic() - started_at < 30.0  # 0.2 s, and whatever else the machine does
    release.set()
    assert server.connections == 2


@pytest.mark.usefixtures("always_looking")
def test_idle_connections_that_are_half_open_cost_one_time_out_together() -> None:
    """Where one does not say who answers, the others have been idle for even longer."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        link = Link(f"redis://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.1, patience_s=0.0)
        with pytest.raises(StoreUnavailableError, match="does not answer"):
            link.round([GET])


def test_connections_are_kept_alive_by_the_system(serve: Serve, connect: Connect) -> None:
    """TCP keepalive finds a peer that vanished while nobody asked it anything."""
    link = connect(serve(in_turn()))
    (node,) = link._nodes.values()
    conn = node.acquire()
    assert conn.raw._sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


@pytest.mark.parametrize(
    ("claim_s", "timeout_s", "patience_s"), [(30.0, 5.0, 10.0), (600.0, 5.0, 10.0), (6.0, 1.0, 4.0), (2.0, 0.5, 2.0)]
)
def test_times_fit_into_the_claim(claim_s: float, timeout_s: float, patience_s: float) -> None:
    """A third of a claim without a sign of life, and a time-out, leave room for another try."""
    terms = Terms.within(claim_s)
    assert (terms.timeout_s, terms.patience_s) == (timeout_s, patience_s)
    assert claim_s / 3 + 2 * terms.timeout_s < claim_s
    assert terms.wait_ms / 1000 < terms.timeout_s


def test_link_keeps_the_stricter_of_two_terms(serve: Serve, connect: Connect) -> None:
    """A bus may shorten the times of a link that somebody made, and never lengthens them."""
    link = connect(serve(in_turn()), timeout_s=0.3, patience_s=7.0)
    link.agree(Terms.within(2.0, replicas=2, marker="n:marker"))
    assert link.terms == Terms(0.3, 2.0, 2, "n:marker")
    assert link._nodes[""].timeout_s == 0.3


# -- forks -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_child_uses_no_connection_of_its_parent(serve: Serve, connect: Connect) -> None:
    """Parent and child would read each other's replies; the child makes connections of its own."""
    server = serve(lambda words: bulk(words[1]))
    link = connect(server)
    assert link.round([get("parent")]) == [b"parent"]
    child = os.fork()
    if child == 0:
        # No test machinery may run in the child.
        try:
            answered = link.round([get("child")]) == [b"child"]
        except BaseException:
            os._exit(2)
        os._exit(0 if answered else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert link.round([get("parent")]) == [b"parent"]
    assert server.connections == 2


# -- clusters ----------------------------------------------------------------------------------------------------


def test_cluster_asks_anew_who_serves_the_slots_of_a_node_that_refuses_connections(
    pair: Pair, connect: Connect
) -> None:
    """While the cluster still names the dead node, it is asked again and again, not remembered."""
    (port,) = free_ports(1)
    dead = f"127.0.0.1:{port}"
    link = connect(pair.one, "redis+cluster", patience_s=30.0)
    whole = pair.map
    pair.map = whole.replace(b":%s\r\n" % pair.two.address.rpartition(":")[2].encode(), b":%d\r\n" % port)
    assert dead not in (pair.one.address, pair.two.address)
    maps = iter([pair.map, pair.map])
    pair.reply = lambda node, words: (  # type: ignore[method-assign]
        next(maps, whole) if words[0] == "CLUSTER" else pair.answers[node](words)
    )
    assert link.round([get(LOW)]) == [b"OK"]
    assert link.node_keys() == sorted([pair.one.address, pair.two.address])


def test_redirection_without_a_host_means_the_node_that_gave_it(pair: Pair, connect: Connect) -> None:
    """As nodes answer that do not know by which name they are reached."""
    port = pair.one.address.rpartition(":")[2].encode()
    for redirection in (b"-MOVED 15495 :%s\r\n", b"-ASK 15495 :%s\r\n"):
        pair.answers["two"] = in_turn(redirection % port)
        link = connect(pair.two, "redis+cluster")
        assert link.round([get(LOW)]) == [b"OK"]
    assert pair.asked(pair.one)[-2:] == [["ASKING"], ["GET", LOW]]


def test_node_that_a_slot_was_to_move_to_is_not_asked_for_ever(pair: Pair, connect: Connect) -> None:
    """Where it cannot be reached, the node that has the slot is asked again."""
    (port,) = free_ports(1)
    pair.answers["two"] = in_turn(b"-ASK 15495 127.0.0.1:%d\r\n" % port)
    assert connect(pair.one, "redis+cluster", patience_s=30.0).round([get(LOW)]) == [b"OK"]


def test_moved_slot_is_believed_though_others_have_not_heard(pair: Pair, connect: Connect) -> None:
    """The node that served it knows best; asking the others would give the old map."""
    pair.answers["two"] = lambda words: b"-MOVED 15495 %s\r\n" % pair.one.address.encode()
    link = connect(pair.two, "redis+cluster")
    assert link.round([get(LOW)]) == [b"OK"]
    asked = len(pair.asked(pair.two))
    assert link.round([get(LOW)]) == [b"OK"]
    assert len(pair.asked(pair.two)) == asked
