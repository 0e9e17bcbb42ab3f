"""From errors to exit codes: the one place that knows them."""

from __future__ import annotations

from typing import Final

from sagabus.errors import (
    AmbiguousDeadLetterError,
    AmbiguousWaitingMessageError,
    AppImportError,
    CodecError,
    ConfigurationError,
    DeadLetterGroupNotFoundError,
    DeadLetterNotFoundError,
    DefinitionError,
    HandlerHungError,
    NoRouteError,
    SagabusError,
    SagaNotFoundError,
    UnavailableError,
    UnknownEndpointError,
    VersionNotFoundError,
    WaitingMessageNotFoundError,
)

FAILURE: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
UNREACHABLE: Final = 4
HUNG: Final = 5

_CODES: Final[tuple[tuple[type[SagabusError], int], ...]] = (
    (UnavailableError, UNREACHABLE),
    (HandlerHungError, HUNG),
    (SagaNotFoundError, NOT_FOUND),
    (VersionNotFoundError, NOT_FOUND),
    (DeadLetterNotFoundError, NOT_FOUND),
    (DeadLetterGroupNotFoundError, NOT_FOUND),
    (WaitingMessageNotFoundError, NOT_FOUND),
    (AmbiguousDeadLetterError, USAGE),
    (AmbiguousWaitingMessageError, USAGE),
    (UnknownEndpointError, NOT_FOUND),
    (NoRouteError, USAGE),
    (ConfigurationError, USAGE),
    # Nothing but a change of the app helps, as with an option that cannot be.
    (DefinitionError, USAGE),
)


def exit_code(error: SagabusError) -> int:
    """Return the exit code that *error* means.

    1 failure, 2 usage or definition, 3 not found, 4 store or broker unreachable, 5 a handler hangs.
    """
    if isinstance(error, CodecError) and error.reason == "unknown-type":
        return NOT_FOUND
    if isinstance(error, AppImportError) and error.hopeless:
        return USAGE
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILURE)
