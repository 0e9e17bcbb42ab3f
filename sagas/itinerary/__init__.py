"""A routing slip: steps in order, each with its undo; when one fails, what was done is undone in reverse order."""

from sagas.itinerary.messages import (
    ItineraryAbandoned,
    ItineraryCompleted,
    ItineraryOutcome,
    ItineraryUndone,
    LateUndoFailed,
    Slip,
    StepDone,
    StepFailed,
)
from sagas.itinerary.progress import ItineraryState
from sagas.itinerary.saga import Itinerary
from sagas.itinerary.steps import ItineraryError, Step

__all__ = [
    "Itinerary",
    "ItineraryAbandoned",
    "ItineraryCompleted",
    "ItineraryError",
    "ItineraryOutcome",
    "ItineraryState",
    "ItineraryUndone",
    "LateUndoFailed",
    "Slip",
    "Step",
    "StepDone",
    "StepFailed",
]
