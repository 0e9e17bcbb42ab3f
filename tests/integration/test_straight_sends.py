"""Commits that put what they send straight into the queues of their server: what goes, what waits, and that once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from attrs import define, field

from sagabus import Bus, Context, MergeSagaState, Saga, handles, message, starts
from sagabus.commit import Commit, HistoryEntry, Lifecycle, Outcome, Result
from sagabus.definition import SagaDefinition
from sagabus.envelope import encode
from sagabus.errors import CorruptRecordError
from sagabus.link import node
from sagabus.observe.log import get_logger
from sagabus.outgoing import Outgoing, OutgoingKind, from_lines, merge_id
from sagabus.runtime.dispatch import Dispatcher
from sagabus.store.memory import MemoryStore
from sagabus.store.protocol import Store
from sagabus.store.redis import RedisStore
from sagabus.terms import Terms
from sagabus.transport import Outlet, outlet_of
from tests.changes import evolve
from tests.integration.apps import Failpoints, put
from tests.integration.test_runtime import working
from tests.sagas_for_tests import Hand, incoming
from tests.servers import until
from transports.memory import MemoryTransport
from transports.redis_streams import RedisStreamsTransport


@message("straight.do")
class Do:
    """Has its saga do one thing a word."""

    key: str
    what: str = ""


@message("straight.work")
class Work:
    key: str
    number: int = 0


@message("straight.happened")
class Happened:
    key: str


@message("straight.decided")
class Decided:
    key: str


@message("straight.unheard")
class Unheard:
    key: str


@message("straight.tick")
class Tick:
    pass


@define
class Words:
    words: set[str] = field(factory=set)


def all_words(siblings: Any) -> Words:
    return Words(set().union(*(s.words for s in siblings)))


class Posting(Saga[Words], key="key", merger=all_words):
    """Sends what it is told to; decides where it has heard `verdict`, and ends where it has heard `end`."""

    @starts
    def did(self, m: Do) -> None:
        self._do(m.what)

    @handles
    def merged(self, m: MergeSagaState) -> None: ...

    @handles
    def ticked(self, m: Tick) -> None: ...

    def on_late(self, m: Any) -> None:
        self.send(Work(self.id, 100), to="work")

    def decide(self) -> None:
        if "verdict" in self.state.words:
            self.publish(Decided(self.id))
        if "end" in self.state.words:
            self.complete()

    def _do(self, what: str) -> None:
        for number, word in enumerate(what.split()):
            self.state.words.add(word)
            match word:
                case "command":
                    self.send(Work(self.id, number), to="work")
                case "event":
                    self.publish(Happened(self.id))
                case "unheard":
                    self.publish(Unheard(self.id))
                case "timer":
                    self.defer(Tick(), after=3600.0, name="tick")
                case "lost":
                    self.send(Work(self.id, number), to="nowhere")
                case _:
                    pass


@message("straight.do-alone")
class DoAlone:
    key: str
    what: str = ""


class Guarded(Posting, key="key", exclusive=True):
    """The same under a lease, a message at a time."""

    @starts
    def did_alone(self, m: DoAlone) -> None:
        self._do(m.what)


@define
class Office:
    """A bus with its sagas and its queues on one server, and what its consumers have received.

    Attributes:
        received: (endpoint, message id) -> how often.
    """

    bus: Bus
    client: Any
    namespace: str
    received: Counter[tuple[str, str]] = field(factory=Counter)

    @property
    def store(self) -> RedisStore:
        store = self.bus.store
        assert isinstance(store, RedisStore)
        return store

    @property
    def transport(self) -> RedisStreamsTransport:
        transport = self.bus.transport
        assert isinstance(transport, RedisStreamsTransport)
        return transport

    @property
    def outlet(self) -> Outlet:
        found = self.transport.outlet()
        assert found is not None
        return found

    @property
    def definition(self) -> SagaDefinition:
        found = self.bus.saga("Posting")
        assert found is not None
        return found

    def hand(self, id_: str = "1") -> Hand:
        return Hand(self.store, self.definition, id_)

    def run(self, hand: Hand, **messages: str) -> Commit:
        """Return the commit of a saga that is told words: message id -> words."""
        tasks = [incoming(Do(hand.id, what), id_) for id_, what in messages.items()]
        return hand.run(hand.load(*messages), *tasks)

    def commit(self, *commits: Commit, outlet: Outlet | None = None) -> list[Result]:
        return self.store.commit(commits, by="w", outlet=outlet or self.outlet)

    def prefix(self, hand: Hand) -> str:
        return f"{self.namespace}:{{{self.namespace}:{hand.key.tag()}}}:"

    def stream(self, endpoint: str, partition: int = 0) -> str:
        return f"{self.namespace}:q:{{{endpoint}:{partition}}}"

    def queued(self, endpoint: str, partition: int = 0) -> list[bytes]:
        """Return the bodies in a queue, oldest first."""
        entries = self.client.xrange(self.stream(endpoint, partition))
        assert all(list(fields) == [b"b"] for _, fields in entries)
        return [fields[b"b"] for _, fields in entries]

    def outboxes(self) -> list[bytes]:
        """Return the keys of all outboxes that are there."""
        return [key for key in self.client.scan_iter(f"{self.namespace}:*") if key.endswith(b"}:o")]

    def again(self, commit: Commit) -> None:
        """Have a worker get the messages of *commit* once more, as where their ack was lost."""
        for envelope in commit.messages:
            put(self.bus, "posting", encode(envelope))
        self.bus.worker().run_until_idle()


def office(url: str, namespace: str, store: Any = None, **options: Any) -> Office:
    """Return an office in *namespace*; *options* are those of the endpoint `work`."""
    made = Office(Bus(store=store or url, transport=url, namespace=namespace), redis.Redis.from_url(url), namespace)
    made.bus.endpoint("posting", Posting)
    made.bus.endpoint("guarded", Guarded)
    work, ears, others = made.bus.endpoint("work", **options), made.bus.endpoint("ears"), made.bus.endpoint("others")

    @work.consumer
    def worked(m: Work, context: Context) -> None:
        made.received["work", context.message_id] += 1

    @ears.consumer(Happened, Decided)
    def heard(m: Any, context: Context) -> None:
        made.received["ears", context.message_id] += 1

    @others.consumer(Decided)
    def heard_too(m: Decided, context: Context) -> None:
        made.received["others", context.message_id] += 1

    return made


@pytest.fixture
def make_office(valkey_url: str, namespace: str) -> Iterator[Callable[..., Office]]:
    """Return what makes offices, each in a namespace of its own."""
    made: list[Office] = []

    def make(**options: Any) -> Office:
        made.append(office(valkey_url, f"{namespace}-{len(made)}", **options))
        return made[-1]

    yield make
    for one in made:
        one.bus.close()
        one.client.close()


@pytest.fixture
def here(make_office: Callable[..., Office]) -> Office:
    return make_office()


def said(commit: Commit, id_: str) -> list[Outgoing]:
    """Return all that a message has caused, should its commit be stored."""
    decided = commit.decision.outgoing if commit.decision else {}
    return [*commit.facts.outgoing.get(id_, ()), *decided.get(id_, ())]


def bodies(commit: Commit, *ids: str) -> list[bytes]:
    return [outgoing.body for id_ in ids or commit.ids for outgoing in said(commit, id_)]


def those(*ids: str) -> frozenset[str]:
    return frozenset(ids)


def timeless(history: list[HistoryEntry]) -> list[HistoryEntry]:
    return [evolve(entry, at_ms=0) for entry in history]


def watched(monkeypatch: pytest.MonkeyPatch) -> list[Result]:
    """Return a list that gets the results of all commits from now on."""
    results: list[Result] = []
    real = RedisStore.commit

    def commit(self: RedisStore, commits: Any, *, by: str, outlet: Outlet | None = None) -> list[Result]:
        made = real(self, commits, by=by, outlet=outlet)
        results.extend(made)
        return made

    monkeypatch.setattr(RedisStore, "commit", commit)
    return results


# -- what goes ---------------------------------------------------------------------------------------------------


def test_stored_commit_puts_commands_and_events_into_their_queues_at_once(make_office: Callable[..., Office]) -> None:
    """They are there with the commit, and no outbox is; the same commit by way of the outbox holds the same bytes."""
    here, there = make_office(), make_office()
    hand, twin = here.hand(), there.hand()
    commit = here.run(hand, one="command event", two="command command", three="")
    (result,) = here.commit(commit)
    assert (result.outcome, result.sent) == (Outcome.STORED, those("one", "two"))
    assert there.store.commit([commit], by="w") == [evolve(result, sent=frozenset())]
    lines = {id_: from_lines(lines) for id_, lines in twin.load(*commit.ids).consumed.items()}
    assert {id_: messages for id_, (messages, _) in lines.items()} == {id_: said(commit, id_) for id_ in commit.ids}
    waiting = [outgoing for id_ in commit.ids for outgoing in lines[id_][0]]
    assert here.queued("work") == [m.body for m in waiting if m.kind is OutgoingKind.COMMAND]
    assert here.queued("ears") == [m.body for m in waiting if m.kind is OutgoingKind.EVENT]
    assert (len(here.queued("work")), len(here.queued("ears")), here.queued("others")) == (3, 1, [])
    assert hand.load(*commit.ids).consumed == dict.fromkeys(commit.ids, b"")
    assert here.outboxes() == []
    assert (there.queued("work"), len(there.outboxes())) == ([], 1)
    assert timeless(here.store.history(hand.key)) == timeless(there.store.history(twin.key))
    assert hand.load().versions == twin.load().versions


def test_event_goes_to_every_subscriber(here: Office) -> None:
    """One that nobody has subscribed to goes nowhere, is no reason to wait, and counts as sent."""
    hand = here.hand()
    (result,) = here.commit(here.run(hand, nobody="unheard", first="event", both="verdict"))
    assert result.sent == {"nobody", "first", "both"}
    assert (len(here.queued("ears")), len(here.queued("others"))) == (2, 1)
    assert here.queued("ears")[1:] == here.queued("others")
    assert (here.queued("work"), here.queued("posting"), here.outboxes()) == ([], [], [])


def test_bytes_of_any_kind_arrive_as_they_are(here: Office) -> None:
    """Quotes, brackets and what is no ASCII: nothing of a body is read on its way."""
    hand = here.hand("]\"'\\ü€ 100%]}")
    commit = here.run(hand, one="command event verdict")
    here.commit(commit)
    assert here.queued("work") + here.queued("ears") == bodies(commit)
    here.bus.worker().run_until_idle()
    assert set(here.received.values()) == {1}
    assert len(here.received) == 4
    assert here.bus.store.dead() == []


def test_late_message_is_answered_straight(here: Office) -> None:
    """What `on_late` sends needs no outbox either."""
    hand = here.hand()
    here.commit(here.run(hand, one="end"))
    assert hand.load().lifecycle is Lifecycle.COMPLETED
    late = here.run(hand, two="")
    (result,) = here.commit(late)
    assert (result.outcome, result.sent) == (Outcome.LATE, those("two"))
    assert here.queued("work") == bodies(late)
    assert hand.load("two").consumed == {"two": b""}


# -- facts and decisions -----------------------------------------------------------------------------------------


def test_decision_of_a_stored_commit_goes_with_its_facts(here: Office) -> None:
    """Under the last id, behind what the handlers have sent."""
    hand = here.hand()
    commit = here.run(hand, one="command", two="event verdict")
    (result,) = here.commit(commit)
    assert (result.outcome, result.sent) == (Outcome.STORED, those("one", "two"))
    assert here.queued("work") == bodies(commit, "one")
    assert here.queued("ears") == bodies(commit, "two")
    assert here.queued("others") == bodies(commit, "two")[1:]
    assert here.outboxes() == []


def test_fork_sends_its_facts_and_no_decision(here: Office) -> None:
    """The verdict never leaves; the merge that was posted waits in the outbox, under the last id."""
    hand = here.hand()
    here.commit(here.run(hand, start=""))
    left, right = here.run(hand, left="other"), here.run(hand, first="command", last="event verdict")
    assert right.decision is not None
    here.commit(left)
    (result,) = here.commit(right)
    assert (result.outcome, result.posted_merge, result.sent) == (Outcome.FORKED, True, those("first", "last"))
    assert here.queued("work") == [m.body for m in right.facts.outgoing["first"]]
    assert here.queued("ears") == [m.body for m in right.facts.outgoing["last"]]
    assert here.queued("others") == []
    snapshot = hand.load("first", "last")
    assert snapshot.consumed["first"] == b""
    assert from_lines(snapshot.consumed["last"]) == ([], True)
    here.again(right)
    settled = hand.load("first", "last", merge_id(hand.key, 1, "last"))
    assert set(settled.consumed.values()) == {b""}
    assert (len(settled.versions), here.outboxes()) == (1, [])
    # Of the run that merges, and of no other.
    assert Counter(endpoint for endpoint, _ in here.received) == {"work": 1, "ears": 2, "others": 1}
    assert set(here.received.values()) == {1}


def test_fork_whose_last_message_has_set_a_timer_keeps_its_facts_and_the_merge_together(here: Office) -> None:
    """What waits anyway waits in the order in which it was said."""
    hand = here.hand()
    here.commit(here.run(hand, start=""))
    left, right = here.run(hand, left="other"), here.run(hand, first="command", last="timer event verdict")
    here.commit(left)
    (result,) = here.commit(right)
    assert (result.outcome, result.posted_merge, result.sent) == (Outcome.FORKED, True, those("first"))
    assert from_lines(hand.load("last").consumed["last"]) == (list(right.facts.outgoing["last"]), True)
    assert (len(here.queued("work")), here.queued("ears")) == (1, [])


# -- what waits --------------------------------------------------------------------------------------------------


def full(here: Office, outlet: Outlet) -> Outlet:
    put(here.bus, "work", encode(incoming(Work("filler"), "filler").envelope))
    return outlet


def changed(here: Office, outlet: Outlet) -> Outlet:
    other = RedisStreamsTransport(here.transport.link.url, namespace=here.namespace)
    other.declare("another", subscriptions=["straight.happened"])
    other.close()
    return outlet


def as_it_is(here: Office, outlet: Outlet) -> Outlet:
    return outlet


@pytest.mark.parametrize(
    ("trouble", "words", "straight"),
    [
        (full, "command event", set()),
        (changed, "command event", set()),
        (as_it_is, "command lost event", {"plain"}),
        (as_it_is, "event timer command", {"plain"}),
    ],
    ids=["full queue", "other topology", "unknown endpoint", "timer"],
)
def test_what_cannot_go_straight_waits_whole_and_is_dispatched_once(
    make_office: Callable[..., Office],
    trouble: Callable[[Office, Outlet], Outlet],
    words: str,
    straight: set[str],
) -> None:
    """Nothing of what that message has caused goes; the outbox reads as it was written, and a worker sends the rest."""
    here = make_office(max_length=1)
    hand = here.hand()
    outlet = trouble(here, here.outlet)
    before = here.queued("work")
    commit = here.run(hand, waits=words, plain="unheard" if trouble is as_it_is else "command unheard")
    (result,) = here.commit(commit, outlet=outlet)
    assert (result.outcome, result.sent) == (Outcome.STORED, those(*straight))
    assert (here.queued("work"), here.queued("ears")) == (before, [])
    consumed = hand.load(*commit.ids).consumed
    assert from_lines(consumed["waits"]) == (said(commit, "waits"), False)
    assert from_lines(consumed["plain"]) == ([] if straight else said(commit, "plain"), False)
    # Room for what comes; a full queue would only slow this down.
    here.bus.worker(["work"]).run_until_idle()
    here.received.clear()
    here.again(commit)
    here.again(commit)
    queues = {OutgoingKind.COMMAND: "work", OutgoingKind.EVENT: "ears"}
    wanted = {
        (queues[m.kind], m.id)
        for id_ in commit.ids
        for m in said(commit, id_)
        if m.kind is not OutgoingKind.TIMER and m.to not in ("nowhere", "straight.unheard")
    }
    assert here.received == dict.fromkeys(wanted, 1)
    assert [letter.id for letter in here.bus.store.dead()] == [m.id for m in said(commit, "waits") if m.to == "nowhere"]
    assert [s.id for s in here.bus.store.scheduled()] == [
        m.id for m in said(commit, "waits") if m.kind is OutgoingKind.TIMER
    ]
    assert here.outboxes() == []
    if trouble is changed:
        assert here.client.xlen(here.stream("another")) == 1, "a subscriber that the commit did not know of"


@pytest.mark.parametrize("held_up", ["timer", "lost"])
def test_decision_waits_with_the_message_that_it_was_taken_for(here: Office, held_up: str) -> None:
    """Also where what other messages of the commit have caused goes straight: a crash must leave none of it unsent."""
    hand = here.hand()
    commit = here.run(hand, one="command", two=f"{held_up} verdict")
    assert commit.decision is not None
    assert commit.decision.outgoing["two"]
    (result,) = here.commit(commit)
    assert (result.outcome, result.sent) == (Outcome.STORED, {"one"})
    consumed = hand.load(*commit.ids).consumed
    assert consumed["one"] == b""
    assert from_lines(consumed["two"])[0] == said(commit, "two")
    assert set(commit.decision.outgoing["two"]) <= set(from_lines(consumed["two"])[0])


def test_what_another_message_cannot_send_straight_holds_up_no_neighbour(here: Office) -> None:
    """In one commit, each message for itself: only what a timer, or nobody, belongs to waits."""
    hand = here.hand()
    commit = here.run(hand, one="command", two="timer command", three="lost command", four="command")
    (result,) = here.commit(commit)
    assert result.sent == {"one", "four"}
    assert here.queued("work") == bodies(commit, "one", "four")
    consumed = hand.load(*commit.ids).consumed
    assert {id_: from_lines(lines)[0] for id_, lines in consumed.items()} == {
        "one": [],
        "two": said(commit, "two"),
        "three": said(commit, "three"),
        "four": [],
    }


def test_topology_that_is_known_again_is_used_again(here: Office) -> None:
    """The next dispatch learns of the change; commits after it go straight, to the new subscriber too."""
    hand = here.hand()
    changed(here, here.outlet)
    (result,) = here.commit(waits := here.run(hand, one="event"))
    assert result.sent == set()
    here.again(waits)
    (result,) = here.commit(here.run(hand, two="event"))
    assert result.sent == {"two"}
    assert (here.client.xlen(here.stream("another")), len(here.queued("ears"))) == (2, 1)


def test_one_full_queue_keeps_back_all_sagas_of_a_call(make_office: Callable[..., Office]) -> None:
    """It is decided once, before the first of them: all go, or all wait."""
    here = make_office(max_length=1)
    full(here, here.outlet)
    commits = [here.run(here.hand("a"), a="event"), here.run(here.hand("b"), b="command")]
    assert [result.sent for result in here.commit(*commits)] == [set(), set()]
    assert here.queued("ears") == []
    for commit, id_ in zip(commits, "ab", strict=True):
        assert from_lines(here.hand(id_).load(id_).consumed[id_])[0] == said(commit, id_)
    # Without the one for the full queue nobody asks how long that is.
    assert here.commit(here.run(here.hand("c"), c="event"))[0].sent == {"c"}


# -- the same again ----------------------------------------------------------------------------------------------


def test_commit_that_comes_again_sends_nothing_again(here: Office) -> None:
    """Whoever did not hear of the first one is told that it is a duplicate, which has left nothing undispatched."""
    hand = here.hand()
    commit = here.run(hand, one="command", two="event verdict")
    here.commit(commit)
    history = here.store.history(hand.key)
    (again,) = here.commit(commit)
    assert (again.outcome, again.consumed) == (Outcome.DUPLICATE, {"one": b"", "two": b""})
    assert [len(here.queued(endpoint)) for endpoint in ("work", "ears", "others")] == [1, 2, 1]
    assert here.store.history(hand.key) == history


def test_run_that_was_overtaken_sends_nothing(here: Office) -> None:
    """A part of its messages was consumed meanwhile: it is made again, without them."""
    hand = here.hand()
    both = here.run(hand, one="command", two="event")
    here.commit(here.run(hand, one="command"))
    (result,) = here.commit(both)
    assert (result.outcome, result.reason, result.consumed) == (Outcome.AGAIN, "consumed", {"one": b""})
    assert (len(here.queued("work")), here.queued("ears")) == (1, [])
    assert here.commit(here.run(hand, one="command", two="event"))[0].sent == {"two"}
    assert (len(here.queued("work")), len(here.queued("ears"))) == (1, 1)


def test_result_of_a_commit_that_stored_nothing_says_that_nothing_was_sent(here: Office) -> None:
    """Neither where it is a duplicate, nor where it is to be made again."""
    hand = here.hand()
    both, one = here.run(hand, one="command", two="event"), here.run(hand, one="command")
    assert here.commit(one)[0].sent == {"one"}
    assert [(result.outcome, result.sent) for result in here.commit(one)] == [(Outcome.DUPLICATE, those())]
    assert [(result.outcome, result.sent) for result in here.commit(both)] == [(Outcome.AGAIN, those())]


@pytest.fixture
def cut_replies(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list whose first number is how many of the next replies to a commit are lost on the way."""
    left = [0]

    def read(conn: Any, timeout_s: float) -> Any:
        reply = node.read(conn, timeout_s)
        is_commit = isinstance(reply, list) and len(reply) > 2 and reply[1] == 1 and isinstance(reply[2], list)
        if left[0] and is_commit:
            left[0] -= 1
            conn.raw.disconnect()
            raise redis.ConnectionError("cut")
        return reply

    monkeypatch.setattr("sagabus.link.round.read", read)
    return left


def test_commit_whose_reply_was_lost_sends_once(here: Office, cut_replies: list[int]) -> None:
    """It is made again by the connection, and again nobody gets anything a second time."""
    hand = here.hand()
    here.commit(here.run(hand, start=""))
    cut_replies[0] = 2
    (result,) = here.commit(here.run(hand, one="command event"))
    assert cut_replies == [0]
    assert result.outcome is Outcome.DUPLICATE
    assert (len(here.queued("work")), len(here.queued("ears"))) == (1, 1)


def test_worker_whose_commits_lose_their_replies_sends_once(here: Office, cut_replies: list[int]) -> None:
    """It takes its own commits for somebody else's, and is through with their messages all the same."""
    tasks = [Do(str(number % 5), "command event") for number in range(20)]
    ids = here.bus.send_many(tasks, to="posting")
    cut_replies[0] = 1
    here.bus.worker().run_until_idle()
    assert cut_replies == [0]
    assert Counter(endpoint for endpoint, _ in here.received) == {"work": 20, "ears": 20}
    assert set(here.received.values()) == {1}
    assert (here.outboxes(), here.queued("posting"), len(ids)) == ([], [], 20)


# -- foreign values ----------------------------------------------------------------------------------------------


def test_foreign_value_under_a_queue_has_everything_wait(here: Office) -> None:
    """Whoever put it there mends it; until then the messages are in the outbox, of other queues too."""
    hand = here.hand()
    outlet = here.outlet
    here.client.delete(here.stream("work"))
    here.client.set(here.stream("work"), "a string")
    commit = here.run(hand, one="command", two="event")
    (result,) = here.commit(commit, outlet=outlet)
    assert (result.outcome, result.sent) == (Outcome.STORED, those())
    assert {id_: from_lines(lines)[0] for id_, lines in hand.load(*commit.ids).consumed.items()} == {
        "one": said(commit, "one"),
        "two": said(commit, "two"),
    }
    assert here.queued("ears") == []
    here.client.delete(here.stream("work"))
    here.again(commit)
    assert set(here.received.values()) == {1}
    assert (len(here.received), here.outboxes()) == (2, [])


@pytest.mark.parametrize("part", ["r", "i", "o", "h"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_foreign_value_in_a_record_stops_that_saga_alone(here: Office, part: str, place: int) -> None:
    """Nothing of it is stored or sent; the others of the same call are, and find that out when they come again."""
    hands = [here.hand(id_) for id_ in "abc"]
    commits = [here.run(hand, **{hand.id: "command event"}) for hand in hands]
    bad = hands[place]
    here.client.set(f"{here.prefix(bad)}{part}", "a string")
    with pytest.raises(CorruptRecordError) as error:
        here.commit(*commits)
    assert error.value.key == str(bad.key)
    good = [commit for commit in commits if commit.key != bad.key]
    assert here.queued("work") + here.queued("ears") == [
        outgoing.body
        for kind in (OutgoingKind.COMMAND, OutgoingKind.EVENT)
        for commit in good
        for outgoing in said(commit, commit.key.id)
        if outgoing.kind is kind
    ]
    assert [result.outcome for result in here.commit(*good)] == [Outcome.DUPLICATE] * 2
    assert here.outboxes() == ([f"{here.prefix(bad)}o".encode()] if part == "o" else [])
    here.client.delete(f"{here.prefix(bad)}{part}")
    (mended,) = here.commit(commits[place])
    assert (mended.outcome, mended.sent) == (Outcome.STORED, those(bad.id))
    assert (len(here.queued("work")), len(here.queued("ears"))) == (3, 3)


# -- several sagas -----------------------------------------------------------------------------------------------


def test_sagas_of_one_call_each_get_their_own(here: Office) -> None:
    """Those that say something, and those that say nothing, in any order; each result is its own saga's."""
    words = {"a": "command", "b": "", "c": "event verdict", "d": "", "e": "timer command", "f": "command command event"}
    commits = [here.run(here.hand(id_), **{id_: what, f"{id_}2": ""}) for id_, what in words.items()]
    results = here.commit(*commits)
    assert {result.outcome for result in results} == {Outcome.STORED}
    # The decision of the third is said under its last id.
    assert [result.sent for result in results] == [{"a"}, set(), {"c", "c2"}, set(), set(), {"f"}]
    straight = [commits[0], commits[2], commits[5]]
    everything = [outgoing for commit in straight for id_ in commit.ids for outgoing in said(commit, id_)]
    assert here.queued("work") == [m.body for m in everything if m.kind is OutgoingKind.COMMAND]
    assert here.queued("ears") == [m.body for m in everything if m.kind is OutgoingKind.EVENT]
    assert len(here.outboxes()) == 1
    assert from_lines(here.hand("e").load("e").consumed["e"])[0] == said(commits[4], "e")
    for id_, what in words.items():
        assert here.hand(id_).states() == [Words(set(what.split()))]


def test_many_sagas_with_many_messages_fit_one_call(here: Office) -> None:
    """As many as a batch has, each with more than one reader."""
    commits = [
        here.run(here.hand(f"k{n}"), **{f"k{n}-{j}": "command event verdict" for j in range(3)}) for n in range(200)
    ]
    results = here.commit(*commits)
    assert [result.sent for result in results] == [set(commit.ids) for commit in commits]
    assert [len(here.queued(endpoint)) for endpoint in ("work", "ears", "others")] == [600, 800, 200]


def test_partition_is_the_one_that_a_dispatch_would_choose(make_office: Callable[..., Office]) -> None:
    """Messages for one saga stay in one stream, whichever way they come."""
    here, there = make_office(partitions=4), make_office(partitions=4)
    commits = [here.run(here.hand(f"k{n}"), **{f"m{n}": "command command"}) for n in range(40)]
    here.commit(*commits)
    there.transport.send([outgoing.parcel() for commit in commits for outgoing in said(commit, commit.ids[0])])
    straight, dispatched = ([one.queued("work", part) for part in range(4)] for one in (here, there))
    assert straight == dispatched
    assert sum(map(len, straight)) == 80
    assert all(straight)


def test_exclusive_sagas_send_straight_too(here: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the commit that gives their lease back, which brings its script along."""
    results = watched(monkeypatch)
    here.bus.send_many([DoAlone(str(n % 4), "command event") for n in range(12)], to="guarded")
    here.bus.worker().run_until_idle()
    assert [len(result.sent) for result in results] == [1] * 12
    assert Counter(endpoint for endpoint, _ in here.received) == {"work": 12, "ears": 12}
    assert set(here.received.values()) == {1}
    assert here.outboxes() == []


@pytest.mark.parametrize("trouble", [full, changed], ids=["full queue", "other topology"])
def test_exclusive_sagas_keep_in_the_outbox_what_cannot_go_straight(
    make_office: Callable[..., Office],
    trouble: Callable[[Office, Outlet], Outlet],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the same write, for their lease is given back right behind it; each message comes once all the same."""
    here = make_office(max_length=1)
    outlet = trouble(here, here.outlet)
    monkeypatch.setattr(type(here.transport), "outlet", lambda _: outlet)
    results = watched(monkeypatch)
    before = here.queued("work")
    here.bus.send(DoAlone("k", "command event"), to="guarded")
    here.bus.worker().run_until_idle()
    (result,) = results
    assert (result.outcome, result.sent) == (Outcome.STORED, frozenset())
    assert Counter(endpoint for endpoint, _ in here.received) == {"work": 1 + len(before), "ears": 1}
    assert set(here.received.values()) == {1}
    assert here.outboxes() == []


# -- who has no outlet -------------------------------------------------------------------------------------------


def test_transport_whose_replicas_must_have_it_first_has_no_outlet(here: Office) -> None:
    """Nothing is sent before replicas have what it follows from, so it waits in the outbox."""
    assert outlet_of(here.transport) is not None
    here.transport.agree(Terms.within(30.0, replicas=1, marker="marker"))
    assert here.transport.outlet() is None
    assert outlet_of(here.transport) is None


def test_cluster_has_no_outlet() -> None:
    """Sagas and queues have slots of their own there; nobody is asked to find that out."""
    transport = RedisStreamsTransport("redis+cluster://127.0.0.1:1", namespace="n")
    assert transport.outlet() is None
    transport.close()


def test_topology_that_cannot_be_read_whole_has_no_outlet(here: Office) -> None:
    """There might be a subscriber that nobody can make out; what is mended is used again."""
    assert here.transport.outlet() is not None
    key = f"{here.namespace}:topology"
    here.client.hset(key, mapping={"@odd": b"\xff{", "version": "another"})
    assert here.commit(here.run(here.hand(), one="event"))[0].sent == set()
    with pytest.raises(Exception, match="cannot be read whole"):
        here.bus.publish(Happened("1"))
    assert here.transport.outlet() is None
    here.client.hdel(key, "@odd")
    assert here.transport.outlet() is not None


def test_transport_without_such_a_method_has_no_outlet() -> None:
    """A transport of somebody else's need not know of it."""
    assert outlet_of(MemoryTransport()) is None


def test_store_gets_no_outlet_unless_its_class_takes_one(here: Office) -> None:
    """Neither one that stands around ours, nor one on another server."""

    def outlet(store: Store) -> Outlet | None:
        nobody: Any = None
        return Dispatcher(here.transport, nobody, store, log=get_logger(), give_up=lambda: False).outlet()

    assert outlet(here.store) == here.outlet
    around = Failpoints().store(here.store)
    assert (around.server, outlet(around)) == (here.store.server, None)
    assert outlet(MemoryStore()) is None
    elsewhere = RedisStore(f"{here.store.link.url}?db=1", namespace=here.namespace)
    assert outlet(elsewhere) is None
    elsewhere.close()


def test_store_around_ours_is_committed_to_as_ever(valkey_url: str, namespace: str) -> None:
    """Its `commit` is not asked for what it never knew; everything goes by way of the outbox, once."""
    points = Failpoints()
    inner = RedisStore(valkey_url, namespace=namespace)
    here = office(valkey_url, namespace, store=points.store(inner))
    here.bus.send_many([Do(str(n), "command event") for n in range(10)], to="posting")
    here.bus.worker().run_until_idle()
    assert points.hits["after-commit"] > 0
    assert Counter(endpoint for endpoint, _ in here.received) == {"work": 10, "ears": 10}
    assert set(here.received.values()) == {1}
    assert here.outboxes() == []
    here.bus.close()
    here.client.close()


# -- a whole run -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_receive_every_message_once_and_leave_no_outbox(
    here: Office, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Everything a saga may send, with timers and dead ends among it, and sagas that race for their own records."""
    monkeypatch.setattr("sagabus.runtime.lane.IDLE_WAIT_S", 0.05)
    results = watched(monkeypatch)
    sagas, each = 20, 6
    kinds = ["command", "event", "command event", "timer command", "lost event", ""]
    tasks = [Do(str(n), kinds[j]) for j in range(each) for n in range(sagas)]
    with working(here.bus, name="w0"):
        if workers == 2:
            with working(here.bus, name="w1"):
                here.bus.send_many(tasks, to="posting")
                until(lambda: len(here.received) >= 6 * sagas, "the last message")
        else:
            here.bus.send_many(tasks, to="posting")
            until(lambda: len(here.received) >= 6 * sagas, "the last message")
        until(lambda: all(queue.depth == 0 for queue in here.transport.queues()), "the last ack")
        until(lambda: not here.outboxes(), "the last dispatch")
    assert Counter(endpoint for endpoint, _ in here.received) == {"work": 3 * sagas, "ears": 3 * sagas}
    assert set(here.received.values()) == {1}
    assert [letter.reason for letter in here.store.dead()] == ["no-endpoint"] * sagas
    assert len(here.store.scheduled()) == sagas
    assert any(result.sent for result in results), "nothing went straight"
    for number in range(sagas):
        assert here.hand(str(number)).states() == [Words({word for kind in kinds for word in kind.split()})]
