"""What users test their sagas, mergers, stores and transports with; each name, and pytest, is imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sagabus.testing.store_contract import StoreContract as StoreContract
    from sagabus.testing.transport_contract import TransportContract as TransportContract

_HOMES: Final = {
    "StoreContract": "sagabus.testing.store_contract",
    "TransportContract": "sagabus.testing.transport_contract",
}

__all__ = ["StoreContract", "TransportContract"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
