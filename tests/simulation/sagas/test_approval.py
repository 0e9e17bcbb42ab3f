"""An approval in every order: clicks that race with each other, with time and with the requester's change of mind.

Two approvers, one above them, a reminder at each level; timers fire whenever they like. Sizes, in states that the
search looks at: two messages 4,000 plainly, 37,000 with a duplicate, 20,000 in batches of two; three messages 28,000.
`SAGABUS_RULES=whole` adds two messages with a resend (69,000) and three messages with a duplicate, with a resend and in
batches (up to 480,000 states, half a minute).
"""

from __future__ import annotations

import os
from collections import Counter
from datetime import timedelta
from typing import Any, Final

import pytest

from sagabus import message
from sagabus.testing import Exploration, Moment, check_merger, explore
from sagas import Approval, Level
from sagas.approval import (
    ApprovalState,
    Approved,
    AskForApproval,
    CancelApproval,
    Cancelled,
    Expired,
    Rejected,
    RemindApprover,
    Vote,
)

WHOLE: Final = os.environ.get("SAGABUS_RULES") == "whole"
ENDINGS: Final = (Approved, Rejected, Expired, Cancelled)
HOUR: Final = timedelta(hours=1)


@message("approval-test.request")
class Request:
    subject: str


class Purchase(
    Approval[Request],
    key="subject",
    people="desk",
    levels=(Level("ann", "bob", within=HOUR), Level("carla", within=HOUR)),
    remind_every=timedelta(minutes=20),
    reminders=1,
):
    """One of two approves, or the one above them."""


class Contract(
    Approval[Request],
    key="subject",
    people="desk",
    levels=(Level("ann", "bob", need="all", within=HOUR), Level("carla", within=HOUR)),
    rejections=2,
):
    """Both approve, or the one above them; two must reject."""


def vote(approver: str, approves: bool = True) -> Vote:
    """Return a vote on the one subject."""
    return Vote("s", approver, approves)


CANCEL: Final = CancelApproval("s", "zoe", "found one")


def endings(moment: Moment) -> tuple[Any, ...]:
    """Return how it ended, in whatever way that was announced."""
    return tuple(repr(m) for m in moment.released if isinstance(m, ENDINGS))


def ends_once(moment: Moment) -> bool:
    """Nobody hears two endings."""
    return len(endings(moment)) <= 1


def asks_each_once(moment: Moment) -> bool:
    """Nobody is asked twice, and nobody is reminded more often than was said."""
    for kind in (AskForApproval, RemindApprover):
        asked = Counter(m.approver for m in moment.released if isinstance(m, kind))
        if asked and max(asked.values()) > 1:
            return False
    return True


def explored(
    saga: type[Approval[Any]], messages: list[Any], *ends: object, requests: int = 1, **circumstances: Any
) -> Exploration:
    """Return what becomes of *messages*, having made sure that each of *ends* is met and no other."""
    result = explore(
        saga,
        start=[Request("s")] * requests,
        messages=messages,
        outcome=endings,
        outcomes=[(repr(end),) for end in ends],
        always=[ends_once, asks_each_once],
        mode="exhaustive",
        max_states=1_000_000,
        **circumstances,
    ).assert_ok()
    assert result.complete
    assert len(result.outcomes) == len(ends)
    return result


def each(**circumstances: int) -> Any:
    """Return the circumstances as a test case."""
    return pytest.param(circumstances, id="-".join(f"{name}{n}" for name, n in circumstances.items()) or "plain")


# -- how it ends, by the name of the saga ---------------------------------------------------------------------------


def approved(saga: type[Approval[Any]], level: int, *by: str) -> Approved:
    return Approved(saga.__name__, "s", level, list(by))


def rejected(saga: type[Approval[Any]], *by: str) -> Rejected:
    return Rejected(saga.__name__, "s", list(by))


def expired(saga: type[Approval[Any]], *silent: str) -> Expired:
    return Expired(saga.__name__, "s", list(silent))


CANCELLED: Final = Cancelled("Purchase", "s", "zoe", "found one")
NOBODY_VOTED: Final = expired(Purchase, "ann", "bob", "carla")


@pytest.mark.parametrize("circumstances", [each(), each(duplicates=1), *([each(resends=1)] if WHOLE else [])])
def test_approval_against_rejection_ends_with_one_of_them(circumstances: dict[str, int]) -> None:
    """The first to be stored ends it; where both are known, the rejection does. Or nobody's click came in time."""
    messages = [vote("ann"), vote("bob", approves=False)]
    explored(Purchase, messages, approved(Purchase, 1, "ann"), rejected(Purchase, "bob"), NOBODY_VOTED, **circumstances)


@pytest.mark.parametrize("circumstances", [each(), each(batch=2), *([each(duplicates=1)] if WHOLE else [])])
def test_approval_against_cancellation_ends_with_one_of_them(circumstances: dict[str, int]) -> None:
    """A cancellation counts at any time before the end, and never after it."""
    explored(Purchase, [vote("ann"), CANCEL], approved(Purchase, 1, "ann"), CANCELLED, NOBODY_VOTED, **circumstances)


@pytest.mark.parametrize(
    "circumstances", [each(), *([each(duplicates=1), each(resends=1), each(batch=2)] if WHOLE else [])]
)
def test_votes_of_all_levels_end_it_once(circumstances: dict[str, int]) -> None:
    """Whoever is asked by then; the one above them may be asked just when they click."""
    messages = [vote("ann"), vote("bob", approves=False), vote("carla")]
    ends = [approved(Purchase, 1, "ann"), approved(Purchase, 2, "carla"), rejected(Purchase, "bob"), NOBODY_VOTED]
    both = approved(Purchase, 1, "ann", "carla")  # ann approved in time, carla while that forked and was not decided
    explored(Purchase, messages, *ends, both, **circumstances)


@pytest.mark.parametrize("circumstances", [each(), each(duplicates=1), each(resends=1), each(batch=2)])
def test_both_that_are_needed_click_at_once(circumstances: dict[str, int]) -> None:
    """Neither worker sees two approvals, and the merge does; or one of the two came too late for the first level."""
    messages = [vote("ann"), vote("bob")]
    explored(
        Contract,
        messages,
        approved(Contract, 1, "ann", "bob"),
        expired(Contract, "ann", "bob", "carla"),
        expired(Contract, "ann", "carla"),
        expired(Contract, "bob", "carla"),
        **circumstances,
    )


def test_person_who_changes_their_mind_has_rejected() -> None:
    """Whichever click came first, or both at once; an approval alone may end it before the rejection comes."""
    messages = [vote("ann"), vote("ann", approves=False)]
    explored(Purchase, messages, approved(Purchase, 1, "ann"), rejected(Purchase, "ann"), NOBODY_VOTED)


def test_level_that_cannot_approve_any_more_escalates_at_once() -> None:
    """One of two rejects where both are needed: the next is asked, whatever else happens at that moment."""
    explored(
        Contract,
        [vote("bob", approves=False), vote("carla")],
        approved(Contract, 2, "carla"),
        expired(Contract, "ann", "bob", "carla"),
        expired(Contract, "ann", "carla"),
        batch=2,
    )


def test_two_requests_at_once_are_one_approval() -> None:
    """Nobody is asked twice, and one ending leaves."""
    explored(Purchase, [vote("ann")], approved(Purchase, 1, "ann"), NOBODY_VOTED, requests=2)


def test_states_of_an_approval_merge_lawfully() -> None:
    """Order, grouping and repetition of siblings change nothing."""
    assert not check_merger(Purchase, max_examples=80).skipped


# -- what the explorer finds when it is done wrong -------------------------------------------------------------------


class Hasty(Purchase):
    """Announces its ending in the handler of a vote, as soon as the vote is there."""

    def _voted(self, m: Vote) -> None:
        super()._voted(m)
        self._end()

    def decide(self) -> None:
        if any(self.state.ballots):
            self.complete()
        else:
            super().decide()


class Pushing(Purchase):
    """Asks the next level in the handler of the timer, which a fork keeps while others are at work."""

    def _requested(self, m: Request) -> None:
        super()._requested(m)
        self._ask_next()


def fuller(siblings: Any) -> ApprovalState:
    """Keep the sibling that knows more votes, and forget the other."""
    kept: ApprovalState = max(siblings, key=lambda state: (len(state.ballots), repr(state)))
    return kept


class Forgetful(Contract, merger=fuller):
    """Merges by keeping one side."""


@pytest.mark.parametrize(
    ("broken", "requests", "kind"), [(Hasty, 1, "invariant"), (Pushing, 2, "invariant"), (Forgetful, 1, "lost-effect")]
)
def test_approval_that_decides_otherwise_is_found_out(broken: type[Approval[Any]], requests: int, kind: str) -> None:
    """Two endings, a person asked twice, a vote that was lost."""
    result = explore(
        broken,
        start=[Request("s")] * requests,
        messages=[vote("ann"), vote("bob", approves=False)],
        outcome=lambda moment: "any",
        always=[ends_once, asks_each_once],
    )
    assert result.failure is not None
    assert result.failure.kind == kind
