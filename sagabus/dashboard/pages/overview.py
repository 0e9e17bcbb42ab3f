"""The overview: what is going on now, on one page that keeps itself up to date."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from sagabus.dashboard.live import EVERY_S, Live, Trend
from sagabus.dashboard.pages.failures import group_link
from sagabus.dashboard.site import Site
from sagabus.dashboard.sparkline import sparkline
from sagabus.dashboard.tally import Tally
from sagabus.errors import SagabusError
from sagabus.redaction import scrub

_OLD_FORK_MS: Final = 60_000
_SHOWN: Final = 5


def routes(site: Site, live: Live) -> list[BaseRoute]:
    """Return where this page is, and where its news come from."""

    def show(_: Request) -> Response:
        # Also while a server is down: the page says so, and comes back by itself.
        return site.page("Overview", "overview.html", now=Markup(fragment()))

    def fragment() -> str:
        try:
            return site.render("overview_now.html", **described(live))
        except SagabusError as error:
            return site.render("overview_lost.html", text=scrub(str(error)))

    async def news(request: Request) -> Response:
        async def events() -> AsyncIterator[str]:
            while not live.closed:
                yield event("overview", await run_in_threadpool(fragment))
                await asyncio.sleep(EVERY_S)

        return StreamingResponse(events(), media_type="text/event-stream")

    return [Route("/", show), Route("/live", news)]


def event(name: str, text: str) -> str:
    """Return *text* as a server-sent event."""
    lines = "".join(f"data: {line}\n" for line in text.splitlines())
    return f"event: {name}\n{lines}\n"


def described(live: Live) -> dict[str, Any]:
    """Return what the templates are given."""
    trend = live.trend()
    now, recent, looks = trend.now, trend.recent, trend.looks
    oldest_ms = now.forked.oldest_ms if now.forked else None
    rates = [look for look in looks if look.span_s]
    return {
        "now": now,
        "trend": trend,
        "recent": recent,
        "minute": trend.minute,
        "endpoints": _endpoints(trend),
        "live": sum(count.live for count in now.sagas or ()),
        "completed": sum(count.completed for count in now.sagas or ()),
        "oldest_fork_ms": now.at_ms - oldest_ms if oldest_ms is not None else None,
        "old_fork_ms": _OLD_FORK_MS,
        "quiet": [card for card in now.cards if now.quiet(card)],
        "groups": [(group, group_link(group)) for group in live.groups()[:_SHOWN]],
        "sparks": {
            "handled": sparkline([look.total.handled / look.span_s for look in rates]),
            "latency": sparkline([look.total.latency.quantile(0.99) for look in rates]),
            "depth": sparkline([look.depth for look in looks]),
            "forks": sparkline([look.total.forked / look.span_s for look in rates]),
            "merges": sparkline([look.total.merges / look.span_s for look in rates]),
        },
    }


def _endpoints(trend: Trend) -> list[dict[str, Any]]:
    return [
        {
            "name": queue.endpoint,
            "depth": queue.depth,
            "oldest_ms": trend.now.waited_ms(queue.endpoint),
            "done": trend.by_endpoint.get(queue.endpoint, Tally()),
            "paused": queue.endpoint in trend.now.paused,
            "workers": trend.now.workers_of(queue.endpoint),
        }
        for queue in trend.now.queues
    ]
