"""Who gets into the dashboard, and who does not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping

import httpx
import pytest

from sagabus import Bus
from sagabus.dashboard.app import dashboard
from sagabus.errors import ConfigurationError

TOKEN = "a-token-that-nobody-guesses"
HTMX = {"HX-Request": "true"}


class Browser:
    """A client with cookies, for one dashboard."""

    def __init__(self, bus: Bus, *, may_act: bool = False, origin: str = "http://localhost") -> None:
        app = dashboard(bus, app="tests:bus", token=TOKEN, may_act=may_act)
        self._transport = httpx.ASGITransport(app)
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


@pytest.fixture
def bus() -> Iterator[Bus]:
    with Bus("memory:", "memory:") as made:
        made.endpoint("credit")
        yield made


def test_page_without_the_token_says_where_to_get_it(bus: Bus) -> None:
    browser = Browser(bus)
    for path in ("/", "/sagas", "/static/dashboard.css", "/?token=another"):
        answer = browser.get(path)
        assert answer.status_code == 401
        assert "sagabus dashboard" in answer.text


def test_token_becomes_a_cookie_and_leaves_the_address(bus: Bus) -> None:
    """It is in no history of addresses, and scripts and other sites cannot read what opens the dashboard."""
    browser = Browser(bus)
    answer = browser.get(f"/sagas?state=live&token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sagas?state=live")
    cookie = answer.headers["set-cookie"]
    assert TOKEN not in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert browser.get("/sagas").status_code == 200


def test_address_with_the_token_leads_to_no_other_host(bus: Bus) -> None:
    answer = Browser(bus).get(f"//elsewhere.example/?token={TOKEN}")
    assert not answer.headers.get("location", "/").startswith("//")


def test_foreign_name_for_this_machine_is_refused(bus: Bus) -> None:
    """A site whose name is pointed at this machine must not get at what is served here."""
    assert Browser(bus, origin="http://evil.example").get(f"/?token={TOKEN}").status_code == 400


def test_read_only_dashboard_changes_nothing(bus: Bus) -> None:
    browser = Browser(bus)
    browser.get(f"/?token={TOKEN}")
    answer = browser.ask("POST", "/endpoints/pause?name=credit", HTMX)
    assert answer.status_code == 403
    assert "--allow-actions" in answer.text
    assert bus.store.presence.paused() == {}


@pytest.mark.parametrize("headers", [{}, HTMX | {"Origin": "http://evil.example"}], ids=["form", "other-origin"])
def test_action_from_another_site_is_refused(bus: Bus, headers: Mapping[str, str]) -> None:
    browser = Browser(bus, may_act=True)
    browser.get(f"/?token={TOKEN}")
    assert browser.ask("POST", "/endpoints/pause?name=credit", headers).status_code == 403
    assert bus.store.presence.paused() == {}


def test_action_from_our_own_page_is_carried_out_and_audited(bus: Bus) -> None:
    browser = Browser(bus, may_act=True)
    browser.get(f"/?token={TOKEN}")
    answer = browser.ask("POST", "/endpoints/pause?name=credit", HTMX | {"Origin": "http://localhost"})
    assert answer.status_code == 200
    assert "dashboard" in bus.store.presence.paused()["credit"].by


def test_pages_allow_no_foreign_script(bus: Bus) -> None:
    browser = Browser(bus)
    browser.get(f"/?token={TOKEN}")
    policy = browser.get("/").headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy


def test_what_is_not_there_is_said_on_a_page(bus: Bus) -> None:
    browser = Browser(bus)
    browser.get(f"/?token={TOKEN}")
    for path, status in (("/saga?key=CreditCheck/nobody", 404), ("/saga?key=nonsense", 400), ("/nowhere", 404)):
        answer = browser.get(path)
        assert answer.status_code == status
        assert "sagabus" in answer.text


def test_short_token_is_refused(bus: Bus) -> None:
    with pytest.raises(ConfigurationError, match="16 characters"):
        dashboard(bus, app="tests:bus", token="guess")
