"""Messages that come before their saga, after it, or in another of its lives: none is lost in silence, none revives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import define, field

from sagabus import Bus, RetryPolicy, Saga, handles, message, starts
from sagabus.commit import Lifecycle, Want
from sagabus.connect import open_store, open_transport
from sagabus.envelope import SagaKey, encode, wrap
from tests import servers
from tests.integration.apps import put


@message("tide.begin")
class Begin:
    key: str


@message("tide.note")
class Note:
    key: str
    text: str


@message("tide.end")
class End:
    key: str


@message("tide.told-late")
class ToldLate:
    text: str


@define
class Notes:
    texts: list[str] = field(factory=list)


class _Taking:
    @handles(key="key")
    def noted(self, m: Note) -> None:
        self.state.texts.append(m.text)

    @handles(key="key")
    def ended(self, m: End) -> None:
        self.complete()

    def on_late(self, m: Any) -> None:
        self.send(ToldLate(f"{type(m).__name__} {self.key}"), to="ears")


class Once(_Taking, Saga[Notes], key="key"):
    @starts
    def begun(self, m: Begin) -> None: ...


class Again(_Taking, Saga[Notes], key="key", restartable=True):
    @starts
    def begun(self, m: Begin) -> None: ...


@message("tide.other.begin")
class OtherBegin:
    key: str


class Other(_Taking, Saga[Notes], key="key"):
    @starts
    def begun(self, m: OtherBegin) -> None: ...


@define
class Shore:
    """A bus, and what its subscriber heard of late messages."""

    bus: Bus
    heard: list[str] = field(factory=list)
    worker: Any = None

    def work(self) -> None:
        # One worker: a broker keeps what it has handed to another for that one.
        self.worker = self.worker or self.bus.worker()
        self.worker.run_until_idle()

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Work until *condition* holds; timers and a broker take their time."""
        servers.until(lambda: self.work() or condition(), what)

    def texts(self, saga: type[Saga[Any]], key: str = "1") -> list[str]:
        """Return the notes of a saga that has one version."""
        definition = self.bus.saga(saga.__name__)
        assert definition is not None
        (snapshot,) = self.bus.store.load([Want(SagaKey(saga.__name__, key))])
        return list(definition.codec.decode(snapshot.versions[0].state).texts)

    def lifecycle(self, saga: type[Saga[Any]], key: str = "1") -> tuple[Lifecycle, int]:
        (snapshot,) = self.bus.store.load([Want(SagaKey(saga.__name__, key))])
        return snapshot.lifecycle, snapshot.life

    def dead(self) -> list[tuple[str, str]]:
        return [(letter.reason, letter.id) for letter in self.bus.store.dead()]


@pytest.fixture(params=["memory", "valkey", "rabbitmq"])
def shore(request: pytest.FixtureRequest, namespace: str) -> Iterator[Callable[..., Shore]]:
    """Yield what makes a bus with sagas on one endpoint, on each of the transports."""
    url = "memory:" if request.param == "memory" else request.getfixturevalue("valkey_url")
    queues = request.getfixturevalue("rabbitmq_url") if request.param == "rabbitmq" else url
    made: list[Bus] = []

    def make(*sagas: type[Saga[Any]], attempts: int = 3) -> Shore:
        bus = Bus(open_store(url, namespace), open_transport(queues, namespace), namespace=namespace)
        bus.endpoint("e", *sagas, early=RetryPolicy(attempts, 0.02, 0.02))
        one = Shore(bus)
        bus.endpoint("ears").consumer(ToldLate)(lambda m: one.heard.append(m.text))
        made.append(bus)
        return one

    yield make
    for bus in made:
        bus.close()


def test_message_for_two_sagas_of_which_one_is_early_is_handled_once_by_the_other(
    shore: Callable[..., Shore],
) -> None:
    """Its copies, retried for the one, are duplicates for the other; the dead letter names the one that never came."""
    one = shore(Once, Other)
    one.bus.send(Begin("1"), to="e")
    one.until(lambda: one.lifecycle(Once)[0] is Lifecycle.LIVE, "the start")
    id_ = one.bus.send(Note("1", "a"), to="e")
    one.until(one.dead, "a dead letter")
    assert one.dead() == [("no-saga", id_)]
    assert one.bus.store.dead()[0].saga == "Other/1"
    assert one.texts(Once) == ["a"]


def test_message_for_two_sagas_of_which_one_starts_late_reaches_both_once(shore: Callable[..., Shore]) -> None:
    """The retry is in time for the second saga, and changes nothing in the first."""
    one = shore(Once, Other, attempts=500)
    one.bus.send(Begin("1"), to="e")
    one.bus.send(Note("1", "a"), to="e")
    one.until(lambda: one.lifecycle(Once)[0] is Lifecycle.LIVE and one.texts(Once), "the first saga's note")
    one.bus.send(OtherBegin("1"), to="e")
    one.until(lambda: one.lifecycle(Other)[0] is Lifecycle.LIVE and one.texts(Other), "the second saga's note")
    assert (one.texts(Once), one.texts(Other), one.dead()) == (["a"], ["a"], [])


def test_event_before_its_saga_waits_for_it_as_a_command_does(shore: Callable[..., Shore]) -> None:
    """A subscription makes no difference: what was published is retried on this endpoint alone."""
    one = shore(Once, attempts=500)
    one.bus.publish(Note("1", "a"))
    one.until(one.bus.store.scheduled, "the first retry")
    one.bus.send(Begin("1"), to="e")
    one.until(lambda: one.lifecycle(Once)[0] is Lifecycle.LIVE and one.texts(Once), "the note")
    assert (one.texts(Once), one.dead()) == (["a"], [])


def test_reply_to_a_saga_that_is_not_there_is_dead_lettered_as_no_saga(shore: Callable[..., Shore]) -> None:
    """Found by header: whoever asked has been lost, or never was."""
    one = shore(Once)
    one.work()
    put(one.bus, "e", encode(wrap(Note("", "a"), id="r", source="/b", now_ms=0, saga="Once/9", sagalife=1)))
    one.until(one.dead, "a dead letter")
    assert one.dead() == [("no-saga", "r")]
    assert one.lifecycle(Once, "9")[0] is Lifecycle.ABSENT


def test_late_message_is_answered_once_and_revives_nothing(shore: Callable[..., Shore]) -> None:
    """Also a second start, and a copy of what was late: `on_late` is called once an id."""
    one = shore(Once)
    for sent in (Begin("1"), End("1")):
        one.bus.send(sent, to="e")
        one.until(lambda: one.lifecycle(Once)[0] is not Lifecycle.ABSENT, "the saga")
    one.until(lambda: one.lifecycle(Once)[0] is Lifecycle.COMPLETED, "its end")
    for _ in range(3):
        one.bus.send(Note("1", "late"), to="e", id="late")
    one.bus.send(Begin("1"), to="e", id="start again")
    one.until(lambda: len(one.heard) >= 2, "both answers")
    one.until(lambda: not any(queue.depth for queue in one.bus.transport.queues()), "empty queues")
    assert sorted(one.heard) == ["Begin 1", "Note 1"]
    assert one.lifecycle(Once) == (Lifecycle.COMPLETED, 1)
    assert one.dead() == []


def test_reply_to_an_earlier_life_is_late_and_leaves_the_new_one_alone(shore: Callable[..., Shore]) -> None:
    """What was asked for before does not answer what is asked for now."""
    one = shore(Again)
    for life in (1, 2):
        one.bus.send(Begin("1"), to="e")
        one.until(lambda n=life: one.lifecycle(Again) == (Lifecycle.LIVE, n), "the start")  # type: ignore[misc]
        if life == 1:
            one.bus.send(End("1"), to="e")
            one.until(lambda: one.lifecycle(Again)[0] is Lifecycle.COMPLETED, "its end")
    put(one.bus, "e", encode(wrap(Note("", "old"), id="old", source="/b", now_ms=0, saga="Again/1", sagalife=1)))
    put(one.bus, "e", encode(wrap(Note("", "new"), id="new", source="/b", now_ms=0, saga="Again/1", sagalife=2)))
    one.until(lambda: one.heard and one.texts(Again), "both replies")
    assert one.heard == ["Note 1"]
    assert one.texts(Again) == ["new"]
    assert one.lifecycle(Again) == (Lifecycle.LIVE, 2)
