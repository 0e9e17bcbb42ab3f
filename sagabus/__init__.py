"""A message-bus runtime for sagas whose state may fork and is merged; each name is imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

__version__ = "0.1.0"

__all__ = [
    "Bus",
    "ConcurrencyError",
    "Context",
    "Document",
    "DocumentKey",
    "Documents",
    "Encrypted",
    "Endpoint",
    "Keyring",
    "Lease",
    "MergeSagaState",
    "RetryPolicy",
    "Saga",
    "SagabusError",
    "Signing",
    "UnmergeableStateError",
    "handles",
    "message",
    "starts",
]

if TYPE_CHECKING:
    from sagabus.bus import Bus
    from sagabus.consumer import Context
    from sagabus.documents.document import Document
    from sagabus.documents.documents import Documents
    from sagabus.documents.key import DocumentKey
    from sagabus.endpoint import Endpoint, RetryPolicy
    from sagabus.errors import ConcurrencyError, SagabusError, UnmergeableStateError
    from sagabus.leases.lease import Lease
    from sagabus.messages import MergeSagaState, message
    from sagabus.saga import Saga, handles, starts
    from sagabus.secrecy.encrypted import Encrypted
    from sagabus.secrecy.keyring import Keyring
    from sagabus.secrecy.signing import Signing
else:
    # Out of a type checker's sight, so that a name that is not there stays an error.
    _HOMES: Final = {
        "Bus": "sagabus.bus",
        "ConcurrencyError": "sagabus.errors",
        "Context": "sagabus.consumer",
        "Document": "sagabus.documents.document",
        "DocumentKey": "sagabus.documents.key",
        "Documents": "sagabus.documents.documents",
        "Encrypted": "sagabus.secrecy.encrypted",
        "Endpoint": "sagabus.endpoint",
        "Keyring": "sagabus.secrecy.keyring",
        "Lease": "sagabus.leases.lease",
        "MergeSagaState": "sagabus.messages",
        "RetryPolicy": "sagabus.endpoint",
        "Saga": "sagabus.saga",
        "SagabusError": "sagabus.errors",
        "Signing": "sagabus.secrecy.signing",
        "UnmergeableStateError": "sagabus.errors",
        "handles": "sagabus.saga",
        "message": "sagabus.messages",
        "starts": "sagabus.saga",
    }

    def __getattr__(name: str) -> Any:
        import importlib

        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_HOMES[name]), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
