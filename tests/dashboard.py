"""A client of a dashboard in this process, with cookies and without scripts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import httpx

from sagabus import Bus
from sagabus.dashboard.app import dashboard

TOKEN = "a-token-that-nobody-guesses"
HTMX = {"HX-Request": "true"}


class Browser:
    """A client with cookies, for one dashboard."""

    def __init__(self, bus: Bus, *, may_act: bool = False, origin: str = "http://localhost") -> None:
        app = dashboard(bus, app="tests:bus", token=TOKEN, may_act=may_act)
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._origin, self.cookies = origin, httpx.Cookies()

    def ask(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        async def once() -> httpx.Response:
            async with httpx.AsyncClient(
                transport=self._transport, base_url=self._origin, cookies=self.cookies
            ) as client:
                answer = await client.request(method, path, headers=headers)
                self.cookies = client.cookies
                return answer

        return asyncio.run(once())

    def get(self, path: str) -> httpx.Response:
        return self.ask("GET", path)

    def post(self, path: str) -> httpx.Response:
        """Ask for an action as our own pages do."""
        return self.ask("POST", path, HTMX | {"Origin": self._origin})

    def let_in(self) -> None:
        """Come with the token, once."""
        assert self.get(f"/?token={TOKEN}").status_code == 303
