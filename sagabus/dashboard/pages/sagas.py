"""The sagas: found by class, lifecycle, age, siblings or key, a page at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from sagabus.commit import Lifecycle, Want
from sagabus.dashboard.live import Live
from sagabus.dashboard.site import Site
from sagabus.envelope import SagaKey
from sagabus.index.part import index_of
from sagabus.index.query import SagaQuery

_PAGE: Final = 50
_STATES: Final = {
    "": "any",
    "live": "live",
    "forked": "with siblings",
    "completed": "completed",
}
_AGES: Final = {
    "": "any age",
    "60": "older than a minute",
    "3600": "older than an hour",
    "86400": "older than a day",
    "604800": "older than a week",
}
_EMPTY_LOOKS: Final = 5
"""A page of what is rare may be empty and be followed by others; so many are asked for at once."""


def routes(site: Site, live: Live) -> list[BaseRoute]:
    """Return where this page is."""

    def show(request: Request) -> Response:
        asked = request.query_params
        text = asked.get("q", "").strip()
        key = _exactly(site, text)
        if key is not None:
            where = f"/saga?{urlencode({'key': str(key)})}"
            # htmx would follow a redirect by itself, and look for the table of this page on the other one.
            by_htmx = request.headers.get("hx-request") == "true"
            return Response("", headers={"HX-Redirect": where}) if by_htmx else RedirectResponse(where, 303)
        found = _found(site, asked, text)
        if "cursor" in asked:
            return site.fragment("saga_rows.html", **found)
        counts = index_of(site.bus.store).counts()
        return site.page("Sagas", "sagas.html", states=_STATES, ages=_AGES, counts=counts, **found)

    return [Route("/sagas", show)]


def _exactly(site: Site, text: str) -> SagaKey | None:
    """Return the saga that is called *text*, as NAME/ID; None where there is none."""
    if "/" not in text:
        return None
    key = SagaKey.parse(text)
    (snapshot,) = site.bus.store.load([Want(key)])
    return None if snapshot.lifecycle is Lifecycle.ABSENT else key


def _found(site: Site, asked: Mapping[str, str], text: str) -> dict[str, Any]:
    name, slash, prefix = text.partition("/")
    state, age = asked.get("state", ""), asked.get("age", "")
    now_ms = site.now_ms()
    query = SagaQuery(
        name=(name if slash else asked.get("name", "")) or None,
        lifecycle=Lifecycle(state) if state in ("live", "completed") else None,
        forked=state == "forked",
        started_before_ms=now_ms - int(age) * 1000 if age in _AGES and age else None,
        id_prefix=prefix if slash else text,
    )
    index, cursor = index_of(site.bus.store), asked.get("cursor", "")
    for _ in range(_EMPTY_LOOKS):
        page = index.find(query, limit=_PAGE, cursor=cursor)
        cursor = page.cursor
        if page.rows or not cursor:
            break
    kept = {field: asked.get(field, "") for field in ("q", "name", "state", "age") if asked.get(field)}
    return {
        "rows": page.rows,
        "unreadable": page.unreadable,
        "next": urlencode(kept | {"cursor": cursor}) if cursor else "",
        "asked": {"q": text, "name": asked.get("name", ""), "state": state, "age": age},
        "now_ms": now_ms,
    }
