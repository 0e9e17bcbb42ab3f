"""What a link waits for where replicas must have what it wrote, and what it does when they do not."""

from __future__ import annotations

import pytest
from redis.crc import key_slot

from sagabus.errors import NotReplicatedError
from sagabus.link import EPOCH, Command, Link, Script, as_error
from sagabus.link.answers import NotReplicated
from tests.scripted import OK, Connect, Pair, Serve

PUT = Command(("SET", "k", "v"), "k")
READ = Command(("XREADGROUP", "GROUP", "g", "c", "BLOCK", 1, "STREAMS", "s", ">"), "s")
ACK = Command(("XACK", "s", "g", "1-1"), "s")
MARK = ["SET", "sagabus:marker", ""]
QUICK = {"replicas": 2, "timeout_s": 2.0, "patience_s": 0.05}


class Primary:
    """A scripted primary, with as many replicas that confirm as a test says."""

    def __init__(self, serve: Serve, confirmed: int = 2) -> None:
        self.confirmed = confirmed
        self.server = serve(self.answer)

    def answer(self, words: list[str]) -> bytes | None:
        return b":%d\r\n" % self.confirmed if words[0] == "WAIT" else OK

    def link(self, connect: Connect, **options: float) -> Link:
        return connect(self.server, **(QUICK | options))

    @property
    def asked(self) -> list[list[str]]:
        return self.server.asked

    @property
    def written(self) -> list[list[str]]:
        return [words for words in self.asked if words[:2] == ["SET", "k"]]


def test_replicas_are_asked_behind_the_writes_and_before_what_blocks(serve: Serve, connect: Connect) -> None:
    """One round trip still: writes, a marker, WAIT, and then the read that may block."""
    primary = Primary(serve)
    link = primary.link(connect)
    assert link.round([PUT, ACK, READ]) == [b"OK", b"OK", b"OK"]
    assert [words[0] for words in primary.asked] == ["SET", "SET", "WAIT", "XACK", "XREADGROUP"]
    assert primary.asked[1:3] == [MARK, ["WAIT", "2", "1000"]]
    assert link.round_trips == 1


@pytest.mark.parametrize(
    "command",
    [
        Command(("GET", "k"), "k"),
        READ,
        ACK,
        Command(("HDEL", "k", "f"), "k"),
        Script("load", "#!lua flags=no-writes\nreturn 1", "sha", lasting=False).call(["k"], ()),
    ],
    ids=lambda command: str(command.args[0]),
)
def test_what_may_be_lost_waits_for_no_replica(serve: Serve, connect: Connect, command: Command) -> None:
    """Reads, claims, acks and marks: a failover that loses them has the work done again, under the same ids."""
    primary = Primary(serve, confirmed=0)
    primary.link(connect).round([command])
    assert len(primary.asked) == 1


def test_script_that_writes_lasts_unless_it_says_otherwise() -> None:
    """A script without no-writes is waited for, so that none is forgotten."""
    assert Script.beside("sagabus.store", "commit.lua").lasting
    assert not Script.beside("sagabus.store", "load.lua").lasting
    assert not Script.beside("transports", "claim.lua", lasting=False).lasting


def test_write_that_too_few_confirm_is_an_error_with_the_next_step(serve: Serve, connect: Connect) -> None:
    """When the patience ends it says how many have confirmed, and what to look at."""
    primary = Primary(serve, confirmed=1)
    with pytest.raises(NotReplicatedError, match=r"1 of 2 replicas of .* look at INFO replication") as caught:
        primary.link(connect).round([PUT])
    assert (caught.value.confirmed, caught.value.wanted) == (1, 2)
    assert caught.value.url == f"redis://{primary.server.address}"


def test_what_was_read_beside_a_write_is_not_lost_with_it(serve: Serve, connect: Connect) -> None:
    """Only the write has the error as its reply: what was received in the same round belongs to who received it."""
    primary = Primary(serve, confirmed=0)
    refused, read = primary.link(connect).try_round([PUT, READ])
    assert isinstance(refused, NotReplicated)
    assert isinstance(as_error(PUT, refused), NotReplicatedError)
    assert read == b"OK"


def test_replicas_that_are_late_are_asked_again_and_nothing_is_written_twice(serve: Serve, connect: Connect) -> None:
    """While the primary lives, waiting is enough."""
    primary = Primary(serve, confirmed=0)
    waits: list[int] = []

    def answer(words: list[str]) -> bytes:
        if words[0] == "WAIT":
            waits.append(1)
            primary.confirmed = 2 if len(waits) > 2 else 0
        return primary.answer(words)  # type: ignore[return-value]

    primary.server.answer = answer
    assert primary.link(connect, patience_s=30.0).round([PUT]) == [b"OK"]
    assert len(waits) == 3
    assert len(primary.written) == 1


def test_primary_whose_replicas_are_behind_is_written_to_no_more(serve: Serve, connect: Connect) -> None:
    """What is known to reach nobody would only be lost, or be sent twice; reads go on, and so do writes, later."""
    primary = Primary(serve, confirmed=0)
    link = primary.link(connect)
    for _ in range(3):
        with pytest.raises(NotReplicatedError):
            link.round([PUT])
    assert len(primary.written) == 1
    assert link.round([READ, ACK]) == [b"OK", b"OK"]
    primary.confirmed = 2
    assert link.round([PUT]) == [b"OK"]
    assert len(primary.written) == 2


def test_write_is_made_again_where_another_primary_has_taken_over(serve: Serve, connect: Connect) -> None:
    """A new primary may never have heard of it: its confirmation of a marker would prove nothing."""
    primary = Primary(serve, confirmed=0)

    def fail_over(words: list[str]) -> bytes | None:
        if words[0] != "WAIT":
            return OK
        primary.server.answer = primary.answer
        primary.server.run_id, primary.confirmed = "run-2", 2
        return None  # and the connection is lost

    primary.server.answer = fail_over
    link = primary.link(connect, patience_s=30.0)
    assert link.round([Command(("SET", "k", EPOCH), "k")]) == [b"OK"]
    first, second = primary.written
    assert first[2] != second[2]


def test_epoch_that_changes_while_replicas_are_waited_for_has_the_write_made_again(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the connection that was written on is still there to ask on, and answers for somebody else."""
    monkeypatch.setattr("sagabus.link.node._IDLE_S", 0.0)
    primary = Primary(serve, confirmed=0)

    def fail_over(words: list[str]) -> bytes | None:
        if words[0] == "WAIT":
            primary.server.answer = primary.answer
            primary.server.run_id, primary.confirmed = "run-2", 2
            return b":0\r\n"
        return OK

    primary.server.answer = fail_over
    assert primary.link(connect, patience_s=30.0).round([PUT]) == [b"OK"]
    assert len(primary.written) == 2


def test_primary_that_became_a_replica_has_confirmed_nothing(serve: Serve, connect: Connect) -> None:
    """WAIT is refused by a replica: what was written there is written again, where the primary is then."""
    primary = Primary(serve)

    def demoted(words: list[str]) -> bytes | None:
        if words[0] == "WAIT":
            primary.server.answer = primary.answer
            return b"-ERR WAIT cannot be used with replica instances.\r\n"
        return OK

    primary.server.answer = demoted
    assert primary.link(connect, patience_s=30.0).round([PUT]) == [b"OK"]
    assert len(primary.written) == 2
    assert primary.server.connections == 2


def test_write_that_is_refused_owes_nothing(serve: Serve, connect: Connect) -> None:
    """Its own error is the reply, and nobody waits for replicas to have what was not written."""
    primary = Primary(serve, confirmed=0)
    primary.server.answer = lambda words: b":0\r\n" if words[0] == "WAIT" else b"-OOM no memory\r\n"
    link = primary.link(connect)
    (reply,) = link.try_round([PUT])
    assert not isinstance(reply, NotReplicated)
    assert len(primary.asked) == 3


def test_server_that_wants_more_replicas_itself_is_waited_for(serve: Serve, connect: Connect) -> None:
    """NOREPLICAS (min-replicas-to-write) passes when they are back."""
    primary = Primary(serve)
    left = [b"-NOREPLICAS Not enough good replicas to write.\r\n"]
    primary.server.answer = lambda words: left.pop() if left and words[:2] == ["SET", "k"] else primary.answer(words)
    assert primary.link(connect, patience_s=30.0).round([PUT]) == [b"OK"]


def test_cover_waits_for_what_others_wrote(serve: Serve, connect: Connect) -> None:
    """WAIT asks about one's own last write only: a marker makes it ask about everybody's."""
    primary = Primary(serve)
    primary.link(connect).cover(["k"])
    assert primary.asked == [["EXISTS", "k"], MARK, ["WAIT", "2", "1000"]]
    primary.asked.clear()
    primary.link(connect, replicas=0).cover(["k"])
    assert primary.asked == []


def test_every_node_that_was_written_to_is_asked(pair: Pair, connect: Connect) -> None:
    """On a cluster each primary has replicas and a marker of its own, in a slot that it serves."""
    pair.answers = dict.fromkeys(("one", "two"), lambda words: b":2\r\n" if words[0] == "WAIT" else OK)
    link = connect(pair.one, "redis+cluster", **QUICK)
    link.round([Command(("SET", "a", "v"), "a"), Command(("SET", "b", "v"), "b"), Command(("GET", "a"), "a")])
    for server, low in ((pair.one, True), (pair.two, False)):
        asked = pair.asked(server)
        assert [words[0] for words in asked][:3] == ["SET", "SET", "WAIT"]
        assert (key_slot(asked[1][1].encode()) <= 8191) is low
    pair.asked(pair.one).clear()


def test_marker_in_a_slot_that_moves_is_followed_by_another(pair: Pair, connect: Connect) -> None:
    """A marker that was not written proves nothing; the next one is in another slot."""
    markers: list[str] = []

    def answer(words: list[str]) -> bytes:
        if words[0] == "WAIT":
            return b":2\r\n"
        if words[0] == "SET" and "marker" in words[1]:
            markers.append(words[1])
            if len(markers) == 1:
                return b"-TRYAGAIN the slot moves\r\n"
        return OK

    pair.answers["one"] = answer
    link = connect(pair.one, "redis+cluster", **(QUICK | {"patience_s": 30.0}))
    assert link.round([Command(("SET", "b", "v"), "b")]) == [b"OK"]
    assert len(set(markers)) == 2
