"""What came into a saga and what it asked for, and which message answered which."""

from __future__ import annotations

from sagabus import starts
from sagabus.definition import SagaDefinition
from sagabus.observe.record import look
from sagabus.observe.rerun import rerun
from sagabus.observe.traffic import Came, Went, traffic
from sagabus.store.memory import MemoryStore
from tests.changes import evolve
from tests.sagas_for_tests import CheckCredit, CreditCheck, CreditDecided, Hand, all_scores, bound, incoming, score


class Chatty(CreditCheck, key="customer", merger=all_scores):
    """Tells what it has after every commit."""

    def decide(self) -> None:
        self.publish(CreditDecided(self.id, len(self.state.scores)))


class Silent(CreditCheck, key="customer"):
    """Asks nobody, unlike the code that made the history."""

    @starts
    def requested(self, m: CheckCredit) -> None: ...


def passed(hand: Hand, definition: SagaDefinition | None = None) -> tuple[Came | Went, ...]:
    seen = look(hand.store, hand.key)
    return traffic(rerun(definition or hand.definition, seen.recorded))


def test_traffic_has_each_message_and_its_answer() -> None:
    """Commands come behind the message that caused them; each has the message that was sent in answer to it."""
    hand = Hand(MemoryStore())
    hand.handle(incoming(CheckCredit("42"), "start"))
    asked = {message.to: message.id for message in hand.sent("start")}
    hand.handle(score("b", causationid=asked["b"]))
    came, *went, answer = passed(hand)
    assert isinstance(came, Came)
    assert came.envelope.id == "start"
    sent = [(one.what.to, one.what.id, one.answer) for one in went if isinstance(one, Went)]
    assert sent == [("a", asked["a"], None), ("b", asked["b"], answer), ("c", asked["c"], None)]


def test_traffic_says_of_a_dropped_decision_that_it_never_left() -> None:
    """Of two that decide at once, the decision of one has left, and that of the other, which had not seen it, never."""
    hand = Hand(MemoryStore(), bound(Chatty))
    hand.start()
    hand.fork(score("a"), score("b"))
    decided = [one for one in passed(hand) if isinstance(one, Went) and one.what.kind == "event"]
    outcomes = [(one.entry.messages[0].id, one.dropped) for one in decided]
    assert outcomes == [("start", False), ("a", False), ("b", True)]


def test_traffic_of_other_code_is_what_the_history_says() -> None:
    """Kind, type and addressee stay known where today's code asks for something else; ids and bodies do not."""
    hand = Hand(MemoryStore())
    hand.handle(incoming(CheckCredit("42"), "start"))
    sent = [one.what for one in passed(hand, evolve(bound(Silent), name="CreditCheck")) if isinstance(one, Went)]
    assert [(what.kind, what.type, what.to, what.id) for what in sent] == [
        ("command", "test.request-score", to, "") for to in ("a", "b", "c")
    ]
