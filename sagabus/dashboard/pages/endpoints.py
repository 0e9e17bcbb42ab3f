"""The endpoints: what waits for them, who works on them, and which messages go where."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from sagabus.dashboard.live import Live
from sagabus.dashboard.site import Site, asked_to, prompted, told
from sagabus.dashboard.topology import topology
from sagabus.endpoint import Endpoint
from sagabus.operations.pausing import pause, resume


def routes(site: Site, live: Live) -> list[BaseRoute]:
    """Return where these pages are."""

    def show(_: Request) -> Response:
        return site.page("Endpoints", "endpoints.html", **_found(site, live))

    def order(request: Request) -> Response:
        refused = site.refusal()
        if refused is not None:
            return refused
        name, what = request.query_params.get("name", ""), asked_to(request, "pause", "resume")
        if what == "pause":
            pause(site.bus, name, by=site.actor(request), why=prompted(request))
        else:
            resume(site.bus, name, by=site.actor(request))
        answer = site.fragment("endpoint_rows.html", **_found(site, live))
        return told(answer, f"{name}: {what}d; workers see it within two seconds")

    return [
        Route("/endpoints", show),
        Route("/endpoints/{what:str}", order, methods=["POST"]),
    ]


def _found(site: Site, live: Live) -> dict[str, Any]:
    now = live.trend().now
    paused, own = site.bus.store.presence.paused(), site.bus.endpoints
    rows = [
        {
            "name": queue.endpoint,
            "depth": queue.depth,
            "oldest_ms": now.waited_ms(queue.endpoint),
            "partitions": queue.partitions,
            "own": queue.endpoint in own,
            "handlers": _handlers(own.get(queue.endpoint)),
            "pause": paused.get(queue.endpoint),
            "workers": now.workers_of(queue.endpoint),
        }
        for queue in now.queues
    ]
    graph = topology(own.values(), site.bus.routes, now.queues)
    return {"rows": rows, "graph": graph, "transport": site.bus.transport.url}


def _handlers(endpoint: Endpoint | None) -> list[str]:
    if endpoint is None:
        return []
    return list(dict.fromkeys([saga.name for saga in endpoint.sagas] + [c.name for c in endpoint.consumers]))
