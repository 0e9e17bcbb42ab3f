"""The workers: who they are, what they do, and when they last gave a sign of life."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from sagabus.dashboard.live import Live
from sagabus.dashboard.site import Site


def routes(site: Site, live: Live) -> list[BaseRoute]:
    """Return where this page is."""

    def show(_: Request) -> Response:
        return site.page("Workers", "workers.html", now=live.trend().now)

    def rows(_: Request) -> Response:
        return site.fragment("worker_rows.html", now=live.trend().now)

    return [Route("/workers", show), Route("/workers/rows", rows)]
