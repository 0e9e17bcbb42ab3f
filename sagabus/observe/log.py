"""Logs: structlog, as key-value pairs or JSON, on stderr; what is being handled is bound to every line."""

from __future__ import annotations

import logging
import sys
from typing import Any

from sagabus.observe.handling import add_handling


def get_logger() -> Any:
    """Return the logger of the runtime; where nobody has set up structlog, one for warnings and errors, on stderr."""
    import structlog

    if structlog.is_configured():
        return structlog.get_logger("sagabus")
    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[*_shared_processors(), structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())],
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
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty() if color is None else color)
    )
    tail = [structlog.processors.format_exc_info] if as_json else []
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
