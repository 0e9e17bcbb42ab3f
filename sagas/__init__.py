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
from sagas.once import Once, OnceRecord, OnceStatus, once

__all__ = [
    "Itinerary",
    "ItineraryCompleted",
    "ItineraryError",
    "ItineraryOutcome",
    "ItineraryState",
    "ItineraryStuck",
    "ItineraryUndone",
    "LateUndoFailed",
    "Once",
    "OnceRecord",
    "OnceStatus",
    "Slip",
    "Step",
    "StepDone",
    "StepFailed",
    "once",
]
