"""The judge itself: everything that it must find is found, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from examples.credit_check.saga import BUREAUS
from sagabus import Bus
from sagabus.commit import Commit, Half
from sagabus.envelope import derive_id
from sagabus.store.layout import Keys
from sagabus.store.protocol import Bookkeeping, DeadLetter
from tests.chaos.judge import judge
from tests.chaos.ledger import EFFECT, Line
from tests.chaos.load.errand import Errand, Mix
from tests.chaos.verdict import Verdict

SCORES = (710, 720, 730)
ERRAND = Mix().errand(0, 1)
CUSTOMER = ERRAND.saga.id


def effect(kind: str, key: str, id_: str, value: Any = None, consumer: str = "") -> Line:
    return {"what": EFFECT, "kind": kind, "key": key, "id": id_, "value": value, "consumer": consumer}


def decision(scores: dict[str, int], id_: str = "d") -> Line:
    average = sum(scores.values()) / len(scores)
    return effect("decided", CUSTOMER, id_, {"accepted": average > 700, "average": average, "scores": scores})


def scored() -> list[Line]:
    return [
        effect("scored", f"{CUSTOMER}/{bureau}", f"asked-{bureau}", score, f"{bureau} report")
        for bureau, score in zip(BUREAUS, SCORES, strict=True)
    ]


ALL = dict(zip(BUREAUS, SCORES, strict=True))


@pytest.fixture
def bus(valkey_url: str, namespace: str) -> Iterator[Bus]:
    """Yield a bus over whose store the errand has gone well."""
    with Bus(valkey_url, valkey_url, namespace=namespace) as bus:
        replies = [derive_id(bureau, "report", f"asked-{bureau}", 0) for bureau in BUREAUS]
        ids = (ERRAND.sendings[0].id, *replies)
        done = Commit(ERRAND.saga, ids, facts=Half(b"{}"), decision=Half(b"{}"), completes=True, begins_life=True)
        bus.store.commit([done], by="test")
        yield bus


def verdict(bus: Bus, lines: list[Line], errands: tuple[Errand, ...] = (ERRAND,)) -> Verdict:
    return judge(bus, errands, lines).with_faults(1)


def test_judge_with_everything_as_it_should_be_finds_nothing(bus: Bus) -> None:
    """Second copies of one id are counted, and are no harm."""
    found = verdict(bus, [*scored(), scored()[0], decision(ALL)])
    assert found.complaint() == ""
    assert (found.ok, found.repeats, found.messages) == (True, 1, 5)


def test_judge_without_a_fault_fails_the_run(bus: Bus) -> None:
    """A fault that did not happen shows nothing."""
    found = judge(bus, [ERRAND], [*scored(), decision(ALL)])
    assert not found.ok
    assert "did not happen" in found.complaint()


@pytest.mark.parametrize("missing", range(4))
def test_judge_misses_what_was_lost(bus: Bus, missing: int) -> None:
    """Every accepted message had its effect."""
    lines = [*scored(), decision(dict(list(ALL.items())[:2]))]
    del lines[missing]
    assert verdict(bus, lines).lost == 1


def test_judge_sees_a_second_effect(bus: Bus) -> None:
    """Two ids for one effect are two effects, also where both came to the same."""
    found = verdict(bus, [*scored(), decision(ALL), decision(ALL, "e")])
    assert (found.twice, found.contradictory) == (1, 0)


@pytest.mark.parametrize(
    "value",
    [
        {"accepted": True, "average": 710.0, "scores": {"equifax": 710}},
        {"accepted": True, "average": 805.0, "scores": {"equifax": 900, "experian": 710}},
        {"accepted": False, "average": 715.0, "scores": {"equifax": 710, "experian": 720}},
        {"accepted": True, "average": 801.0, "scores": {"equifax": 710, "experian": 720}},
    ],
)
def test_judge_objects_to_a_decision_that_does_not_follow_from_the_scores(bus: Bus, value: dict[str, Any]) -> None:
    """A decision rests on two scores or more, on those that the bureaus gave, and follows from them."""
    assert verdict(bus, [*scored(), effect("decided", CUSTOMER, "d", value)]).contradictory == 1


def test_judge_objects_to_what_nobody_asked_for(bus: Bus) -> None:
    """An effect of nothing that was sent is a fault too."""
    assert verdict(bus, [*scored(), decision(ALL), effect("rung", "x", "r")]).contradictory == 1


def test_judge_sees_a_saga_that_never_completed(bus: Bus) -> None:
    """An effect without the completion that belongs to it is not enough."""
    other = Mix().errand(1, 1)
    lines = [line | {"key": line["key"].replace(CUSTOMER, other.saga.id)} for line in [*scored(), decision(ALL)]]
    found = judge(bus, [ERRAND, other], [*scored(), decision(ALL), *lines])
    assert found.lost == 1
    assert "not there, not completed" in found.complaint()


def test_judge_sees_what_is_left_in_queues_and_store(bus: Bus) -> None:
    """Messages, retries, dead letters and outboxes that are left are four things left over."""
    bus.transport.declare("somewhere", subscriptions=())
    bus.send(ERRAND.sendings[0].message, to="somewhere")
    bus.send(ERRAND.sendings[0].message, to="somewhere", after=60)
    letter = DeadLetter("i", "credit", "failed", "no", "", attempts=1, at_ms=1, body=b"{}")
    bus.store.note(Bookkeeping(buried=(letter,)))
    with redis.Redis.from_url(bus.store_url) as client:
        client.hset(f"{Keys(bus.namespace).saga(ERRAND.saga)}o", "id", "M\n")
    found = verdict(bus, [*scored(), decision(ALL)])
    assert found.left_over == 4, found.texts


def test_judge_sees_siblings(bus: Bus) -> None:
    """A saga that nobody has merged is not through."""
    other = Mix().errand(1, 1).saga
    for id_ in ("a", "b"):
        bus.store.commit([Commit(other, (id_,), facts=Half(id_.encode()), begins_life=True)], by="test")
    found = verdict(bus, [*scored(), decision(ALL)])
    assert f"left_over: {other} has 2 siblings" in found.texts


def test_judge_sees_ids_that_nobody_sent_and_ids_that_were_not_consumed(bus: Bus) -> None:
    """The consumed ids are those of the effects, both ways round."""
    lines = [*scored(), decision(ALL)]
    strange = effect("scored", f"{CUSTOMER}/equifax", "asked-equifax", SCORES[0], "equifax another")
    found = verdict(bus, [strange, *lines[1:]])
    assert found.unaccounted == 2, found.texts
