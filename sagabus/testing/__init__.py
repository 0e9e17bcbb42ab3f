"""What users test their sagas, mergers, stores and transports with; each name, and pytest, is imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sagabus.testing.document_contract import DocumentStoreContract as DocumentStoreContract
    from sagabus.testing.exploration import Exploration as Exploration
    from sagabus.testing.exploration import ExplorationError as ExplorationError
    from sagabus.testing.exploration import explore as explore
    from sagabus.testing.harness.desk import HarnessError as HarnessError
    from sagabus.testing.harness.released import Deferred as Deferred
    from sagabus.testing.harness.released import Published as Published
    from sagabus.testing.harness.released import Replied as Replied
    from sagabus.testing.harness.released import Sent as Sent
    from sagabus.testing.harness.saga_harness import SagaHarness as SagaHarness
    from sagabus.testing.laws.merger_check import MergerError as MergerError
    from sagabus.testing.laws.merger_check import check_merger as check_merger
    from sagabus.testing.laws.strategies import states_of as states_of
    from sagabus.testing.lease_contract import LeaseStoreContract as LeaseStoreContract
    from sagabus.testing.playing import PlayedOtherwiseError as PlayedOtherwiseError
    from sagabus.testing.playing import play as play
    from sagabus.testing.simulator.moment import Moment as Moment
    from sagabus.testing.store_contract import StoreContract as StoreContract
    from sagabus.testing.transport_contract import TransportContract as TransportContract

_HOMES: Final = {
    "Deferred": "harness.released",
    "DocumentStoreContract": "document_contract",
    "Exploration": "exploration",
    "ExplorationError": "exploration",
    "HarnessError": "harness.desk",
    "LeaseStoreContract": "lease_contract",
    "MergerError": "laws.merger_check",
    "Moment": "simulator.moment",
    "PlayedOtherwiseError": "playing",
    "Published": "harness.released",
    "Replied": "harness.released",
    "SagaHarness": "harness.saga_harness",
    "Sent": "harness.released",
    "StoreContract": "store_contract",
    "TransportContract": "transport_contract",
    "check_merger": "laws.merger_check",
    "explore": "exploration",
    "play": "playing",
    "states_of": "laws.strategies",
}

__all__ = [
    "Deferred",
    "DocumentStoreContract",
    "Exploration",
    "ExplorationError",
    "HarnessError",
    "LeaseStoreContract",
    "MergerError",
    "Moment",
    "PlayedOtherwiseError",
    "Published",
    "Replied",
    "SagaHarness",
    "Sent",
    "StoreContract",
    "TransportContract",
    "check_merger",
    "explore",
    "play",
    "states_of",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
