"""What users of the ancestor rely on, where it takes a runtime to show it; on one server and in memory."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import define, field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sagabus import Bus, Context, MergeSagaState, RetryPolicy, Saga, handles, message, starts
from sagabus.advance import advance
from sagabus.commit import Lifecycle, Outcome, Want
from sagabus.definition import definition_of
from sagabus.envelope import Incoming, SagaKey, decode, encode, wrap
from sagabus.errors import NoRouteError, StoreFullError, UnknownEndpointError
from sagabus.store.protocol import Store
from tests import servers
from tests.integration.apps import envelope, put, settle

SOON = RetryPolicy(max_attempts=3, first_delay_s=0.001)


@message("conf.begin")
class Begin:
    key: str


@message("conf.go-on")
class GoOn:
    key: str
    step: int = 0


@message("conf.end")
class End:
    key: str


@message("conf.ask")
class Ask:
    what: str


@message("conf.answer")
class Answer:
    text: str


@message("conf.ended")
class Ended:
    key: str
    steps: int


@message("conf.unhandled")
class Unhandled:
    pass


@define
class Steps:
    steps: set[int] = field(factory=set)
    answer: str = ""
    begun: bool = False
    ended: bool = False


def union(siblings: Any) -> Steps:
    return Steps(
        set().union(*(s.steps for s in siblings)),
        max(s.answer for s in siblings),
        any(s.begun for s in siblings),
        any(s.ended for s in siblings),
    )


class Steady(Saga[Steps], key="key", merger=union):
    seen: list[str] = []  # noqa: RUF012 - what ran, across instances

    @starts
    def begun(self, m: Begin) -> None:
        self.state.begun = True
        self.seen.append(f"begin {m.key}")
        self.send(Ask("why"), to="oracle")

    @handles
    def went_on(self, m: GoOn) -> None:
        self.seen.append(f"go on {m.key} {m.step}")
        self.state.steps.add(m.step)
        if m.step < 0:
            self.send(Ask("never"), to="oracle")
            self.publish(Ended(self.id, 0))
            self.defer(GoOn(self.id, 99), after=0.0)
            raise ValueError("a negative step")

    @handles
    def answered(self, m: Answer) -> None:
        self.state.answer = m.text

    @handles
    def last(self, m: End) -> None:
        self.state.ended = True

    def decide(self) -> None:
        if self.state.ended:
            self.publish(Ended(self.id, len(self.state.steps)))
            self.complete()


@pytest.fixture(autouse=True)
def seen() -> list[str]:
    Steady.seen.clear()
    return Steady.seen


@pytest.fixture(params=["memory", "one server"])
def make_bus(request: pytest.FixtureRequest, namespace: str) -> Iterator[Callable[..., Bus]]:
    """Return a bus with the steady saga, an oracle that answers and whatever the test adds."""
    url = "memory:" if request.param == "memory" else request.getfixturevalue("valkey_url")
    buses: list[Bus] = []

    def make(**options: Any) -> Bus:
        bus = Bus(store=url, transport=url, namespace=namespace)
        bus.endpoint("steady", Steady, **({"retry": SOON, "early": SOON} | options))
        oracle = bus.endpoint("oracle")

        @oracle.consumer
        def asked(m: Ask, context: Context) -> None:
            Steady.seen.append(f"asked {m.what}")
            context.reply(Answer("because"))

        buses.append(bus)
        return bus

    yield make
    for bus in buses:
        bus.close()


def state(bus: Bus, key: str) -> Steps:
    definition = bus.saga("Steady")
    assert definition is not None
    (snapshot,) = bus.store.load([Want(SagaKey("Steady", key))])
    (version,) = snapshot.versions
    result: Steps = definition.codec.decode(version.state)
    return result


# -- early and late ----------------------------------------------------------------------------------------------


def test_continuing_message_without_a_saga_does_not_run_its_handler_and_ends_as_no_saga(
    make_bus: Callable[..., Bus], seen: list[str]
) -> None:
    """A message that only continues a saga starts none: it is tried again, then dead-lettered, and never dropped."""
    bus = make_bus()
    id_ = bus.send(GoOn("1", 5), to="steady")
    settle(bus)
    assert seen == []
    (letter,) = bus.store.dead()
    assert (letter.id, letter.reason, letter.attempts, letter.saga) == (id_, "no-saga", 3, "Steady/1")
    assert list(bus.store.sagas()) == []


def test_early_message_is_handled_once_its_saga_has_started(make_bus: Callable[..., Bus], seen: list[str]) -> None:
    """What overtook the start waits for it."""
    bus = make_bus(early=RetryPolicy(max_attempts=50, first_delay_s=0.001, max_delay_s=0.01))
    bus.send(GoOn("1", 5), to="steady")
    bus.worker().run_until_idle()
    assert seen == []
    bus.send(Begin("1"), to="steady")
    settle(bus)
    assert state(bus, "1").steps == {5}
    assert bus.store.dead() == []


def test_completed_saga_is_gone_to_its_handlers_and_readable_as_history(
    make_bus: Callable[..., Bus], seen: list[str]
) -> None:
    """After completion no handler runs any more; the last state and how it came about stay."""
    bus = make_bus()
    ids = [bus.send(m, to="steady") for m in (Begin("1"), GoOn("1", 1), End("1"))]
    settle(bus)
    before = list(seen)
    late = [bus.send(GoOn("1", 2), to="steady"), bus.send(Begin("1"), to="steady")]
    settle(bus)
    assert seen == before
    (row,) = bus.store.sagas()
    assert row.lifecycle is Lifecycle.COMPLETED
    assert state(bus, "1").steps == {1}
    history = bus.store.history(row.key)
    handled = [m.id for entry in history if entry.outcome is not Outcome.LATE for m in entry.messages]
    assert set(handled) >= set(ids)
    assert [m.id for entry in history if entry.outcome is Outcome.LATE for m in entry.messages][-2:] == late
    assert bus.store.dead() == []


def test_reply_finds_its_saga_by_header_though_it_carries_no_key(make_bus: Callable[..., Bus]) -> None:
    """`Answer` has no key: the reply finds the saga that asked."""
    bus = make_bus()
    bus.send_many([Begin("1"), Begin("2")], to="steady")
    settle(bus)
    assert [state(bus, k).answer for k in "12"] == ["because"] * 2


# -- nobody, nowhere ---------------------------------------------------------------------------------------------


def test_message_that_nobody_handles_is_dead_lettered_as_no_handler(make_bus: Callable[..., Bus]) -> None:
    """It is known, but not here."""
    bus = make_bus()
    id_ = bus.send(Unhandled(), to="steady")
    settle(bus)
    assert [(d.id, d.reason, d.type, d.endpoint) for d in bus.store.dead()] == [
        (id_, "no-handler", "conf.unhandled", "steady")
    ]


def test_publishing_to_no_subscriber_is_no_error(make_bus: Callable[..., Bus]) -> None:
    """Nobody has to listen to an event."""
    bus = make_bus()
    bus.publish(Unhandled())
    settle(bus)
    assert bus.store.dead() == []


def test_sending_to_no_endpoint_is_an_error(make_bus: Callable[..., Bus]) -> None:
    """A command must arrive; the error says where it could go."""
    bus = make_bus()
    with pytest.raises(UnknownEndpointError, match="oracle, steady") as error:
        bus.send(Begin("1"), to="stedy")
    assert error.value.endpoint == "stedy"
    with pytest.raises(UnknownEndpointError):
        bus.send(Begin("1"), to="stedy", after=1.0)
    with pytest.raises(NoRouteError, match=r"conf\.begin"):
        bus.send(Begin("1"))
    bus.route(Begin, to="steady")
    bus.send(Begin("1"))


# -- failures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempts", [1, 3])
def test_failing_message_is_tried_exactly_max_attempts_times(
    make_bus: Callable[..., Bus], seen: list[str], attempts: int
) -> None:
    """Not once more, not once less; then it is dead-lettered with all that is needed to understand it."""
    bus = make_bus(retry=RetryPolicy(max_attempts=attempts, first_delay_s=0.001))
    bus.send(Begin("1"), to="steady")
    id_ = bus.send(GoOn("1", -1), to="steady")
    settle(bus)
    assert seen.count("go on 1 -1") == attempts
    (letter,) = bus.store.dead()
    assert (letter.id, letter.reason, letter.attempts) == (id_, "failed", attempts)
    assert letter.error == "ValueError: a negative step"
    assert "went_on" in letter.traceback
    assert decode(letter.body).attempt == attempts
    assert (letter.type, letter.saga, letter.endpoint) == ("conf.go-on", "Steady/1", "steady")


def test_nothing_escapes_from_a_handler_that_raised(make_bus: Callable[..., Bus], seen: list[str]) -> None:
    """Neither state nor effects of a run that failed are to be seen anywhere."""
    bus = make_bus(max_attempts=1, retry=None)
    events: list[Ended] = []
    bus.endpoint("ears").consumer(Ended)(events.append)
    bus.send_many([Begin("1"), GoOn("1", 1), GoOn("1", -1), GoOn("1", 2)], to="steady")
    settle(bus)
    assert "asked never" not in seen
    assert "go on 1 99" not in seen
    assert events == []
    assert state(bus, "1").steps == {1, 2}


def test_poison_in_the_middle_of_a_batch_does_not_hold_up_the_others(make_bus: Callable[..., Bus]) -> None:
    """Its neighbours, of the same saga and of others, are handled in the same batch."""
    bus = make_bus(retry=RetryPolicy(first_delay_s=60.0))
    bus.send_many([Begin("1"), GoOn("1", 1), GoOn("1", -1), Begin("2"), GoOn("2", -1), GoOn("1", 2)], to="steady")
    bus.worker().run_until_idle()
    assert (state(bus, "1").steps, state(bus, "2").steps) == ({1, 2}, set())
    assert [s.endpoint for s in bus.store.scheduled()] == ["steady", "steady"]


BAD = {
    "no JSON": ("\x00\xff", "undecodable"),
    "no object": ("[1, 2]", "undecodable"),
    "no id": ('{"specversion": "1.0", "source": "/x", "type": "conf.begin"}', "undecodable"),
    "an empty id": (envelope("conf.begin", id_=""), "undecodable"),
    "an endless id": (envelope("conf.begin", id_="x" * 201), "undecodable"),
    "an old CloudEvents": (envelope("conf.begin", specversion="0.3"), "undecodable"),
    "an unknown type": (envelope("conf.nobody-knows"), "unknown-type"),
    "a newer version": (envelope("conf.begin", '{"key": "1"}', dataversion=7), "unknown-version"),
    "a body that does not fit": (envelope("conf.begin", '{"key": 1}'), "undecodable"),
    "a body without its key": (envelope("conf.begin"), "undecodable"),
    "a body that is null": (envelope("conf.begin", "null"), "undecodable"),
    "deep nesting": (envelope("conf.begin", '{"key": ' + "[" * 5000 + "]" * 5000 + "}"), "too-deep"),
    "nesting that a decoder would take": (
        envelope("conf.begin", '{"key": "1", "x": ' + "[" * 65 + "]" * 65 + "}"),
        "too-deep",
    ),
    "a member twice": (envelope("conf.begin", '{"key": "1", "key": "2"}'), "undecodable"),
    "an attribute twice": (envelope("conf.begin", '{"key": "1"}, "id": "other"'), "undecodable"),
    "an integer of 65 bits": (envelope("conf.go-on", '{"key": "1", "step": 18446744073709551616}'), "undecodable"),
    "a new line in an id": (envelope("conf.begin", '{"key": "1"}', id_="a\nb"), "undecodable"),
    "a saga's id that is too long": (envelope("conf.begin", json.dumps({"key": "k" * 201})), "undecodable"),
    "an attempt before the first": (envelope("conf.go-on", '{"key": "1"}', attempt=0), "undecodable"),
    "bytes for a body": (envelope("conf.begin", data_base64="AAEC"), "undecodable"),
    "a merge for nobody": (envelope("sagabus.MergeSagaState"), "no-handler"),
    "a merge for another class": (envelope("sagabus.MergeSagaState", saga="Other/1"), "no-handler"),
    "a huge number": (envelope("conf.go-on", '{"key": "1"}', attempt=10**30), "undecodable"),
    "a huge life": (envelope("conf.go-on", '{"key": "1"}', sagalife=10**30), "undecodable"),
    "a negative attempt": (envelope("conf.go-on", '{"key": "1"}', attempt=-(10**6)), "undecodable"),
    "half a character": (envelope("conf.begin", '{"key": "\\ud800"}'), "undecodable"),
}


@pytest.mark.parametrize("case", BAD)
def test_bytes_that_cannot_be_read_are_dead_lettered_at_once(make_bus: Callable[..., Bus], case: str) -> None:
    """What cannot be decoded is not retried: it would not get better. The worker lives, and its neighbours go on."""
    body, reason = BAD[case]
    bus = make_bus()
    bus.send(Begin("good"), to="steady")
    put(bus, "steady", body)
    bus.send(GoOn("good", 1), to="steady")
    bus.worker().run_until_idle()
    (letter,) = bus.store.dead()
    assert (letter.reason, letter.endpoint, letter.body, letter.traceback) == (reason, "steady", body.encode(), "")
    assert letter.attempts == 1
    assert bus.store.scheduled() == []
    assert state(bus, "good").steps == {1}


def test_envelope_over_the_size_limit_is_refused_at_both_ends(namespace: str) -> None:
    """A sender is told at once; what comes in all the same is dead-lettered as `too-large`, unread."""
    bus = Bus(store="memory:", transport="memory:", max_message_bytes=400)
    bus.endpoint("steady", Steady)
    with pytest.raises(Exception, match="over the limit of 400"):
        bus.send(Begin("x" * 500), to="steady")
    put(bus, "steady", envelope("conf.begin", '{"key": "' + "x" * 500 + '"}'))
    bus.worker().run_until_idle()
    assert [d.reason for d in bus.store.dead()] == ["too-large"]


def test_largest_message_that_fails_is_still_readable_at_its_next_try() -> None:
    """The count of attempts makes an envelope longer; that is not held against it."""
    tried: list[int] = []
    size = len(encode(wrap(Begin("x" * 50), id="i", source="/client", now_ms=0)))
    bus = Bus(store="memory:", transport="memory:", max_message_bytes=size)
    endpoint = bus.endpoint("e", retry=SOON)

    @endpoint.consumer
    def fail(m: Begin, context: Context) -> None:
        tried.append(context.attempt)
        raise ValueError

    bus.send(Begin("x" * 50), to="e", id="i")
    settle(bus)
    assert tried == [1, 2, 3]
    assert [d.reason for d in bus.store.dead()] == ["failed"]


# -- races -------------------------------------------------------------------------------------------------------


def test_first_middle_and_last_messages_on_fifty_threads_lose_nothing(either_store: Store) -> None:
    """Fifty threads load, run and commit at once, starts and ends among them: every step is in the end there."""
    definition = definition_of(Steady).bound(
        "steady", {}, dedupe_window_s=3600.0, retention_s=3600.0, max_bytes=1_000_000
    )
    key = SagaKey("Steady", "1")
    together = threading.Barrier(50)
    ends: list[str] = []
    lock = threading.Lock()

    def handle(number: int) -> None:
        kind: Any = Begin("1") if number % 10 == 0 else GoOn("1", number)
        todo = [Incoming(wrap(kind, id=f"m{number}", source="/t", now_ms=0))]
        together.wait()
        for _ in range(10_000):
            (snapshot,) = either_store.load([Want(key, tuple(m.id for m in todo))])
            commit = advance(definition, snapshot, todo)
            assert not commit.failures, commit.failures
            if not commit.ids:
                if not commit.early:
                    return  # consumed
                continue
            (result,) = either_store.commit([commit], by=f"t{number}")
            if result.outcome not in (Outcome.AGAIN, Outcome.DUPLICATE):
                with lock:
                    ends.append(result.outcome.value)
                return
        raise AssertionError("never stored")

    threads = [threading.Thread(target=handle, args=(n,)) for n in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ends) == 50
    # One more message merges whatever is left and ends it.
    (snapshot,) = either_store.load([Want(key, ("last",))])
    last = [Incoming(wrap(End("1"), id="last", source="/t", now_ms=0))]
    (result,) = either_store.commit([advance(definition, snapshot, last)], by="last")
    assert result.outcome is Outcome.STORED
    (snapshot,) = either_store.load([Want(key)])
    (version,) = snapshot.versions
    assert definition.codec.decode(version.state).steps == {n for n in range(50) if n % 10}
    assert snapshot.lifecycle is Lifecycle.COMPLETED


def test_forks_of_two_workers_are_merged_and_told_to_the_saga(make_bus: Callable[..., Bus]) -> None:
    """Two workers that load before either commits fork; the merge message settles the saga before anything else."""
    bus = make_bus()
    bus.send(Begin("1"), to="steady")
    settle(bus)
    definition = bus.saga("Steady")
    assert definition is not None
    key = SagaKey("Steady", "1")
    snapshots = [bus.store.load([Want(key, (f"r{n}",))])[0] for n in range(2)]
    commits = [
        advance(definition, s, [Incoming(wrap(GoOn("1", 10 + n), id=f"r{n}", source="/t", now_ms=0))])
        for n, s in enumerate(snapshots)
    ]
    outcomes = [bus.store.commit([commit], by="t")[0].outcome for commit in commits]
    assert outcomes == [Outcome.STORED, Outcome.FORKED]
    # The second commit has posted a merge message, which a redelivery of its message dispatches.
    body = encode(wrap(GoOn("1", 11), id="r1", source="/t", now_ms=0))
    put(bus, "steady", body)
    worker = bus.worker()
    worker.run_until_idle()
    assert state(bus, "1").steps == {10, 11}
    tally = next(lane.tally for lane in worker.lanes if "steady" in [each.name for each in lane.endpoints])
    assert (tally.merges, tally.repeated) == (1, 1)


# -- a full store ------------------------------------------------------------------------------------------------


def test_full_store_refuses_a_dispatch_whole_and_goes_on_when_there_is_room(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of memory, nothing is half done and nothing is acked; with room again all goes on by itself."""
    monkeypatch.setattr("sagabus.runtime.lane._TROUBLE_WAIT_S", 0.02)
    with servers.valkey() as url:
        bus = Bus(store=url, transport=url, namespace=namespace)
        bus.endpoint("steady", Steady)
        oracle = bus.endpoint("oracle")
        asked: list[str] = []
        oracle.consumer(Ask)(lambda m: asked.append(m.what))
        bus.send_many([Begin(str(n)) for n in range(10)], to="steady")
        store: Any = bus.store
        node = store.link.node_keys()[0]
        used: list[str] = []
        real = store.note_commands

        def fill(bookkeeping: Any) -> Any:
            # Just before the dispatch: what was committed is durable, and there is no room for what it sends.
            if bookkeeping.dispatched and len(used) < 4:
                used.append("full")
                store.link.on_node(node, "CONFIG", "SET", "maxmemory", "1" if len(used) < 4 else "0")
            return real(bookkeeping)

        monkeypatch.setattr(store, "note_commands", fill)
        # Have what is stored wait in the outbox for a dispatch of its own.
        monkeypatch.setattr(bus.transport, "outlet", lambda: None)
        worker = bus.worker(["steady"])
        worker.run_until_idle()
        assert len(used) == 4
        depths = {q.endpoint: q.depth for q in bus.transport.queues()}
        assert depths == {"steady": 0, "oracle": 10}
        store.link.on_node(node, "CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StoreFullError):
            bus.send(Begin("11"), to="steady")
        store.link.on_node(node, "CONFIG", "SET", "maxmemory", "0")
        bus.worker(["oracle"]).run_until_idle()
        assert asked == ["why"] * 10
        assert bus.store.dead() == []
        bus.close()


def test_merge_message_with_nothing_to_merge_changes_nothing(make_bus: Callable[..., Bus]) -> None:
    """A stray MergeSagaState consumes its id and is forgotten."""
    bus = make_bus()
    bus.send(Begin("1"), to="steady")
    settle(bus)
    (row,) = bus.store.sagas()
    text = encode(wrap(MergeSagaState(), id="stray", source="/t", now_ms=0, saga="Steady/1", sagalife=1))
    put(bus, "steady", text)
    settle(bus)
    assert list(bus.store.sagas()) == [row]
    assert bus.store.dead() == []


# -- anything at all ---------------------------------------------------------------------------------------------

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
TYPES = st.sampled_from(["conf.begin", "conf.go-on", "conf.answer", "conf.ask", "sagabus.MergeSagaState", "conf.end"])
SAGAS = st.sampled_from(["Steady/1", "Steady/", "Steady", "/", "Nobody/1", "Steady/1/2", "Steady/\u00e9{}*\n"])
ODD_ENVELOPES = st.fixed_dictionaries(
    {"specversion": st.just("1.0"), "id": st.text(min_size=1, max_size=8), "source": st.just("/x"), "type": TYPES},
    optional={
        "data": JUNK | st.fixed_dictionaries({"key": st.text(max_size=3)}, optional={"step": st.integers(-2, 2)}),
        "dataversion": st.integers(-1, 3) | JUNK,
        "saga": SAGAS | st.text(),
        "sagalife": st.integers(0, 2) | JUNK,
        "replyto": st.sampled_from(["steady", "oracle", "nowhere"]) | st.text(max_size=3),
        "replysaga": SAGAS | st.text(),
        "replylife": st.integers(0, 2) | JUNK,
        "timer": st.text(max_size=3),
        "attempt": st.integers(-2, 9) | JUNK,
        "correlationid": st.text(max_size=3),
        "traceparent": st.text(max_size=3),
        "time": JUNK,
        "unheardof": JUNK,
    },
)


@given(bodies=st.lists(ODD_ENVELOPES.map(json.dumps) | ODD_ENVELOPES.map(json.dumps).map(lambda s: s[:-3]), max_size=6))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_whatever_comes_over_the_wire_is_handled_or_put_aside_and_the_worker_lives(
    valkey_url: str, bodies: list[str]
) -> None:
    """No bytes stop a worker or stay in a queue, on either store; each is handled, tried again, or dead-lettered."""
    for url in ("memory:", valkey_url):
        with Bus(store=url, transport=url, namespace=f"odd-{uuid.uuid4().hex}") as bus:
            once = RetryPolicy(max_attempts=1)
            bus.endpoint("steady", Steady, retry=once, early=once)
            oracle = bus.endpoint("oracle", retry=once)
            oracle.consumer(Ask)(lambda m, context: context.reply(Answer("because")))
            bus.send(Begin("1"), to="steady")
            for body in bodies:
                put(bus, "steady", body)
                put(bus, "oracle", body)
            bus.worker().run_until_idle()
            assert [q.depth for q in bus.transport.queues()] == [0, 0]
            assert "1" in {row.key.id for row in bus.store.sagas()}
