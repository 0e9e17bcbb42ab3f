"""What every page stands on: the bus, the templates, and whether anything may be changed."""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import unquote

from attrs import frozen
from jinja2 import Environment
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from sagabus.bus import Bus
from sagabus.dead_letters.dead_letters import whoami
from sagabus.printable import pictured, shortened

_SAID: Final = 2_000
PAGES: Final = (
    ("Overview", "/", "o"),
    ("Sagas", "/sagas", "s"),
    ("Failures", "/failures", "f"),
    ("Endpoints", "/endpoints", "e"),
    ("Timers", "/timers", "i"),
    ("Workers", "/workers", "w"),
    ("Audit", "/audit", "a"),
)
"""Name, address, and the key that leads there behind `g`."""


@frozen
class Site:
    """What the pages of one dashboard share.

    Attributes:
        bus: what is looked at.
        app: its name, as `sagabus worker` takes it.
        may_act: whether anything may be changed.
        env: the templates.
    """

    bus: Bus
    app: str
    may_act: bool
    env: Environment

    def now_ms(self) -> int:
        """Return the store's time, ms since 1970."""
        return self.bus.store.next_due_ms()[0]

    def page(self, here: str, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """Return a whole page; *here* is its name in PAGES."""
        return self.fragment(template, status=status, here=here, **values)

    def fragment(self, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """Return what a template makes of *values*."""
        return HTMLResponse(self.render(template, **values), status)

    def render(self, template: str, **values: Any) -> str:
        """Return the text that a template makes of *values*."""
        return self.env.get_template(template).render(pages=PAGES, app=self.app, may_act=self.may_act, **values)

    def refusal(self) -> Response | None:
        """Return what somebody gets who wants to change something and may not; None where they may."""
        if self.may_act:
            return None
        return PlainTextResponse("This dashboard is read-only; start it with --allow-actions to change anything", 403)

    def actor(self, request: Request) -> str:
        """Return who acts, for the audit trail."""
        where = request.client.host if request.client else ""
        try:
            ip_address(where)
        except ValueError:
            where = "unknown"  # a proxy on this machine may say anything
        return f"{whoami()} (dashboard, from {where})"


def asked_to(request: Request, *known: str) -> str:
    """Return what a request wants done, the last part of its address.

    Raises:
        HTTPException: it is none of *known*.
    """
    what: str = request.path_params["what"]
    if what not in known:
        raise HTTPException(404, f"nothing here is called {what!r}; it is one of {', '.join(known)}")
    return what


def prompted(request: Request) -> str:
    """Return what somebody has typed where they were asked; empty for nothing."""
    said = request.headers.get("hx-prompt", "")
    return unquote(said) if request.headers.get("hx-prompt-uri-autoencoded") == "true" else said


def told(response: Response, text: str) -> Response:
    """Have *response* also say *text* at the foot of the page."""
    # A header holds ASCII alone, and is not for long texts.
    response.headers["HX-Trigger"] = json.dumps({"told": {"value": pictured(shortened(text, _SAID))}})
    return response
