"""Ready-made sagas, each written on the kernel's public API alone."""

from sagas.approval import Approval, Level
from sagas.itinerary import (
    Itinerary,
    ItineraryAbandoned,
    ItineraryCompleted,
    ItineraryError,
    ItineraryOutcome,
    ItineraryState,
    ItineraryUndone,
    LateUndoFailed,
    Slip,
    Step,
    StepDone,
    StepFailed,
)
from sagas.once import Once, OnceRecord, OnceStatus, once
from sagas.quorum import DECLINED, Quorum, QuorumDeadline, QuorumMissed, QuorumState, UnknownMemberError
from sagas.transfer import (
    Account,
    Coin,
    MoneyTransferred,
    Transfer,
    TransferMoney,
    TransferRefused,
    audit_bank,
    open_bank,
)

__all__ = [
    "DECLINED",
    "Account",
    "Approval",
    "Coin",
    "Itinerary",
    "ItineraryAbandoned",
    "ItineraryCompleted",
    "ItineraryError",
    "ItineraryOutcome",
    "ItineraryState",
    "ItineraryUndone",
    "LateUndoFailed",
    "Level",
    "MoneyTransferred",
    "Once",
    "OnceRecord",
    "OnceStatus",
    "Quorum",
    "QuorumDeadline",
    "QuorumMissed",
    "QuorumState",
    "Slip",
    "Step",
    "StepDone",
    "StepFailed",
    "Transfer",
    "TransferMoney",
    "TransferRefused",
    "UnknownMemberError",
    "audit_bank",
    "once",
    "open_bank",
]
