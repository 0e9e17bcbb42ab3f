"""What the exit code of a command says about an error."""

from __future__ import annotations

import pytest

from sagabus.cli.exit_codes import exit_code
from sagabus.errors import (
    AppImportError,
    BrokerUnavailableError,
    CodecError,
    ConfigurationError,
    DefinitionError,
    NoRouteError,
    SagabusError,
    SagaNotFoundError,
    StoreRefusedError,
    StoreUnavailableError,
    UnknownEndpointError,
    UnknownTransportError,
    WorkAbandonedError,
)
from sagabus.observe.record import RestlessSagaError
from sagabus.observe.record_lines import RecordError
from sagabus.observe.rerun import ChangedSagasError, NothingReplayedError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SagabusError("any"), 1),
        (CodecError("bad bytes"), 1),
        (StoreRefusedError("too old"), 1),
        (WorkAbandonedError("w", "the store is gone"), 1),
        (ChangedSagasError(["Saga/1"]), 1),
        (NothingReplayedError(3), 1),
        (RestlessSagaError("Saga/1"), 1),
        (AppImportError("shop.app", ConnectionError("refused")), 1),
        (AppImportError("shop.app", SyntaxError("invalid syntax")), 2),
        (AppImportError("shop.app", ModuleNotFoundError("No module named 'numpy'")), 2),
        (RecordError(1, "no head"), 2),
        (ConfigurationError("no such option"), 2),
        (UnknownTransportError("gopher", ["redis"]), 2),
        (DefinitionError("app.State", "no rule", "Give it one"), 2),
        (NoRouteError("app.message"), 2),
        (SagaNotFoundError("Saga/1"), 3),
        (UnknownEndpointError("nowhere", []), 3),
        (CodecError("no such type", "unknown-type"), 3),
        (StoreUnavailableError("redis://h", "refused"), 4),
        (BrokerUnavailableError("amqp://h", "refused"), 4),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_error_has_its_exit_code(error: SagabusError, code: int) -> None:
    """1 failure, 2 what no second try would mend, 3 not found, 4 unreachable; work left undone is never 0."""
    assert exit_code(error) == code
