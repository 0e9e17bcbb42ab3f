"""What travels around an approval: to people and from them, its timers, and the four ways in which it ends."""

from __future__ import annotations

from typing import Any, Literal

from sagabus import message


@message("sagas.approval.ask")
class AskForApproval:
    """Ask one person for a vote. Goes to the endpoint of the people, who answer with a `Vote`.

    Attributes:
        subject: what is to be approved: the id of the saga.
        approver: who is asked.
        level: at which level, from 1.
        about: what the hook `about` kept of the request.
    """

    subject: str
    approver: str
    level: int
    about: Any = None


@message("sagas.approval.remind")
class RemindApprover:
    """Ask one person again. Attributes as of `AskForApproval`; `number` counts the reminders of the level from 1."""

    subject: str
    approver: str
    level: int
    number: int
    about: Any = None


@message("sagas.approval.vote")
class Vote:
    """What one person says. Send it to the endpoint of the approval, or reply with it to what asked."""

    subject: str
    approver: str
    approves: bool
    comment: str = ""


@message("sagas.approval.cancel")
class CancelApproval:
    """End the approval; nobody needs to vote any more."""

    subject: str
    by: str = ""
    reason: str = ""


@message("sagas.approval.vote-refused")
class VoteRefused:
    """Tell a person that their vote does not count: they were `not-asked`, or all is over (`closed`)."""

    subject: str
    approver: str
    reason: Literal["not-asked", "closed"]


@message("sagas.approval.escalation-due")
class EscalationDue:
    """The time of a level is over."""

    level: int


@message("sagas.approval.reminder-due")
class ReminderDue:
    """It is time to remind the people of a level, for the how-manieth time."""

    level: int
    number: int


@message("sagas.approval.approved")
class Approved:
    """Enough people of one level have approved.

    Attributes:
        approval: what the saga is called.
        subject: what was to be approved.
        level: whose approvals were enough, from 1.
        by: who approved, at whichever level, sorted.
    """

    approval: str
    subject: str
    level: int
    by: list[str]


@message("sagas.approval.rejected")
class Rejected:
    """People have rejected, so many that it ends here. `by` is who rejected, sorted."""

    approval: str
    subject: str
    by: list[str]


@message("sagas.approval.expired")
class Expired:
    """The time of the last level has passed without an answer. `silent` is who was asked and never voted, sorted."""

    approval: str
    subject: str
    silent: list[str]


@message("sagas.approval.cancelled")
class Cancelled:
    """The approval was cancelled before anything was decided."""

    approval: str
    subject: str
    by: str
    reason: str
