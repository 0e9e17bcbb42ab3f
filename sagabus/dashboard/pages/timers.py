"""What waits for its time: timers of sagas, delayed sends, retries, and what was parked."""

from __future__ import annotations

from itertools import islice
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from sagabus.dashboard.live import Live
from sagabus.dashboard.site import Site, asked_to, told

_SHOWN: Final = 100


def routes(site: Site, live: Live) -> list[BaseRoute]:
    """Return where these pages are."""

    def show(_: Request) -> Response:
        found = list(islice(site.bus.waiting.find(), _SHOWN + 1))
        return site.page(
            "Timers", "timers.html", waiting=found[:_SHOWN], more=len(found) > _SHOWN, now_ms=site.now_ms()
        )

    def act(request: Request) -> Response:
        refused = site.refusal()
        if refused is not None:
            return refused
        name, by = request.query_params.get("name", ""), site.actor(request)
        if asked_to(request, "cancel", "fire") == "cancel":
            said = site.bus.waiting.cancel(name, by=by).said
        else:
            said = "sent now" if site.bus.waiting.fire(name, by=by) else "it was being sent already"
        return told(Response(""), said)

    return [Route("/timers", show), Route("/timers/{what:str}", act, methods=["POST"])]
