"""What comes again under a new id comes to all who heard it before, and nothing of a merge hides what it lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import pytest
from attrs import define, field

from mergers import fieldwise, union
from sagabus import Bus, Context, MergeSagaState, Saga, handles, message, starts
from sagabus.errors import ConfigurationError
from sagabus.testing import explore


@message("resends.order")
class Order:
    pass


@message("resends.ask")
class Ask:
    pass


@message("resends.answered")
class Answered:
    number: int


@message("resends.heard")
class Heard:
    who: str


@define
class Numbers:
    numbers: Annotated[set[int], union] = field(factory=set)


class Nameless(Saga[Numbers], merger=fieldwise(Numbers)):
    """Is named after the message that starts it."""

    @starts
    def ordered(self, m: Order) -> None:
        self.send(Ask(), to="desk")

    @handles
    def answered(self, m: Answered) -> None:
        self.state.numbers.add(m.number)

    def decide(self) -> None:
        if self.state.numbers:
            self.publish(Heard("nameless"))
            self.complete()


def test_explore_start_of_a_nameless_saga_that_is_sent_again_starts_another() -> None:
    """A new id is a new saga where the id is all that names it: the client who asks twice is served twice."""
    bus = Bus()
    bus.endpoint("orders", Nameless)

    @bus.endpoint("desk").consumer
    def answer(m: Ask, context: Context) -> None:
        context.reply(Answered(1))

    result = explore(bus, start=[Order()], resends=1, outcome=lambda end: len(end.keys), outcomes={1, 2}).assert_ok()
    assert set(result.outcomes) == {1, 2}
    failure = explore(bus, start=[Order()], resends=1).failure
    assert failure is not None
    assert failure.kind == "outcome"
    assert "again under a new id" in failure.report


class Listening(Saga[Numbers], merger=fieldwise(Numbers)):
    """Starts by hearing a number, and says how many it has heard."""

    @starts
    def heard(self, m: Answered) -> None:
        self.send(Heard(type(self).__name__), to="away")


class First(Listening):
    @starts(key="number")
    def heard(self, m: Answered) -> None:
        super().heard(m)


class Second(Listening):
    @starts(key="number")
    def heard(self, m: Answered) -> None:
        super().heard(m)


def test_explore_event_for_two_sagas_that_is_sent_again_comes_to_both() -> None:
    """Whoever publishes once more publishes to all."""
    result = explore(
        [First, Second],
        start=[Answered(1)],
        resends=1,
        must_end=False,
        outcome=lambda end: tuple(sorted(m.who for m in end.sent)),
        outcomes=[("First", "Second"), ("First", "First", "Second", "Second")],
    ).assert_ok()
    assert len(result.outcomes) == 2


def larger(siblings: Sequence[Numbers]) -> Numbers:
    """Keep one side, lawfully."""
    return max(siblings, key=lambda s: sorted(s.numbers))


@pytest.mark.parametrize("told", [False, True])
def test_explore_merger_that_keeps_one_side_is_found_whoever_hears_of_merges(told: bool) -> None:
    """A handler of MergeSagaState that leaves the state alone hides nothing."""

    class Keeps(Saga[Numbers], key="number", merger=larger):
        @starts
        def heard(self, m: Answered) -> None:
            pass

        @handles
        def more(self, m: Heard) -> None:
            self.state.numbers.add(int(m.who))

        if told:

            @handles
            def merged(self, m: MergeSagaState) -> None:
                self.send(Ask(), to="away")

    asked: dict[str, Any] = {"start": [Answered(1)], "messages": [Heard("1"), Heard("2")], "must_end": False}
    failure = explore(Keeps, **asked).failure
    assert failure is not None
    assert failure.kind == "lost-effect"


def test_explore_outcomes_that_cannot_be_meant_are_refused() -> None:
    """An outcome is a list of messages; none at all is no set to be in."""
    with pytest.raises(ConfigurationError, match=r"write \[Heard\(who='x'\)\] in outcomes="):
        explore(First, start=[Answered(1)], outcomes=[Heard("x")])
    with pytest.raises(ConfigurationError, match=r"outcomes=\[\] allows none"):
        explore(First, start=[Answered(1)], outcomes=[])


@define
class Tries:
    tries: int = 0


class Trying(Saga[Tries], key="number"):
    """Sets its timer again and again, and counts."""

    @starts
    def begun(self, m: Answered) -> None:
        self.defer(Ask(), after=1.0)

    @handles
    def again(self, m: Ask) -> None:
        self.state.tries += 1
        self.defer(Ask(), after=1.0)


def test_explore_saga_that_never_ends_and_grows_is_told_by_how_it_begins() -> None:
    """Of five thousand steps that lead nowhere, the first ones are shown."""
    result = explore(Trying, start=[Answered(1)], mode="random", runs=1, max_states=200)
    assert result.failure is not None
    assert result.failure.kind == "livelock"
    assert len(result.failure.trace) == 60


def test_moment_released_is_all_that_left_wherever_it_went() -> None:
    """What a decision says and what a consumer takes have left all the same."""
    bus = Bus()
    bus.endpoint("orders", Nameless)

    @bus.endpoint("desk").consumer
    def answer(m: Ask, context: Context) -> None:
        context.reply(Answered(1))

    explore(
        bus, start=[Order()], finally_=[lambda end: end.released == [Ask(), Heard("nameless")] and not end.sent]
    ).assert_ok()
