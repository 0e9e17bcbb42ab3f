"""A look at an app in a process of its own: what is on its bus, or why it cannot be loaded.

A process that has imported an app can never import its next version cleanly, so `sagabus dev` imports none; and one
that cannot be imported is found here, before the workers that run are stopped for it.
`python -m sagabus.dev.survey APP FILE` writes what it found into FILE: what an app prints goes where it always goes.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from sagabus.errors import AppImportError, SagabusError
from sagabus.redaction import scrub

if TYPE_CHECKING:
    from sagabus.bus import Bus


class Survey(msgspec.Struct, frozen=True):
    """What was found.

    Attributes:
        problem: why the app cannot be loaded; empty where it can.
        store, transport: their URLs, without credentials.
        folder: of the embedded server, where the store is that.
        endpoints: those that handle something.
        example: a command line that sends a first message; empty where none is to be thought of.
        saga: the saga that it starts, as `NAME/ID`; empty where it starts none, or one whose id is not known before.
    """

    problem: str = ""
    store: str = ""
    transport: str = ""
    folder: str = ""
    endpoints: tuple[str, ...] = ()
    example: str = ""
    saga: str = ""


def survey(app: str) -> Survey:
    """Return what is found of *app*, which is imported into this process."""
    from sagabus.app import load_app, traceback_of

    try:
        bus = load_app(app)
    except AppImportError as error:
        return Survey(problem=scrub(traceback_of(error.__cause__ or error)))
    except SagabusError as error:
        return Survey(problem=scrub(str(error)))
    except BaseException as error:  # an app may do anything at all while it is imported
        return Survey(problem=scrub(traceback_of(error)))
    with bus:
        return _of(app, bus)


def _of(app: str, bus: Bus) -> Survey:
    from sagabus.connect import embedded_folder, scheme_of

    endpoints = tuple(name for name, endpoint in bus.endpoints.items() if endpoint.handled_types())
    example, saga = _example(app, bus)
    return Survey(
        store=scrub(bus.store_url),
        transport=scrub(bus.transport_url),
        folder=str(embedded_folder(bus.store_url)) if scheme_of(bus.store_url) == "embedded" else "",
        endpoints=endpoints,
        example=example,
        saga=saga,
    )


def _example(app: str, bus: Bus) -> tuple[str, str]:
    """Return the line that sends a message to the first saga there is, or to the first consumer, and that saga."""
    from sagabus.asyncapi.sample import sample_body

    starts = [
        (endpoint.name, handler.kind, saga.name, handler.key)
        for endpoint in bus.endpoints.values()
        for saga in endpoint.sagas
        for handler in saga.handlers.values()
        if handler.starts
    ]
    starts += [(e.name, consumer.kind, "", None) for e in bus.endpoints.values() for consumer in e.consumers]
    if not starts:
        return "", ""
    endpoint, kind, saga, key = starts[0]
    body = sample_body(kind.cls)
    line = shlex.join(("sagabus", "send", app, kind.name, msgspec.json.encode(body).decode(), "--to", endpoint))
    return line, f"{saga}/{body[key]}" if key in body else ""


def main() -> None:
    """Survey the app and write what was found; see the module."""
    app, path = sys.argv[1:]
    Path(path).write_bytes(msgspec.json.encode(survey(app)))


if __name__ == "__main__":
    main()
