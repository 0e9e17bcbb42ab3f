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
from sagabus.dashboard.site import Site, asked_to, told
from sagabus.dead_letters.groups import LetterGroup
from sagabus.dead_letters.letter import DeadLetter

_GROUPS: Final = 100
_LETTERS: Final = 100
_SAID_ERRORS: Final = 3
_ACTIONS: Final = ("retry", "drop", "retry-group", "drop-group")


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
        what, by = asked_to(request, *_ACTIONS), site.actor(request)
        if what.endswith("-group"):
            letters: Iterable[DeadLetter] = site.bus.dead_letters.of_group(_meant(request))
            said, _ = _done(site, what.removesuffix("-group"), letters, by)
            return told(site.fragment("failure_groups.html", **_groups(site)), said)
        letter = _asked(site, request)
        said, done = _done(site, what, [letter], by)
        answer = site.fragment("failure_actions.html", said=said, done=done, letter=letter, link=_link(letter))
        return told(answer, said)

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
    shown = [{"of": group, "link": group_link(group)} for group in found.groups[:_GROUPS]]
    return {"groups": shown, "found": found, "now_ms": site.now_ms()}


def group_link(group: LetterGroup) -> str:
    named = {"error": group.error, "type": group.type, "reason": group.reason, "endpoint": group.endpoint}
    return urlencode(named)


def _meant(request: Request) -> LetterGroup:
    asked = request.query_params
    error, kind, reason, endpoint = (asked.get(name, "") for name in ("error", "type", "reason", "endpoint"))
    return LetterGroup(error, kind, reason, endpoint)


def _letter(site: Site, letter: DeadLetter) -> dict[str, Any]:
    return {
        "letter": letter,
        "link": _link(letter),
        "said": "",
        "done": False,
        "message": _plain(letter.body),
        "context": _plain(letter.context) if letter.context else None,
        "resent": bool(site.bus.store.letters.resent([letter])[0]),
        "trail": [line for line in site.bus.dead_letters.audit(letter.id) if line.id == letter.id],
    }


def _plain(data: bytes) -> Any:
    """Return JSON as plain data; what is none as text."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return data.decode(errors="backslashreplace")


def _link(letter: DeadLetter) -> str:
    return urlencode({"endpoint": letter.endpoint, "id": letter.id})


def _done(site: Site, what: str, letters: Iterable[DeadLetter], by: str) -> tuple[str, bool]:
    """Send letters again or drop them; return what came of it in a sentence, and whether that is all of it."""
    if what == "drop":
        return f"{site.bus.dead_letters.drop(letters, by=by)} dropped", True
    done = site.bus.dead_letters.retry(letters, by=by)
    errors = Counter(str(one.error) for one in done if one.error is not None)
    said = f"{len(done) - errors.total()} sent again"
    if errors:
        most = "; ".join(f"{error} ({n})" if n > 1 else error for error, n in errors.most_common(_SAID_ERRORS))
        said += f"; {errors.total()} not: {most}"
    return said, not errors
