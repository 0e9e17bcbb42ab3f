"""Ready-made sagas, each written on the kernel's public API alone."""

from sagas.itinerary import (
    Itinerary,
    ItineraryCompleted,
    ItineraryError,
    ItineraryOutcome,
    ItineraryState,
    ItineraryStuck,
    ItineraryUndone,
    LateUndoFailed,
    Slip,
    Step,
    StepDone,
    StepFailed,
)
from sagas.quorum import DECLINED, Quorum, QuorumDeadline, QuorumMissed, QuorumState, UnknownMemberError

__all__ = [
    "DECLINED",
    "Itinerary",
    "ItineraryCompleted",
    "ItineraryError",
    "ItineraryOutcome",
    "ItineraryState",
    "ItineraryStuck",
    "ItineraryUndone",
    "LateUndoFailed",
    "Quorum",
    "QuorumDeadline",
    "QuorumMissed",
    "QuorumState",
    "Slip",
    "Step",
    "StepDone",
    "StepFailed",
    "UnknownMemberError",
]
