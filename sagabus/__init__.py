"""A message-bus runtime for sagas whose state may fork and is merged."""

from sagabus.bus import Bus
from sagabus.consumer import Context
from sagabus.endpoint import Endpoint, RetryPolicy
from sagabus.errors import SagabusError, UnmergeableStateError
from sagabus.messages import MergeSagaState, message
from sagabus.saga import Saga, handles, starts

__version__ = "0.1.0"

__all__ = [
    "Bus",
    "Context",
    "Endpoint",
    "MergeSagaState",
    "RetryPolicy",
    "Saga",
    "SagabusError",
    "UnmergeableStateError",
    "handles",
    "message",
    "starts",
]
