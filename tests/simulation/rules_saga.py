"""Small sagas in which every commit rule matters for what can be observed.

A ballot is opened, hears votes, says once that it is under way, and ends with a verdict: when it has heard as many
votes as it needs, or when its patience has ended. Each message that a handler takes is counted in the state and noted
by an effect, so that one that is lost, or handled twice, shows in the one, the other, or both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import define, field

from sagabus import MergeSagaState, Saga, handles, message, starts


@message("rules.open")
class Open:
    ballot: str
    nth: int
    needs: int
    patient: bool


@message("rules.vote")
class Vote:
    voter: int


@message("rules.nudge")
class Nudge:
    nth: int


@message("rules.patience-ended")
class PatienceEnded:
    pass


@message("rules.noted")
class Noted:
    what: str


@message("rules.returned")
class Returned:
    what: str


@message("rules.folded")
class Folded:
    votes: int


@message("rules.underway")
class Underway:
    pass


@message("rules.verdict")
class Verdict:
    votes: tuple[int, ...]
    timed_out: bool


def name_of(m: Any) -> str:
    """Return what a message is called in counts and notes."""
    if isinstance(m, Open):
        return f"open {m.nth}"
    if isinstance(m, Vote):
        return f"vote {m.voter}"
    return type(m).__name__


# -- ballots: what siblings heard is united --------------------------------------------------------------------------


@define
class BallotState:
    """How often each message was handled, and what is known."""

    heard: dict[str, int] = field(factory=dict)
    votes: tuple[int, ...] = ()
    needs: int = 0
    timed_out: bool = False
    announced: bool = False
    closed: bool = False


def united(siblings: Sequence[BallotState]) -> BallotState:
    """Keep whatever any sibling knows."""
    names = sorted({name for s in siblings for name in s.heard})
    return BallotState(
        heard={name: max(s.heard.get(name, 0) for s in siblings) for name in names},
        votes=tuple(sorted({vote for s in siblings for vote in s.votes})),
        needs=max(s.needs for s in siblings),
        timed_out=any(s.timed_out for s in siblings),
        announced=any(s.announced for s in siblings),
        closed=any(s.closed for s in siblings),
    )


class Ballot(Saga[BallotState], key="ballot", merger=united):
    """The main variant: facts, decisions, a timer, and an answer to what comes too late."""

    @starts
    def opened(self, m: Open) -> None:
        self.hear(m)
        self.state.needs = m.needs
        if m.patient:
            self.defer(PatienceEnded(), after=60, name="patience")

    @handles
    def voted(self, m: Vote) -> None:
        self.hear(m)
        self.state.votes = tuple(sorted({*self.state.votes, m.voter}))
        if self.enough:
            self.cancel("patience")

    @handles
    def nudged(self, m: Nudge) -> None:
        """Change nothing."""

    @handles
    def patience_ended(self, m: PatienceEnded) -> None:
        self.state.timed_out = True

    def decide(self) -> None:
        if self.state.votes and not self.state.announced:
            self.state.announced = True
            self.publish(Underway())
        if self.enough or self.state.timed_out:
            self.publish(Verdict(self.state.votes, self.state.timed_out))
            self.complete()

    def on_late(self, m: Any) -> None:
        self.publish(Returned(name_of(m)))

    def hear(self, m: Any) -> None:
        name = name_of(m)
        self.state.heard = dict(sorted({**self.state.heard, name: self.state.heard.get(name, 0) + 1}.items()))
        self.publish(Noted(name))

    @property
    def enough(self) -> bool:
        return len(self.state.votes) >= self.state.needs


class Quiet(Ballot, key="ballot", merger=united):
    """Says nothing to late messages."""

    def on_late(self, m: Any) -> None:
        pass


class Folding(Ballot, key="ballot", merger=united):
    """Handles MergeSagaState in a way of its own."""

    @handles
    def merged(self, m: MergeSagaState) -> None:
        self.publish(Folded(len(self.state.votes)))


class Graceful(Ballot, key="ballot", merger=united):
    """Waits anew, by a timer that its decision sets, once it has announced that it is under way."""

    def decide(self) -> None:
        if self.state.votes and not self.state.announced:
            self.defer(PatienceEnded(), after=60, name="patience")
        super().decide()


class Restarting(Ballot, key="ballot", merger=united, restartable=True):
    """Begins a new life where it is opened again."""


class Serial(Ballot, key="ballot"):
    """Has no merger."""


class Narrow(Ballot, key="ballot", merger=united, sibling_limit=2):
    """May have two siblings."""


class Wider(Ballot, key="ballot", merger=united, sibling_limit=3):
    """May have three siblings."""


class Prompt(Ballot, key="ballot", merger=united):
    """Ends in its message handlers, and decides nothing."""

    @handles
    def voted(self, m: Vote) -> None:
        super().voted(m)
        self.end()

    @handles
    def patience_ended(self, m: PatienceEnded) -> None:
        super().patience_ended(m)
        self.end()

    @handles
    def merged(self, m: MergeSagaState) -> None:
        self.end()

    def end(self) -> None:
        if not self.state.closed and (self.enough or self.state.timed_out):
            self.state.closed = True
            self.publish(Verdict(self.state.votes, self.state.timed_out))
            self.complete()

    def decide(self) -> None:
        pass


# -- counts: only a change can be merged -----------------------------------------------------------------------------


@define
class CountState:
    """How many, and not which."""

    opens: int = 0
    votes: int = 0
    needs: int = 0
    timed_out: bool = False


def added(a: CountState, b: CountState, ancestor: CountState) -> CountState:
    """Add what each side counted since."""
    return CountState(
        opens=a.opens + b.opens - ancestor.opens,
        votes=a.votes + b.votes - ancestor.votes,
        needs=max(a.needs, b.needs),
        timed_out=a.timed_out or b.timed_out,
    )


class Count(Saga[CountState], key="ballot", merger=added):
    """Counts with a binary merger: whatever is merged twice is counted twice."""

    @starts
    def opened(self, m: Open) -> None:
        self.state.opens += 1
        self.state.needs = m.needs
        self.publish(Noted("open"))
        if m.patient:
            self.defer(PatienceEnded(), after=60, name="patience")

    @handles
    def voted(self, m: Vote) -> None:
        self.state.votes += 1
        self.publish(Noted("vote"))

    @handles
    def patience_ended(self, m: PatienceEnded) -> None:
        self.state.timed_out = True

    def decide(self) -> None:
        if self.state.votes >= self.state.needs or self.state.timed_out:
            self.publish(Verdict((self.state.votes,), self.state.timed_out))
            self.complete()

    def on_late(self, m: Any) -> None:
        self.publish(Returned("open" if isinstance(m, Open) else "vote"))
