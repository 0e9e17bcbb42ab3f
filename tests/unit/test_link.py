"""Round trips to servers that fail in every way: what is waited for, what is sent again, and what is said at last."""

from __future__ import annotations

import itertools
import socket
import threading
import time

import pytest
from redis.crc import key_slot

from sagabus.errors import ConfigurationError, StoreFullError, StoreRefusedError, StoreUnavailableError
from sagabus.link import EPOCH, Command, Link, Script, redact
from tests.scripted import OK, Connect, Pair, Serve, bulk, in_turn, slots
from tests.servers import free_ports

GET = Command(("GET", "k"), "k")


# -- one server --------------------------------------------------------------------------------------------------


def test_link_refuses_a_url_that_is_no_redis() -> None:
    """The error lists what it takes."""
    with pytest.raises(ConfigurationError, match=r"'amqp' is no Redis URL; use redis: rediss: unix:"):
        Link("amqp://localhost")


def test_url_is_shown_without_credentials() -> None:
    """Neither user, password nor options are in logs and errors."""
    assert redact("redis://user:secret@host:1/2?password=x") == "redis://host:1/2"
    assert Link("valkeys://:secret@host").shown_url == "valkeys://host"


def test_round_without_commands_makes_no_trip(serve: Serve, connect: Connect) -> None:
    """Nothing to send is no round trip."""
    link = connect(serve(in_turn()))
    assert link.round([]) == []
    assert link.round_trips == 0


def test_round_sends_all_commands_at_once(serve: Serve, connect: Connect) -> None:
    """Any number of commands on one server is one trip; replies come in order."""
    server = serve(in_turn(b":1\r\n", b"$-1\r\n", b"*2\r\n:1\r\n$1\r\nx\r\n"))
    link = connect(server)
    assert link.round([GET, GET, GET]) == [1, None, [1, b"x"]]
    assert link.round_trips == 1


def test_lost_connection_sends_the_round_again(serve: Serve, connect: Connect) -> None:
    """A reply that never came is asked for again, on another connection."""
    server = serve(in_turn(OK, None))
    link = connect(server)
    assert link.round([GET]) == [b"OK"]
    assert link.round([GET, GET]) == [b"OK", b"OK"]
    assert len(server.asked) == 4


def test_command_for_one_node_survives_an_idle_connection_that_has_ended(serve: Serve, connect: Connect) -> None:
    """What nobody used for a while may be gone: it is asked again on a new connection; that one's word is final."""
    link = connect(serve(in_turn(OK, None, OK, None, None)))
    assert link.round([GET]) == [b"OK"]
    assert link.on_node("", "GET", "k") == b"OK"
    with pytest.raises(StoreUnavailableError):
        link.on_node("", "GET", "k")


@pytest.mark.parametrize(
    "error",
    [
        "LOADING Redis is loading the dataset in memory",
        "READONLY You can't write against a read only replica.",
        "MASTERDOWN Link with MASTER is down",
        "CLUSTERDOWN The cluster is down",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "BUSY Redis is busy running a script.",
    ],
)
def test_server_that_will_be_back_is_waited_for(serve: Serve, connect: Connect, error: str) -> None:
    """What passes is not an error: the command concerned is sent again, the others are not."""
    server = serve(in_turn(OK, b"-%s\r\n" % error.encode(), OK))
    link = connect(server)
    assert link.round([Command(("GET", "a"), "a"), Command(("GET", "b"), "b")]) == [b"OK", b"OK"]
    if not error.startswith("LOADING"):  # a server that loads has lost the connection's state too: all goes again
        assert server.asked == [["GET", "a"], ["GET", "b"], ["GET", "b"]]


def test_server_that_went_away_is_revived() -> None:
    """A link may be told how to bring its server back; it is asked to after a lost connection, and tries again."""
    (port,) = free_ports(1)
    asked: list[int] = []
    link = Link(f"redis://127.0.0.1:{port}", patience_s=0.3, revive=lambda: asked.append(1))
    with pytest.raises(StoreUnavailableError):
        link.round([GET])
    assert asked


def test_patience_has_an_end(serve: Serve, connect: Connect) -> None:
    """A server that stays away is reported with its URL and the last reason."""
    server = serve(lambda words: b"-LOADING still\r\n")
    with pytest.raises(StoreUnavailableError, match=f"store at redis://{server.address} does not answer .*still"):
        connect(server, patience_s=0.03).round([GET])


def test_server_that_is_not_there_is_unavailable() -> None:
    """Nobody listens: said after the patience, without credentials, for every way to ask."""
    (port,) = free_ports(1)
    link = Link(f"redis://u:secret@127.0.0.1:{port}", patience_s=0.02)
    for ask in (lambda: link.round([GET]), link.server, lambda: link.on_node("", "INFO")):
        with pytest.raises(StoreUnavailableError) as caught:
            ask()
        assert caught.value.url == f"redis://127.0.0.1:{port}"
        assert "secret" not in str(caught.value)


def test_waiting_for_a_server_is_said_once_until_it_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], serve: Serve, connect: Connect
) -> None:
    """Whoever looks at a command that waits is told for what, and for how long at most."""
    monkeypatch.setattr("sagabus.link.link._SAID_AFTER_S", 0.0)
    loading = itertools.cycle([b"-LOADING still\r\n", b"-LOADING still\r\n", b"-LOADING still\r\n", b"+OK\r\n"])
    link = connect(serve(lambda words: next(loading)), patience_s=30.0)
    for rounds in (1, 2):
        assert link.round([GET]) == [b"OK"]
        said = capsys.readouterr().err
        assert said.count("waiting-for-server") == 1, rounds
        assert "does not answer" in said
        assert "for_s=" in said


def test_server_that_answers_soon_again_is_waited_for_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], serve: Serve, connect: Connect
) -> None:
    """Failovers and restarts of a moment are nothing to look at."""
    monkeypatch.setattr("sagabus.link.link._SAID_AFTER_S", 20.0)
    assert connect(serve(in_turn(b"-LOADING still\r\n", OK)), patience_s=30.0).round([GET]) == [b"OK"]
    assert capsys.readouterr().err == ""


def test_time_that_a_command_blocks_is_no_waiting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], serve: Serve, connect: Connect
) -> None:
    """A lane that has slept for long when its connection is lost, and has another at once, has waited for nobody."""
    monkeypatch.setattr("sagabus.link.link._SAID_AFTER_S", 0.1)
    calls = itertools.count()

    def blocks_first(words: list[str]) -> bytes | None:
        if next(calls):
            return OK
        time.sleep(0.3)
        return None

    assert connect(serve(blocks_first), patience_s=30.0).round([GET]) == [b"OK"]
    assert capsys.readouterr().err == ""


def test_waiting_is_said_once_though_others_are_answered_meanwhile(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], serve: Serve, connect: Connect
) -> None:
    """As with one node of a cluster that is down."""
    monkeypatch.setattr("sagabus.link.link._SAID_AFTER_S", 0.0)
    link = connect(serve(lambda words: b"-LOADING still\r\n" if words[-1] == "bad" else OK), patience_s=1.0)

    def wait_in_vain() -> None:
        with pytest.raises(StoreUnavailableError):
            link.round([Command(("GET", "bad"), "bad")])

    waiting = threading.Thread(target=wait_in_vain)
    waiting.start()
    while waiting.is_alive():
        assert link.round([GET]) == [b"OK"]
    waiting.join()
    assert capsys.readouterr().err.count("waiting-for-server") == 1


def test_silent_server_is_given_up_after_the_timeout() -> None:
    """A server that accepts and never answers is unavailable too."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        link = Link(f"redis://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.02, patience_s=0.02)
        with pytest.raises(StoreUnavailableError, match="does not answer"):
            link.round([GET])


def test_refused_command_is_an_error_that_names_it(serve: Serve, connect: Connect) -> None:
    """`round` raises for the first refusal; `try_round` gives each its own reply."""
    server = serve(lambda words: OK if words[0] == "GET" else b"-WRONGTYPE no list\r\n")
    link = connect(server)
    with pytest.raises(StoreRefusedError, match=r"the server refused LPUSH: .*no list"):
        link.round([GET, Command(("LPUSH", "k", "x"), "k")])
    ok, refused = link.try_round([GET, Command(("LPUSH", "k", "x"), "k")])
    assert (ok, type(refused).__name__) == (b"OK", "ResponseError")
    with pytest.raises(StoreRefusedError, match="the server refused LPUSH"):
        link.on_node("", "LPUSH", "k", "x")


def test_full_server_is_an_error_of_its_own(serve: Serve, connect: Connect) -> None:
    """Out of memory names the script or command, and what to do."""
    server = serve(lambda words: b"-OOM command not allowed when used memory > 'maxmemory'.\r\n")
    script = Script("commit", "return 1", "sha")
    for command, name in ((GET, "GET"), (script.call(("k",), ()), "commit")):
        with pytest.raises(StoreFullError, match=f"out of memory and refused {name}; free some or raise maxmemory"):
            connect(server).round([command])


def test_unknown_script_is_sent_whole_at_once(serve: Serve, connect: Connect) -> None:
    """Scripts are not kept: EVAL follows without waiting, for the commands concerned only."""
    server = serve(lambda words: b"-NOSCRIPT No matching script.\r\n" if words[0] == "EVALSHA" else OK)
    link = connect(server)
    script = Script("load", "return ARGV[1]", "abc")
    assert link.round([GET, script.call(("k",), ("x",))]) == [b"OK", b"OK"]
    assert server.asked[-1] == ["EVAL", "return ARGV[1]", "1", "k", "x"]
    assert [words[0] for words in server.asked] == ["GET", "EVALSHA", "EVAL"]
    assert link.round_trips == 2


def test_epoch_is_that_of_the_connection_a_command_goes_out_on(serve: Serve, connect: Connect) -> None:
    """After a failover a resend carries the new primary's epoch, so a lost counter is never used again."""
    server = serve(in_turn(OK, None))
    link = connect(server)
    command = Command(("SET", "k", EPOCH), "k")
    link.round([command])
    server.run_id = "run-2"
    link.round([command])
    first, lost, resent = (words[2] for words in server.asked)
    assert first == lost != resent
    assert len(resent) == 12


def test_server_is_identified_by_run_id_and_database(serve: Serve, connect: Connect) -> None:
    """Two links to one server and database may share an atomic write."""
    server = serve(in_turn())
    identity = connect(server).server()
    assert identity is not None
    assert (identity.run_id, identity.db) == ("run-1", 0)
    second = Link(f"redis://{server.address}/3").server()
    assert second is not None
    assert second.db == 3


# -- a cluster ---------------------------------------------------------------------------------------------------


LOW, HIGH = "a", "b"
assert key_slot(LOW.encode()) > 8191 >= key_slot(HIGH.encode())


def get(key: str) -> Command:
    """Return a command for the node of *key*."""
    return Command(("GET", key), key)


def test_cluster_sends_each_node_its_own_in_one_trip(pair: Pair, connect: Connect) -> None:
    """Commands go to the node of their key, replies come in order, and it counts as one trip."""
    pair.answers = {"one": lambda words: bulk("1"), "two": lambda words: bulk("2")}
    link = connect(pair.one, "redis+cluster")
    assert link.round([get(LOW), get(HIGH), get(LOW)]) == [b"2", b"1", b"2"]
    assert link.round_trips == 1
    assert link.round([Command(("PING",), None)]) in ([b"1"], [b"2"])
    assert link.node_keys() == sorted([pair.one.address, pair.two.address])
    assert link.server() is None


def test_cluster_follows_a_slot_that_moved(pair: Pair, connect: Connect) -> None:
    """MOVED asks for the map again and sends the command concerned to its new node."""
    link = connect(pair.one, "valkey+cluster")
    link.round([get(LOW)])
    pair.map = slots((0, 16383, pair.one.address))
    pair.answers["two"] = lambda words: b"-MOVED 15495 %s\r\n" % pair.one.address.encode()
    assert link.round([get(LOW), get(HIGH)]) == [b"OK", b"OK"]
    assert ["GET", LOW] in pair.asked(pair.one)


def test_cluster_whose_nodes_disagree_is_waited_for(pair: Pair, connect: Connect) -> None:
    """Nodes that each name the other as the slot's are not asked in circles for ever."""
    moved = b"-MOVED 15495 %s\r\n"
    pair.answers["one"] = lambda words: moved % pair.two.address.encode()
    pair.answers["two"] = lambda words: moved % pair.one.address.encode()
    link = connect(pair.one, "redis+cluster", patience_s=0.02)
    with pytest.raises(StoreUnavailableError, match="from one to the other"):
        link.round([get(LOW)])
    assert len(pair.asked(pair.two)) < 20
    pair.answers["two"] = in_turn()
    assert link.round([get(LOW)]) == [b"OK"]


def test_cluster_asks_the_node_that_a_slot_moves_to(pair: Pair, connect: Connect) -> None:
    """ASK sends the one command to the other node, after ASKING."""
    pair.answers["two"] = in_turn(b"-ASK 15495 %s\r\n" % pair.one.address.encode())
    link = connect(pair.one, "redis+cluster")
    assert link.round([get(LOW)]) == [b"OK"]
    assert pair.asked(pair.one) == [["ASKING"], ["GET", LOW]]
    assert link.round([get(LOW)]) == [b"OK"]
    assert pair.asked(pair.two)[-1] == ["GET", LOW]


def test_cluster_that_lost_a_node_finds_its_successor(pair: Pair, connect: Connect) -> None:
    """A node that is gone is no seed: another one is asked who serves its slots now."""
    link = connect(pair.one, "redis+cluster")
    link.round([get(LOW), get(HIGH)])
    pair.map = slots((0, 16383, pair.one.address))
    pair.answers["two"] = lambda words: None
    pair.two.close()
    assert link.round([get(LOW)]) == [b"OK"]


def test_cluster_with_uncovered_slots_is_waited_for(pair: Pair, connect: Connect) -> None:
    """While some slots have no node nothing is sent; patience has an end here too."""
    whole = pair.map
    pair.map = slots((0, 8191, pair.one.address))
    link = connect(pair.one, "redis+cluster", patience_s=0.02)
    with pytest.raises(StoreUnavailableError, match="not covered"):
        link.round([get(LOW)])
    pair.map = whole
    assert link.round([get(LOW)]) == [b"OK"]


def test_cluster_that_refuses_to_say_its_slots_is_unavailable(pair: Pair, connect: Connect) -> None:
    """A server that is no cluster member says so in the error."""
    pair.map = b"-ERR This instance has cluster support disabled\r\n"
    with pytest.raises(StoreUnavailableError, match="cluster support disabled"):
        connect(pair.one, "redis+cluster", patience_s=0.02).round([get(LOW)])
