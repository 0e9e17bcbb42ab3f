"""Who takes part in an exploration: keyless sagas, several sagas, a bus with its consumers, and who gets what."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define, field

from mergers import fieldwise, highest
from sagabus import Bus, Context, Saga, handles, message, starts
from sagabus.errors import ConfigurationError
from sagabus.testing import explore


@message("scene.place")
class Place:
    order: str


@message("scene.pack")
class Pack:
    parcel: str


@message("scene.packed")
class Packed:
    pass


@message("scene.placed")
class Placed:
    """An event that names its order."""

    order: str


@message("scene.hint")
class Hint:
    """Names no saga."""

    text: str = ""


@message("scene.ask")
class Ask:
    question: str


@message("scene.answered")
class Answered:
    answer: str


@define
class Steps:
    done: list[str] = field(factory=list)


class Order(Saga[Steps], key="order"):
    """Has a parcel packed, and ends when that is said."""

    @starts
    def placed(self, m: Place) -> None:
        self.publish(Placed(m.order))
        self.send(Pack(f"parcel of {m.order}"), to="packing")

    @handles
    def packed(self, m: Packed) -> None:
        self.state.done.append("packed")

    def decide(self) -> None:
        if self.state.done:
            self.complete()


class Packing(Saga[Steps], key="parcel"):
    """Replies to who has started it."""

    @starts
    def asked(self, m: Pack) -> None:
        self.state.done.append(m.parcel)

    def decide(self) -> None:
        self.reply_to_starter(Packed())
        self.complete()


class PackingAtOnce(Packing, key="parcel"):
    """Replies to the message itself."""

    @starts
    def asked(self, m: Pack) -> None:
        self.reply(Packed())
        self.complete()

    def decide(self) -> None:
        pass


class Watching(Saga[Steps], key="order"):
    """Hears an event, and that is all."""

    @starts
    def heard(self, m: Placed) -> None:
        self.complete()


class Nameless(Saga[Steps]):
    """Has no key: it is called after the message that started it, and only replies and hints find it."""

    @starts
    def asked(self, m: Ask) -> None:
        self.send(Pack(m.question), to="oracle")

    @handles
    def answered(self, m: Answered) -> None:
        self.state.done.append(m.answer)

    @handles
    def hinted(self, m: Hint) -> None:
        self.state.done.append(m.text)

    def decide(self) -> None:
        if self.state.done:
            self.complete()


class Asking(Saga[Steps], key="order"):
    """Asks two oracles."""

    @starts
    def placed(self, m: Place) -> None:
        self.send(Ask("first"), to="oracle")
        self.send(Ask("second"))

    @handles
    def answered(self, m: Answered) -> None:
        self.state.done = sorted([*self.state.done, m.answer])

    def decide(self) -> None:
        if len(self.state.done) == 2:
            self.publish(Answered(" and ".join(self.state.done)))
            self.complete()


def bus_of(**endpoints: Any) -> Bus:
    """Return a bus with a saga or nothing at each endpoint."""
    bus = Bus(store="memory:", transport="memory:")
    for name, saga in endpoints.items():
        bus.endpoint(name, *([saga] if saga is not None else []))
    return bus


# -- sagas without a bus -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", [Packing, PackingAtOnce])
def test_scene_of_two_sagas_carries_commands_by_type_and_replies_to_who_asked(packing: Any) -> None:
    """Without a bus a command finds the saga that handles it, whatever endpoint it names; its reply finds the asker."""
    result = explore(
        [Order, packing],
        start=[Place("1")],
        always=[lambda moment: moment.saga(Order).completed <= moment.saga("Order/1").started],
        finally_=[lambda moment: moment.saga(packing, "parcel of 1").completed and moment.completed],
    ).assert_ok()
    assert result.complete


def test_scene_of_events_has_every_saga_that_handles_them_hear() -> None:
    """An event that somebody here takes has not left; one that nobody takes has."""
    heard = explore(
        [Order, Packing, Watching],
        start=[Place("1")],
        outcome=lambda moment: moment.sent,
        outcomes=[[]],
        finally_=[lambda moment: moment.saga(Watching, "1").completed],
    ).assert_ok()
    alone = explore([Order, Packing], start=[Place("1")], outcome=lambda moment: moment.sent, outcomes=[[Placed("1")]])
    assert heard.complete
    assert alone.assert_ok().complete


def test_scene_of_a_reply_to_the_client_has_it_leave() -> None:
    """Who starts a saga from outside is nobody in the exploration."""
    result = explore(Packing, start=[Pack("x")], outcome=lambda moment: moment.decisions, outcomes=[[Packed()]])
    assert result.assert_ok().complete
    both = explore(
        [Order, Packing], start=[Pack("x")], outcomes=[[Packed()]], finally_=[lambda m: not m.saga(Packing).sent]
    )
    assert both.assert_ok().complete


def test_scene_of_a_keyless_saga_is_named_after_its_start_and_gets_what_names_none() -> None:
    """The id of the start is the saga's; a message without a key is for the saga of the first start."""
    result = explore(
        Nameless,
        start=[Ask("why")],
        messages=[Hint("because")],
        finally_=[lambda moment: str(moment.key) == "Nameless/m1" and moment.sent == [Pack("why")]],
        outcome=lambda moment: tuple(moment.state.done),
    ).assert_ok()
    assert list(result.outcomes) == [("because",)]


def test_scene_of_a_keyless_saga_that_is_not_started_has_nobody_for_a_hint() -> None:
    """There is no saga that it could be for."""
    with pytest.raises(ConfigurationError, match="Hint names no saga"):
        explore(Nameless, messages=[Hint("because")])


# -- a bus ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [False, True])
def test_scene_of_a_bus_has_consumers_answer(is_async: bool) -> None:
    """`def` and `async def` alike; commands go where they say or along the route of their type."""
    bus = bus_of(orders=Asking, oracle=None, sibyl=None)
    bus.route(Ask, to="sibyl")

    def oracle(m: Ask, context: Context) -> None:
        context.reply(Answered(f"{context.endpoint} on {m.question}"))

    async def slowly(m: Ask, context: Context) -> None:
        oracle(m, context)

    for name in ("oracle", "sibyl"):
        bus.endpoints[name].consumer(slowly if is_async else oracle)
    result = explore(bus, start=[Place("1")]).assert_ok()
    assert result.complete
    assert list(result.outcomes) == [[Answered("oracle on first and sibyl on second")]]


def test_scene_of_a_bus_sends_commands_only_where_they_say() -> None:
    """A saga at another endpoint than the one named does not get them; nor is there one for a wrong name."""
    bus = bus_of(orders=Order, packing=Packing)
    assert explore(bus, start=[Place("1")]).assert_ok().complete
    elsewhere = bus_of(orders=Order, cellar=Packing)
    failure = explore(elsewhere, start=[Place("1")]).failure
    assert failure is not None
    assert failure.kind == "stuck"


def test_scene_of_a_bus_publishes_to_consumers_and_what_they_publish_to_sagas() -> None:
    """An event reaches every consumer of its type; what one sends on reaches sagas and the world outside."""
    bus = bus_of(orders=Order, packing=Packing, watching=None)
    seen: list[str] = []

    @bus.endpoints["watching"].consumer
    def watched(m: Placed, context: Context) -> None:
        seen.append(m.order)
        context.publish(Hint(m.order))
        if m.order == "1":
            context.send(Place("1, once more"), to="orders")

    result = explore(
        bus,
        start=[Place("1")],
        outcome=lambda moment: moment.sent,
        outcomes=[[Hint("1"), Hint("1, once more")]],
        finally_=[lambda moment: moment.saga(Order, "1, once more").completed],
    ).assert_ok()
    assert result.complete
    assert set(seen) == {"1", "1, once more"}


def test_scene_of_a_bus_may_begin_with_a_message_for_a_consumer() -> None:
    """Its answer goes to the client; what it sends to a saga starts that."""
    bus = bus_of(packing=Packing, door=None)

    @bus.endpoints["door"].consumer
    def opened(m: Hint, context: Context) -> None:
        context.reply(Answered(m.text))
        context.send(Pack(m.text), to="packing")

    result = explore(
        bus,
        messages=[Hint("x")],
        outcome=lambda moment: (moment.sent, moment.decisions, moment.saga(Packing, "x").completed),
    ).assert_ok()
    ((sent, decisions, completed),) = result.outcomes
    assert sent == [Answered("x")]
    assert decisions == [Packed()]
    assert completed


def test_scene_of_a_decision_that_a_consumer_takes_counts_it_once() -> None:
    """What was decided is a decision, and no fact, wherever it goes; the consumer's answer is a fact."""
    bus = bus_of(packing=Packing, orders=None)

    class Deciding(Saga[Steps], key="order"):
        @starts
        def placed(self, m: Place) -> None:
            pass

        def decide(self) -> None:
            self.send(Ask("whether"), to="orders")
            self.complete()

    bus.endpoint("deciding", Deciding)

    @bus.endpoints["orders"].consumer
    def answered(m: Ask, context: Context) -> None:
        context.publish(Hint(m.question))

    result = explore(bus, start=[Place("1")], outcome=lambda moment: (moment.decisions, moment.sent)).assert_ok()
    ((decisions, sent),) = result.outcomes
    assert decisions == [Ask("whether")]
    assert sent == [Hint("whether")]


def test_scene_of_a_consumer_that_raises_ends_the_exploration() -> None:
    """What a consumer raises is raised: the simulator does not know how often it would be tried again."""
    bus = bus_of(orders=Asking, oracle=None)
    bus.route(Ask, to="oracle")

    @bus.endpoints["oracle"].consumer
    def broken(m: Ask) -> None:
        raise LookupError("no oracle today")

    with pytest.raises(LookupError, match="no oracle today"):
        explore(bus, start=[Place("1")])


def test_scene_of_consumers_that_send_to_each_other_for_ever_says_so() -> None:
    """Consumers answer at once, so that a circle of them has no end."""
    bus = bus_of(orders=Asking, oracle=None)
    bus.route(Ask, to="oracle")

    @bus.endpoints["oracle"].consumer
    def again(m: Ask, context: Context) -> None:
        context.send(m, to="oracle")

    with pytest.raises(RecursionError, match="consumers keep sending"):
        explore(bus, start=[Place("1")])


def test_scene_of_a_bus_names_a_message_that_only_another_endpoint_could_take() -> None:
    """Who handles nothing of that type gets nothing."""
    bus = bus_of(packing=Packing)
    with pytest.raises(ConfigurationError, match="Hint is handled by none of Packing"):
        explore(bus, messages=[Hint("x")])


@define
class Largest:
    most: int = 0


def test_scene_of_merging_sagas_that_talk_looks_at_every_order_of_both() -> None:
    """Forks in one saga and messages between two are explored together."""

    @message("scene.number")
    class Number:
        order: str
        value: int

    class Tells(Saga[Largest], key="order", merger=fieldwise(Largest, most=highest)):
        @starts
        def told(self, m: Number) -> None:
            self.state.most = max(self.state.most, m.value)

        def decide(self) -> None:
            if self.state.most == 3:
                self.send(Place(self.id), to="Watching")
                self.complete()

    class Hears(Watching, key="order"):
        @starts(Place)
        def heard(self, m: Place) -> None:
            self.complete()

    result = explore(
        [Tells, Hears],
        start=[Number("1", 1)],
        messages=[Number("1", 2), Number("1", 3)],
        finally_=[lambda moment: moment.saga(Hears).completed],
    ).assert_ok()
    assert result.complete
