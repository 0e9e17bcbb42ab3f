"""The dashboard as an ASGI application: pages, their styles and scripts, and what is said when something is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from sagabus.dashboard.access import HEADERS, Access
from sagabus.dashboard.live import Live
from sagabus.dashboard.pages import audit, endpoints, failures, overview, saga, sagas, timers, workers
from sagabus.dashboard.shown import environment
from sagabus.dashboard.site import Site
from sagabus.errors import (
    ConfigurationError,
    CorruptDocumentError,
    CorruptRecordError,
    DeadLetterNotFoundError,
    SagabusError,
    SagaNotFoundError,
    StoreRefusedError,
    UnavailableError,
    UnknownEndpointError,
    VersionNotFoundError,
    WaitingMessageNotFoundError,
)
from sagabus.printable import pictured
from sagabus.redaction import scrub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sagabus.bus import Bus

_STATIC: Final = Path(__file__).with_name("static")
_STATUS: Final[tuple[tuple[type[SagabusError], int], ...]] = (
    (SagaNotFoundError, 404),
    (VersionNotFoundError, 404),
    (DeadLetterNotFoundError, 404),
    (WaitingMessageNotFoundError, 404),
    (UnknownEndpointError, 404),
    (UnavailableError, 503),
    (CorruptRecordError, 500),
    (CorruptDocumentError, 500),
    (StoreRefusedError, 500),
    (ConfigurationError, 400),
    # As things are it cannot be done: nothing to merge, ended already, written too fast.
    (SagabusError, 409),
)


def dashboard(bus: Bus, *, app: str, token: str, may_act: bool = False, hosts: Sequence[str] = ()) -> Starlette:
    """Return the dashboard of *bus*, for any ASGI server.

    Args:
        bus: what is looked at; the caller closes it.
        app: its name, as `sagabus worker` takes it.
        token: whoever has it may look.
        may_act: whether whoever may look may also send again, drop, merge, cancel, pause and resume.
        hosts: names under which the dashboard may be called, besides those of this machine; `*` for any.

    Raises:
        ConfigurationError: the token is short enough to be guessed.
    """
    if len(token) < 16:
        raise ConfigurationError("a token of less than 16 characters could be guessed; leave it out to have one made")
    site = Site(bus, app, may_act, environment())
    live = Live(site)
    routes: list[BaseRoute] = [Mount("/static", StaticFiles(directory=_STATIC))]
    for page in (overview, sagas, saga, failures, endpoints, timers, workers, audit):
        routes += page.routes(site, live)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        live.close()

    async def wrong(request: Request, error: Exception) -> Response:
        return _explained(site, request, error)

    made = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(Access, token=token, hosts=hosts)],
        exception_handlers={SagabusError: wrong, HTTPException: wrong, Exception: wrong},
    )
    made.state.live = live
    return made


def _explained(site: Site, request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        status, text = error.status_code, error.detail
    elif isinstance(error, SagabusError):
        status, text = next(code for kind, code in _STATUS if isinstance(error, kind)), scrub(str(error))
    else:
        # What it says may hold anything of a state; who runs the dashboard finds it there.
        status, text = 500, f"{type(error).__name__}: a bug of the dashboard; its output has the traceback"
    if request.headers.get("hx-request") == "true":
        answer: Response = PlainTextResponse(pictured(text), status)  # said at the foot of the page that asked
    else:
        answer = site.page("", "wrong.html", status=status, text=text, code=status)
    answer.headers.update(HEADERS)  # an answer to what nobody expected does not pass through Access again
    return answer
