"""The dead letters, grouped by error: looked at, sent again, dropped, one or a group at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from sagabus.dashboard.live import Live
from sagabus.dashboard.site import Site, told
from sagabus.dead_letters.groups import LetterGroup
from sagabus.dead_letters.letter import DeadLetter

_GROUPS: Final = 100
_LETTERS: Final = 100
_SAID_ERRORS: Final = 3


def routes(site: Site, live: Live) -> list[BaseRoute]:
    """Return where these pages are."""

    def show(_: Request) -> Response:
        return site.page("Failures", "failures.html", **_groups(site))

    def group(request: Request) -> Response:
        meant = _meant(request)
        found = list(islice(site.bus.dead_letters.of_group(meant), _LETTERS + 1))
        return site.page(
            "Failures",
            "failure_letters.html",
            title=meant.error or meant.reason,
            letters=found[:_LETTERS],
            more=len(found) > _LETTERS,
            now_ms=site.now_ms(),
        )

    def letter(request: Request) -> Response:
        return site.page("Failures", "failure_letter.html", **_letter(site, _asked(site, request)))

    def act(request: Request) -> Response:
        refused = site.refusal()
        if refused is not None:
            return refused
        what, by = request.path_params["what"], site.actor(request)
        if what.endswith("-group"):
            letters: Iterable[DeadLetter] = site.bus.dead_letters.of_group(_meant(request))
            said = _done(site, what.removesuffix("-group"), letters, by)
            return told(site.fragment("failure_groups.html", **_groups(site)), said)
        return told(Response(""), _done(site, what, [_asked(site, request)], by))

    return [
        Route("/failures", show),
        Route("/failures/group", group),
        Route("/failures/letter", letter),
        Route("/failures/{what:str}", act, methods=["POST"]),
    ]


def _asked(site: Site, request: Request) -> DeadLetter:
    asked = request.query_params
    return site.bus.dead_letters.get(asked.get("id", ""), endpoint=asked.get("endpoint", ""))


def _groups(site: Site) -> dict[str, Any]:
    found = site.bus.dead_letters.groups()
    shown = [{"of": group, "link": _link(group)} for group in found.groups[:_GROUPS]]
    return {"groups": shown, "found": found, "now_ms": site.now_ms()}


def _link(group: LetterGroup) -> str:
    named = {"error": group.error, "type": group.type, "reason": group.reason, "endpoint": group.endpoint}
    return urlencode(named)


def _meant(request: Request) -> LetterGroup:
    asked = request.query_params
    error, kind, reason, endpoint = (asked.get(name, "") for name in ("error", "type", "reason", "endpoint"))
    return LetterGroup(error, kind, reason, endpoint)


def _letter(site: Site, letter: DeadLetter) -> dict[str, Any]:
    message: Any
    try:
        message = msgspec.json.decode(letter.body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        message = letter.body.decode(errors="backslashreplace")
    return {
        "letter": letter,
        "link": urlencode({"endpoint": letter.endpoint, "id": letter.id}),
        "message": message,
        "context": msgspec.json.decode(letter.context) if letter.context else None,
        "resent": bool(site.bus.store.letters.resent([letter])[0]),
        "trail": [line for line in site.bus.dead_letters.audit(letter.id) if line.id == letter.id],
    }


def _done(site: Site, what: str, letters: Iterable[DeadLetter], by: str) -> str:
    """Send letters again or drop them, and return what came of it in a sentence."""
    if what == "drop":
        return f"{site.bus.dead_letters.drop(letters, by=by)} dropped"
    done = site.bus.dead_letters.retry(letters, by=by)
    errors = Counter(str(one.error) for one in done if one.error is not None)
    said = f"{sum(one.error is None for one in done)} sent again"
    if errors:
        said += "; " + "; ".join(f"{n} not: {error}" for error, n in errors.most_common(_SAID_ERRORS))
    return said
