"""What people did, newest first."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from sagabus.dashboard.live import Live
from sagabus.dashboard.site import Site
from sagabus.operations.audit import trail

_SHOWN: Final = 200


def routes(site: Site, live: Live) -> list[BaseRoute]:
    """Return where this page is."""

    def show(request: Request) -> Response:
        text = request.query_params.get("q", "").strip()
        found = trail(site.bus, saga=text if "/" in text else "", id="" if "/" in text else text, limit=_SHOWN)
        return site.page("Audit", "audit.html", lines=found, text=text)

    return [Route("/audit", show)]
