"""Sorting a batch: which saga or consumer takes what."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define

from sagabus import Bus, MergeSagaState, Saga, handles, message, starts
from sagabus.endpoint import Endpoint
from sagabus.envelope import SagaKey, encode, wrap
from sagabus.runtime.intake import Sorted, message_id, sort_batch
from sagabus.runtime.ticket import Trouble
from sagabus.transport import Delivery
from tests.integration.apps import envelope

LIMIT = 10_000


@message("intake.begin")
class Begin:
    key: str


@message("intake.both")
class Both:
    key: str


@message("intake.answer")
class Answer:
    pass


@define
class State:
    pass


class Keyed(Saga[State], key="key"):
    @starts
    def begun(self, m: Begin) -> None: ...
    @handles
    def both(self, m: Both) -> None: ...
    @handles
    def answered(self, m: Answer) -> None: ...


class Other(Saga[State], key="key"):
    @starts
    def both(self, m: Both) -> None: ...


class Keyless(Saga[State]):
    @starts
    def begun(self, m: Begin) -> None: ...
    @handles
    def answered(self, m: Answer) -> None: ...


def endpoint(*sagas: type[Saga[Any]], consume: tuple[type, ...] = ()) -> Endpoint:
    made = Bus(store="memory:", transport="memory:").endpoint("e", *sagas, max_attempts=3)
    if consume:
        made.consumer(*consume)(lambda m: None)
    return made


def delivery(message: Any, id_: str = "m", *, count: int = 1, **extra: Any) -> Delivery:
    body = message if isinstance(message, bytes) else encode(wrap(message, id=id_, source="/t", now_ms=0, **extra))
    return Delivery("e", body, count, id_)


def sort(where: Endpoint, *deliveries: Delivery) -> Sorted:
    return sort_batch(lambda _: where, deliveries, LIMIT)


def keys(batch: Sorted) -> list[str]:
    return [str(key) for key in batch.sagas]


def test_message_goes_to_the_saga_that_its_key_names() -> None:
    """Messages of one saga are one piece of work, in the order they came."""
    batch = sort(endpoint(Keyed), delivery(Begin("1"), "a"), delivery(Begin("2"), "b"), delivery(Both("1"), "c"))
    assert keys(batch) == ["Keyed/1", "Keyed/2"]
    assert [m.id for m in batch.sagas[SagaKey("Keyed", "1")].incoming] == ["a", "c"]
    assert batch.sagas[SagaKey("Keyed", "1")].want().ids == ("a", "c")


def test_header_outranks_the_key() -> None:
    """Who sent it knew which saga it is for."""
    batch = sort(endpoint(Keyed), delivery(Both("1"), saga="Keyed/a/b"))
    assert keys(batch) == ["Keyed/a/b"]


def test_header_of_another_saga_leaves_the_key() -> None:
    """A reply to one saga that another one on this endpoint handles as well is for both, each by its own rule."""
    batch = sort(endpoint(Keyed, Other), delivery(Both("1"), saga="Other/9"))
    assert sorted(keys(batch)) == ["Keyed/1", "Other/9"]


def test_keyless_saga_is_named_after_the_message_that_started_it() -> None:
    """So the same start, delivered twice, starts one saga."""
    assert keys(sort(endpoint(Keyless), delivery(Begin("1"), "start-id"))) == ["Keyless/start-id"]


@pytest.mark.parametrize("saga", [Keyed, Keyless])
def test_answer_without_key_and_header_is_early(saga: type[Saga[Any]]) -> None:
    """There is no saying whose it is; it is tried again and then dead-lettered, never dropped."""
    batch = sort(endpoint(saga), delivery(Answer()))
    assert batch.sagas == {}
    (ticket,) = batch.finished
    assert [t.reason for t in ticket.troubles] == ["early"]


def test_homeless_message_with_another_handler_waits_for_that() -> None:
    """It is concluded once, when all of its handlers are through."""
    batch = sort(endpoint(Keyed, consume=(Answer,)), delivery(Answer()))
    assert batch.finished == []
    (work,) = batch.consumers
    assert work.ticket.waiting == 1
    assert [t.reason for t in work.ticket.troubles] == ["early"]


def test_second_copy_in_a_batch_shares_the_run() -> None:
    """It is handled once, and both deliveries are acked."""
    batch = sort(endpoint(Keyed), delivery(Begin("1"), "a"), delivery(Begin("1"), "a"))
    work = batch.sagas[SagaKey("Keyed", "1")]
    assert [m.id for m in work.incoming] == ["a"]
    assert len(work.tickets["a"]) == 2


def test_message_for_several_goes_to_each() -> None:
    """Two sagas and two consumers: four handlers, one delivery."""
    where = endpoint(Keyed, Other, consume=(Both,))

    @where.consumer
    def also(m: Both) -> None: ...

    batch = sort(where, delivery(Both("1")))
    assert sorted(keys(batch)) == ["Keyed/1", "Other/1"]
    assert len(batch.consumers) == 2
    assert batch.consumers[0].ticket.waiting == 4


def test_unreadable_body_is_taken_out_of_every_work_it_was_sorted_into() -> None:
    """One saga is found by header, the other needs the body, which is broken: nobody gets it, the others stay."""
    broken = envelope("intake.both", '{"key": 5}', id_="bad", saga="Keyed/1").encode()
    good = delivery(Both("1"), "good")
    batch = sort(endpoint(Keyed, Other, consume=(Both,)), good, delivery(broken), delivery(broken))
    assert [m.id for m in batch.sagas[SagaKey("Keyed", "1")].incoming] == ["good"]
    assert [w.incoming.id for w in batch.consumers] == ["good"]
    assert [[t.reason for t in ticket.troubles] for ticket in batch.finished] == [["undecodable"]] * 2
    alone = sort(endpoint(Keyed, Other), delivery(broken))
    assert alone.sagas == {}


def test_good_copy_of_an_id_survives_a_broken_one() -> None:
    """Two deliveries with one id, of which the second cannot be read: the first is handled."""
    broken = envelope("intake.both", '{"key": 5}', id_="same", saga="Keyed/1").encode()
    batch = sort(endpoint(Keyed, Other), delivery(Both("1"), "same", saga="Keyed/1"), delivery(broken))
    assert [m.id for m in batch.sagas[SagaKey("Keyed", "1")].incoming] == ["same"]
    assert len(batch.sagas[SagaKey("Keyed", "1")].tickets["same"]) == 1


def test_merge_message_goes_to_the_saga_it_is_addressed_to() -> None:
    """Also where the saga has no handler for it; to no other saga on the endpoint."""
    batch = sort(endpoint(Keyed, Other), delivery(MergeSagaState(), saga="Other/7", sagalife=1))
    assert keys(batch) == ["Other/7"]
    (ticket,) = sort(endpoint(Keyed), delivery(MergeSagaState(), saga="Other/7")).finished
    assert [t.reason for t in ticket.troubles] == ["no-handler"]


def test_delivery_beyond_the_last_attempt_is_exhausted() -> None:
    """The broker counts what no worker survived to count."""
    exhausted = [
        sort(endpoint(Keyed), delivery(Begin("1"), "a", count=n)).sagas[SagaKey("Keyed", "1")].tickets["a"][0].exhausted
        for n in (1, 3, 4)
    ]
    assert exhausted == [False, False, True]


def test_dead_letter_of_unreadable_bytes_has_a_name_that_follows_from_them() -> None:
    """The same bytes, given up twice, are one dead letter."""
    tickets = sort(endpoint(Keyed), delivery(b"?"), delivery(b"?"), delivery(b"!", count=2)).finished
    letters = [t.dead_letter(t.troubles[0], "undecodable", 5) for t in tickets]
    assert letters[0].id == letters[1].id != letters[2].id
    assert [d.attempts for d in letters] == [1, 1, 2]
    assert (letters[0].type, letters[0].saga, letters[0].at_ms) == ("", "", 5)


def test_message_id_is_the_one_that_the_dead_letter_has() -> None:
    """By it a message that was given up is known when it is delivered again, whatever of it can be read."""
    endpoint = Bus(store="memory:", transport="memory:").endpoint("e")
    large = encode(wrap(Begin("k" * 9_700), id="m", source="/t", now_ms=0).with_attempt(100), max_bytes=2 * LIMIT)
    limit = len(large) - 2
    twice = b'{"specversion":"1.0","id":"m","source":"/t","type":"intake.begin","data":{"key":"1","key":"2"}}'
    for body in (large, twice, large + b" " * 100, b"{", b"\xff"):
        result = sort_batch(lambda _: endpoint, [Delivery("e", body, 2, None)], limit)
        (ticket,) = result.finished
        assert message_id(body, limit) == ticket.dead_letter(Trouble("x"), "x", 0).id
