"""Who gets into the dashboard, and who does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from sagabus import Bus
from sagabus.dashboard.app import dashboard
from sagabus.errors import ConfigurationError
from tests.dashboard import HTMX, TOKEN, Browser


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


def test_two_dashboards_of_one_machine_do_not_lock_each_other_out(bus: Bus) -> None:
    """Cookies know no ports: each dashboard has one under its own name."""
    first, second = Browser(bus, origin="http://localhost:8750"), Browser(bus, origin="http://localhost:8751")
    first.let_in()
    second.cookies = first.cookies
    second.let_in()
    assert len(second.cookies) == 2
    first.cookies = second.cookies
    assert first.get("/sagas").status_code == 200


def test_cookies_of_others_do_no_harm(bus: Bus) -> None:
    """What else runs on this machine may set cookies that no standard knows."""
    browser = Browser(bus)
    browser.let_in()
    ours = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    browser.cookies.clear()
    assert browser.ask("GET", "/sagas", {"Cookie": f'a[b]={{"c": 1}}; $x; {ours}'}).status_code == 200


def test_cookie_that_came_over_tls_stays_there(bus: Bus) -> None:
    answer = Browser(bus, origin="https://localhost").get(f"/?token={TOKEN}")
    assert "Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize("host", ["[", "localhost:port", "localhost:99999999", ""])
def test_host_that_makes_no_sense_is_refused(bus: Bus, host: str) -> None:
    browser = Browser(bus)
    browser.let_in()
    assert browser.ask("GET", "/", {"Host": host}).status_code == 400


def test_every_answer_has_the_headers_that_protect_it(bus: Bus) -> None:
    """Also those to who is not let in, and those to what nobody expected."""
    browser = Browser(bus)
    assert browser.get("/").headers["x-content-type-options"] == "nosniff"
    browser.let_in()
    for path in ("/", "/nowhere", "/saga?key=CreditCheck/nobody", "/static/htmx.min.js"):
        assert browser.get(path).headers["x-content-type-options"] == "nosniff", path
