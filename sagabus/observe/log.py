"""Logs: structlog, as key-value pairs or JSON, on stderr; every line says what was being handled, and no secret."""

from __future__ import annotations

import logging
import operator
import sys
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, Final

from sagabus.observe.handling import add_handling
from sagabus.printable import printable, printable_lines
from sagabus.redaction import HIDDEN, names_a_secret, scrub

_MAX_DEPTH: Final = 8
_MAY_HAVE_LINES: Final = ("event", "exception", "stack")


def get_logger() -> Any:
    """Return the logger of the runtime; where nobody has set up structlog, one for warnings and errors, on stderr."""
    import structlog

    if structlog.is_configured():
        return structlog.get_logger("sagabus")
    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[*_shared_processors(), *_last_processors(), _console(sys.stderr.isatty())],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )


def _shared_processors() -> list[Any]:
    import structlog

    return [
        structlog.contextvars.merge_contextvars,
        add_handling,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _last_processors() -> list[Any]:
    """Return what every line goes through before it is rendered."""
    import structlog

    # A traceback is text before it is redacted. Not one that shows local variables, as the console's own would: what
    # handlers hold in them is nobody's business.
    return [structlog.processors.format_exc_info, redact_event, escape_event]


def _console(color: bool) -> Any:
    import structlog

    return structlog.dev.ConsoleRenderer(colors=color, exception_formatter=structlog.dev.plain_traceback)


def escape_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Have no value of a line write another line, or tell a terminal what to do; a processor for structlog.

    What was logged as the event itself, and tracebacks, may have lines.
    """
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = (printable_lines if name in _MAY_HAVE_LINES else printable)(value)
    return event


def redact_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hide what looks like a credential in every value of a line; a processor for structlog.

    For programs that set up structlog by themselves: put it behind `format_exc_info`, right before the renderer.
    """
    for name, value in event.items():
        if name not in ("_record", "_from_structlog"):
            event[name] = HIDDEN if names_a_secret(name) else _redacted(value, _MAX_DEPTH)
    return event


def _redacted(value: Any, depth: int) -> Any:
    """Return *value* as it may be shown; what is no text, number or container is shown as its repr is."""
    if isinstance(value, str):
        return scrub(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth and isinstance(value, dict):
        return {
            key: HIDDEN if isinstance(key, str) and names_a_secret(key) else _redacted(item, depth - 1)
            for key, item in value.items()
        }
    if depth and isinstance(value, list | tuple | set | frozenset):
        items = [_redacted(item, depth - 1) for item in value]
        return value if all(map(operator.is_, items, value)) else items
    text = repr(value)
    hidden = scrub(text)
    return value if hidden == text else hidden


def says_all(log: Any) -> bool:
    """Return whether *log*, a structlog logger, says lines of the level DEBUG; True where it does not tell."""
    enabled = getattr(log, "is_enabled_for", None)
    return enabled is None or bool(enabled(logging.DEBUG))


def show_no_secrets_at_exit() -> None:
    """Have what ends this process, or one of its threads, by an exception be printed without credentials."""
    import threading

    def print_exception(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None, /) -> None:
        sys.stderr.write(scrub("".join(traceback.format_exception(kind, error, trace))))

    def print_of_thread(args: threading.ExceptHookArgs, /) -> None:
        if args.exc_type is not SystemExit:
            print_exception(args.exc_type, args.exc_value, args.exc_traceback)

    sys.excepthook = print_exception
    threading.excepthook = print_of_thread


def configure(*, level: str = "INFO", as_json: bool = False, color: bool | None = None) -> None:
    """Set up structlog, and the standard library's logging with it, for a worker process.

    Lines that users log in a handler, through either, carry the saga, the message id and its type.

    Args:
        level: the least level shown: DEBUG, INFO, WARNING or ERROR.
        as_json: one JSON object a line instead of key-value pairs.
        color: whether to color key-value pairs; None for: on a terminal.
    """
    import structlog

    number = logging.getLevelNamesMapping()[level.upper()]
    shared = _shared_processors()
    renderer: Any = (
        structlog.processors.JSONRenderer() if as_json else _console(sys.stderr.isatty() if color is None else color)
    )
    tail = _last_processors()
    structlog.configure(
        processors=[*shared, *tail, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tail, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
