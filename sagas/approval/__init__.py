"""An approval waits for people, or for time: votes race, levels escalate, and one answer leaves."""

from sagas.approval.ballots import ApprovalState, Ballot
from sagas.approval.levels import Level
from sagas.approval.messages import (
    Approved,
    AskForApproval,
    CancelApproval,
    Cancelled,
    EscalationDue,
    Expired,
    Rejected,
    RemindApprover,
    ReminderDue,
    Vote,
    VoteRefused,
)
from sagas.approval.saga import Approval

__all__ = [
    "Approval",
    "ApprovalState",
    "Approved",
    "AskForApproval",
    "Ballot",
    "CancelApproval",
    "Cancelled",
    "EscalationDue",
    "Expired",
    "Level",
    "Rejected",
    "RemindApprover",
    "ReminderDue",
    "Vote",
    "VoteRefused",
]
