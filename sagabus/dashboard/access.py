"""Who may look at the dashboard, and who may act: a token, kept in a cookie; requests of other sites are refused."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_COOKIE: Final = "sagabus_dashboard"
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")
_SAFE: Final = ("GET", "HEAD")
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS: Final = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
"""What every answer has."""
_HOW: Final = "sagabus: this page needs the token; open the address that `sagabus dashboard` printed\n"


class Access:
    """ASGI middleware that lets nobody in without the token.

    The token comes once in the address, `?token=...`, and goes into a cookie that scripts cannot read and other sites
    do not send. Behind it, a request is refused whose `Host` is not one that the dashboard is called by (so that no
    foreign name can be pointed at this machine), and one that changes something and comes from another origin.

    Args:
        app: what is protected.
        token: what to ask for.
        hosts: names under which the dashboard may be called, besides those of this machine; `*` for any.
    """

    def __init__(self, app: ASGIApp, token: str, hosts: Sequence[str] = ()) -> None:
        self._app, self._token = app, token
        self._hosts = {*_LOCAL, *(host.lower() for host in hosts)}
        # What is in the cookie opens the dashboard, but is not what is in the address.
        self._ticket = hmac.new(token.encode(), b"sagabus dashboard", hashlib.sha256).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if scope["path"].startswith("/static/"):
                    headers["cache-control"] = "private, no-cache"  # kept, and asked for by its ETag
            await send(message)

        await (self._answer(scope) or self._app)(scope, receive, guarded)

    def _answer(self, scope: Scope) -> Response | None:
        """Return what a request gets that does not come through; None for one that does."""
        headers = Headers(scope=scope)
        host = _host(headers.get("host", ""))
        if host is None or ("*" not in self._hosts and host.hostname not in self._hosts):
            name = host.hostname if host else "that"
            return PlainTextResponse(f"sagabus: the dashboard is not called {name}; name it with --allow-host\n", 400)
        # Browsers tell the ports of a host apart everywhere but in cookies: each dashboard has one of its own name.
        cookie = f"{_COOKIE}_{host.port}" if host.port else _COOKIE
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = next((value for name, value in query if name == "token"), None)
        if given is not None:
            if not hmac.compare_digest(given.encode(), self._token.encode()):
                return PlainTextResponse(_HOW, 401)
            left = [(name, value) for name, value in query if name != "token"]
            where = scope["path"] + (f"?{urlencode(left)}" if left else "")
            # Not to another host: a path that begins with two slashes would be one.
            answer = RedirectResponse("/" + where.lstrip("/\\"), 303)
            answer.set_cookie(
                cookie, self._ticket, httponly=True, samesite="strict", path="/", secure=scope["scheme"] == "https"
            )
            return answer
        ticket = cookie_parser(headers.get("cookie", "")).get(cookie, "")
        if not hmac.compare_digest(ticket.encode(), self._ticket.encode()):
            return PlainTextResponse(_HOW, 401)
        if scope["method"] not in _SAFE and not self._own(headers, host.netloc):
            return PlainTextResponse("sagabus: refused, as it comes from another site\n", 403)
        return None

    @staticmethod
    def _own(headers: Headers, host: str) -> bool:
        """Return whether a request that changes something comes from our own pages."""
        origin = headers.get("origin")
        return headers.get("hx-request") == "true" and (origin is None or urlsplit(origin).netloc == host)


def _host(text: str) -> SplitResult | None:
    """Return the host and port of a `Host` header; None where it makes no sense."""
    try:
        found = urlsplit(f"//{text}")
        _ = found.port, found.hostname
    except ValueError:
        return None
    return found
