"""A quorum in every order: answers that race with each other, with the deadline and with themselves.

Sizes, in states that the search looks at: three members of whom two decide, 420 plainly, 70,000 with a duplicate and a
resend; four of whom three decide, 4,400 plainly, 102,000 with a resend. `SAGABUS_RULES=whole` adds three members with
all at once (570,000 states, half a minute).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import combinations
from typing import Any, Final

import pytest

from sagabus import message
from sagabus.testing import Exploration, Moment, check_merger, explore
from sagas import DECLINED, Quorum, QuorumMissed, QuorumState

PRICES: Final = {"acme": 40, "bolt": 30, "cord": 20, "dyno": 10}
WHOLE: Final = os.environ.get("SAGABUS_RULES") == "whole"


@message("quorum-test.request-quotes")
class RequestQuotes:
    part: str


@message("quorum-test.quote")
class Quote:
    part: str


@message("quorum-test.quoted")
class Quoted:
    supplier: str
    price: int | None


@message("quorum-test.ordered")
class Ordered:
    part: str
    quotes: dict[str, int]


class Quotes(Quorum[RequestQuotes, Quoted], key="part", members=tuple(PRICES)[:3], need=2, within=timedelta(days=1)):
    """Three suppliers, of whom two decide."""

    def ask(self, m: RequestQuotes, member: str) -> object:
        return Quote(m.part)

    def answer(self, m: Quoted) -> tuple[str, Any]:
        return m.supplier, DECLINED if m.price is None else m.price

    def verdict(self, answers: dict[str, Any]) -> None:
        self.publish(Ordered(self.key, answers))


class FourQuotes(Quotes, members=tuple(PRICES), need=3):
    """Four suppliers, of whom three decide."""


START: Final = [RequestQuotes("bolt M8")]


def quoted(suppliers: Iterable[str]) -> list[Any]:
    """Return an answer of each of *suppliers*."""
    return [Quoted(supplier, PRICES[supplier]) for supplier in suppliers]


def ends(saga: type[Quotes], *, by_deadline: bool = True) -> Iterator[list[Any]]:
    """Yield every way in which a quorum of that class may end: a verdict on enough answers, or missed with fewer."""
    members, need = tuple(saga._options.members), saga._options.need or 0
    for count in range(len(members) + 1):
        for found in combinations(members, count):
            if count >= need:
                yield [Ordered("bolt M8", {supplier: PRICES[supplier] for supplier in found})]
            elif by_deadline:
                missing = sorted(set(members) - set(found))
                yield [QuorumMissed(saga.__name__, "bolt M8", sorted(found), missing)]


def knows_only_what_was_said(moment: Moment) -> bool:
    """No version holds a price that nobody quoted."""
    return all(state.answers.items() <= PRICES.items() for state in moment.states)


def verdict_rests_on_all_that_is_known(moment: Moment) -> None:
    """What the quorum knew when it ended is what it said."""
    (said,) = moment.decisions
    known = said.quotes if isinstance(said, Ordered) else dict.fromkeys(said.answered)
    assert known.keys() == moment.state.answers.keys()


def explored(saga: type[Quotes], **circumstances: Any) -> Exploration:
    """Return what becomes of one answer of each member, whenever the deadline passes."""
    return explore(
        saga,
        start=START,
        messages=quoted(saga._options.members),
        outcomes=ends(saga),
        always=[knows_only_what_was_said, lambda moment: len(moment.decisions) <= 1],
        finally_=[verdict_rests_on_all_that_is_known],
        mode="exhaustive",
        max_states=1_000_000,
        **circumstances,
    ).assert_ok()


def each(**circumstances: int) -> Any:
    """Return the circumstances as a test case."""
    return pytest.param(circumstances, id="-".join(f"{name}{n}" for name, n in circumstances.items()) or "plain")


@pytest.mark.parametrize(
    "circumstances",
    [
        each(),
        each(workers=3),
        each(batch=2, duplicates=1),
        each(duplicates=1, resends=1),
        *([each(batch=2, duplicates=1, resends=1)] if WHOLE else []),
    ],
)
def test_two_of_three_end_once_with_a_verdict_or_missed(circumstances: dict[str, int]) -> None:
    """Two answers or three decide, or the deadline with fewer; each of the eight ends is met, and there is no ninth."""
    result = explored(Quotes, **circumstances)
    assert result.complete
    assert len(result.outcomes) == 8


@pytest.mark.parametrize("circumstances", [each(), each(duplicates=1), each(resends=1), each(batch=2)])
def test_three_of_four_end_once_with_a_verdict_or_missed(circumstances: dict[str, int]) -> None:
    """All sixteen sets of answers are met: five of them decide, eleven are too few."""
    result = explored(FourQuotes, **circumstances)
    assert result.complete
    assert len(result.outcomes) == 16


def test_quorum_without_a_deadline_always_comes_to_a_verdict() -> None:
    """Where every member answers and no time runs out, nothing is missed."""

    class Patient(Quotes, within=None):
        pass

    result = explore(
        Patient, start=START, messages=quoted(tuple(PRICES)[:3]), outcomes=ends(Patient, by_deadline=False)
    )
    assert result.assert_ok().complete
    assert len(result.outcomes) == 4


@pytest.mark.parametrize("circumstances", [each(), each(duplicates=1), each(batch=2)])
def test_member_that_answers_twice_counts_once(circumstances: dict[str, int]) -> None:
    """Of two prices from one supplier one counts, and it takes another supplier to decide."""

    class Patient(Quotes, within=None):
        pass

    messages = [Quoted("acme", 40), Quoted("acme", 50), Quoted("bolt", 30)]
    allowed = [[Ordered("bolt M8", {"acme": price, "bolt": 30})] for price in (40, 50)]
    result = explore(Patient, start=START, messages=messages, outcomes=allowed, mode="exhaustive", **circumstances)
    assert len(result.assert_ok().outcomes) == 2


@pytest.mark.parametrize("circumstances", [each(), each(duplicates=1), each(resends=1), each(batch=2)])
def test_quorum_out_of_reach_is_missed_without_waiting(circumstances: dict[str, int]) -> None:
    """Two of three decline at whatever moment: no deadline is needed to see that two answers cannot come."""

    class Patient(Quotes, within=None):
        pass

    messages = [Quoted("acme", None), Quoted("bolt", None), Quoted("cord", 20)]
    allowed = [
        [QuorumMissed("Patient", "bolt M8", list(got), sorted({"acme", "bolt", "cord"} - set(got)))]
        for got in ((), ("cord",))
    ]
    result = explore(Patient, start=START, messages=messages, outcomes=allowed, mode="exhaustive", **circumstances)
    assert len(result.assert_ok().outcomes) == 2


def test_member_that_both_answers_and_declines_counts_as_an_answer() -> None:
    """Whichever came first, or both at once: who has answered has answered."""

    class Both(Quotes, members=("acme", "bolt"), need="all", within=None):
        pass

    messages = [Quoted("acme", 40), Quoted("acme", None), Quoted("bolt", 30)]
    decided = [Ordered("bolt M8", {"acme": 40, "bolt": 30})]
    # Declining that comes first, and alone, makes two of two impossible there and then.
    missed = [
        [QuorumMissed("Both", "bolt M8", got, miss)] for got, miss in (([], ["acme", "bolt"]), (["bolt"], ["acme"]))
    ]
    result = explore(Both, start=START, messages=messages, outcomes=[decided, *missed], mode="exhaustive")
    assert len(result.assert_ok().outcomes) == 3


def test_two_requests_at_once_are_one_quorum() -> None:
    """A second request, by another message, asks nobody anew once the first is stored, and ends nothing twice."""
    result = explore(
        Quotes, start=START * 2, messages=quoted(["acme", "bolt"]), outcomes=ends(Quotes), mode="exhaustive"
    )
    assert result.assert_ok().complete


def test_states_of_a_quorum_merge_lawfully() -> None:
    """Order, grouping and repetition of siblings change nothing."""
    assert not check_merger(Quotes, max_examples=80).skipped


# -- what the explorer finds when it is done wrong -------------------------------------------------------------------


class Hasty(Quotes, within=None):
    """Announces the verdict in the handler of an answer, and completes there."""

    def _answered(self, m: Quoted) -> None:
        super()._answered(m)
        if len(self.state.answers) >= 2:
            self.verdict(self.state.answers)
            self.complete()

    def decide(self) -> None:
        """Decide nothing."""


class Counting(Quotes, within=None):
    """Counts answers in a number that a merge cannot add up, and so forgets one."""

    def _answered(self, m: Quoted) -> None:
        super()._answered(m)
        self.state.about = (self.state.about or 0) + 1

    def decide(self) -> None:
        if (self.state.about or 0) >= 2:
            self.verdict(self.state.answers)
            self.complete()


@pytest.mark.parametrize(("broken", "kind"), [(Hasty, "stuck"), (Counting, "lost-effect")])
def test_quorum_that_decides_otherwise_is_found_out(broken: type[Quotes], kind: str) -> None:
    """A verdict in the handler leaves two racing answers undecided; a count of messages loses one in a merge."""
    result = explore(broken, start=START, messages=quoted(["acme", "bolt"]), outcome=lambda moment: "any")
    assert result.failure is not None
    assert result.failure.kind == kind


def test_quorum_on_the_first_sibling_alone_is_found_out() -> None:
    """A merger that keeps one side forgets an answer."""

    def first(siblings: Any) -> QuorumState:
        return min(siblings, key=repr)

    class Forgetful(Quotes, merger=first, within=None):
        pass

    result = explore(Forgetful, start=START, messages=quoted(tuple(PRICES)[:3]), outcome=lambda moment: True)
    assert result.failure is not None
    assert result.failure.kind in ("lost-effect", "stuck")
