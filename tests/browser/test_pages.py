"""Every page of the dashboard, clicked through as a person does. `page` fails on any error in the console."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from examples.credit_check.messages import CheckCredit
from sagabus.commit import Want
from tests.browser.stage import FORKED, Stage
from tests.servers import until

_SHOTS = os.environ.get("SAGABUS_SCREENSHOTS")


def expect(locator: Any) -> Any:
    from playwright.sync_api import expect as that

    return that(locator)


def shot(page: Any, name: str) -> None:
    """Keep a picture of the page, where the environment says where: `make screenshots`."""
    if _SHOTS:
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=Path(_SHOTS) / f"dashboard-{name}.png", full_page=name != "sagas")


def _busy(shown: Stage) -> None:
    """Have something happen for a while, so that there is a picture of it."""
    for wave in range(60):
        shown.bus.send_many([CheckCredit(customer=f"B{wave}-{n}") for n in range(20 + wave % 7 * 5)], to="credit")
        time.sleep(0.25)


def go(page: Any, name: str) -> None:
    page.get_by_role("navigation").get_by_role("link", name=name).click()
    expect(page.locator("nav a[aria-current]")).to_have_text(name)


def test_overview_keeps_itself_up_to_date(page: Any, shown: Stage) -> None:
    """What is sent while the page is open shows up on it, without a click."""
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    expect(page.locator(".tile", has_text="Throughput")).to_be_visible()
    expect(page.locator("main")).to_contain_text("equifax")
    before = page.locator(".sub").inner_text()
    expect(page.locator(".sub")).not_to_have_text(before)
    expect(page.locator(".tile", has_text="Oldest unmerged")).to_contain_text("1 with siblings")
    expect(page.locator(".tile", has_text="Dead letters")).to_contain_text(re.compile("[123]"))
    if _SHOTS:
        _busy(shown)
    shot(page, "overview")


def test_sagas_are_found_by_state_and_by_key(page: Any, shown: Stage) -> None:
    go(page, "Sagas")
    expect(page.locator("#found tbody tr").first).to_be_visible()
    shot(page, "sagas")
    page.get_by_label("State").select_option("forked")
    expect(page.locator("#found tbody tr")).to_have_count(1)
    expect(page.locator("#found")).to_contain_text(str(FORKED))
    page.get_by_label("State").select_option("")
    page.get_by_role("searchbox").fill(shown.raced.id)
    page.get_by_role("searchbox").press("Enter")
    page.get_by_role("link", name=str(shown.raced), exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(str(shown.raced))


def test_way_back_from_a_filtered_list_leads_to_a_page_that_works(page: Any, shown: Stage) -> None:
    """The filter is in the address, and what it was before is one step back: with its rows, and with live buttons."""
    go(page, "Sagas")
    for state in ("forked", "completed"):
        page.get_by_label("State").select_option(state)
        page.wait_for_url(f"**state={state}**")
    page.go_back()
    expect(page.get_by_label("State")).to_have_value("forked")
    expect(page.locator("#found tbody tr")).to_have_count(1)
    page.get_by_role("button", name="Keyboard shortcuts").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert page.evaluate("sessionStorage.getItem('htmx-history-cache')") is None


def test_whole_key_leads_to_its_saga(page: Any, shown: Stage) -> None:
    go(page, "Sagas")
    page.get_by_role("searchbox").fill(str(FORKED))
    page.get_by_role("searchbox").press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(str(FORKED))


def test_sagas_are_paged(page: Any, shown: Stage) -> None:
    """The next page comes below the first, and none comes twice."""
    go(page, "Sagas")
    page.get_by_role("button", name="More").click()
    expect(page.locator("#found tbody tr[data-row]").nth(60)).to_be_visible()
    names = page.locator("#found tbody tr[data-row] td:first-child").all_inner_texts()
    assert len(names) == len(set(names))


def test_version_graph_shows_fork_and_merge_and_each_version_its_state(page: Any, shown: Stage) -> None:
    """A click on a version shows its state, the messages that came in, and what changed against its parents."""
    page.goto(f"{shown.origin}/saga?key={shown.raced}")
    graph = page.locator(".graph")
    expect(graph.locator("svg .edge.joins").first).to_be_attached()
    expect(graph).to_contain_text("merged")
    expect(graph).to_contain_text("forked")
    merge = graph.locator(".commit", has_text="merged").first
    merge.get_by_role("link").click()
    expect(page.locator("#commit")).to_contain_text("Changed against")
    expect(page.locator("#commit")).to_contain_text("scores")
    shot(page, "saga")
    page.locator("#commit").get_by_role("button", name="Merge view").click()
    expect(page.locator("#tool")).to_contain_text("Ancestor")
    expect(page.locator("#tool")).to_contain_text("Result")
    shot(page, "merge-view")
    graph.locator("circle[data-version]").first.click()
    expect(page.locator("#commit")).to_contain_text("credit.check")


def test_what_if_merges_stored_siblings_in_every_order_and_writes_nothing(page: Any, shown: Stage) -> None:
    """Both siblings are shown, what they differ in stands out, and the decision that would follow is said."""
    page.goto(f"{shown.origin}/saga?key={FORKED}")
    expect(page.get_by_role("heading", name=re.compile("Sibling"))).to_have_count(2)
    expect(page.locator("mark.differs").first).to_be_visible()
    page.get_by_role("button", name="What if").click()
    expect(page.locator("#tool")).to_contain_text("One result in every order")
    expect(page.locator("#tool")).to_contain_text("credit.decided")
    expect(page.locator("#tool")).to_contain_text("completes")
    shot(page, "what-if")
    page.get_by_role("button", name="Merge view").click()
    expect(page.locator("#tool")).to_contain_text("Nothing that a side changed is missing")
    (snapshot,) = shown.bus.store.load([Want(FORKED)])
    assert len(snapshot.versions) == 2


def test_saga_becomes_a_test_that_can_be_copied(page: Any, shown: Stage) -> None:
    page.goto(f"{shown.origin}/saga?key={shown.raced}")
    page.get_by_role("button", name="Copy as a test").click()
    expect(page.locator("#test-text")).to_contain_text("def test_")
    compile(page.locator("#test-text").inner_text(), "copied.py", "exec")


def test_copying_needs_no_secure_context(page: Any, shown: Stage) -> None:
    """Over plain http from another machine browsers give a page no clipboard."""
    page.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.goto(f"{shown.origin}/saga?key={shown.raced}")
    page.get_by_role("button", name="Copy as a test").click()
    expect(page.get_by_role("heading", name="As a test")).to_be_focused()
    page.get_by_role("button", name="Copy", exact=True).click()
    expect(page.locator("#told")).to_have_text("Copied")


def test_version_has_an_address(page: Any, shown: Stage) -> None:
    """What is open on the page is in its address: it comes back with a reload."""
    page.goto(f"{shown.origin}/saga?key={shown.raced}")
    page.locator(".graph .commit a").nth(1).click()
    expect(page.locator("#commit h2")).to_be_focused()
    said = page.locator("#commit h2").inner_text()
    page.reload()
    expect(page.locator("#commit h2")).to_have_text(said)


def test_focus_stays_where_it_is_while_the_overview_renews_itself(page: Any, shown: Stage) -> None:
    page.get_by_role("link", name=re.compile("with siblings")).focus()
    before = page.locator(".sub").inner_text()
    expect(page.locator(".sub")).not_to_have_text(before)
    expect(page.get_by_role("link", name=re.compile("with siblings"))).to_be_focused()


def test_dead_letter_is_sent_again_and_handled(page: Any, shown: Stage) -> None:
    """From its group to the letter; sent again, it goes, its message is handled, and the audit says who did it."""
    go(page, "Failures")
    shot(page, "failures")
    page.get_by_role("link", name=re.compile("no such customer")).first.click()
    page.get_by_role("link", name=re.compile("dead-D1")).click()
    expect(page.locator("main")).to_contain_text("Traceback")
    shot(page, "letter")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Send again").click()
    expect(page.locator("#told")).to_contain_text("sent")
    until(lambda: shown.bus.store.history(FORKED._replace(id="D1")), "the message that was sent again")
    assert not list(shown.bus.dead_letters.find(id="dead-D1"))
    go(page, "Audit")
    expect(page.locator("main")).to_contain_text("dead-D1")
    expect(page.locator("main")).to_contain_text("dashboard")
    shot(page, "audit")


def test_group_of_dead_letters_is_sent_again_at_once(page: Any, shown: Stage) -> None:
    go(page, "Failures")
    page.on("dialog", lambda dialog: dialog.accept())
    row = page.locator("tr", has_text="the register did not answer")
    row.get_by_role("button", name="Retry all").click()
    expect(page.locator("#told")).to_contain_text("1 sent again")
    until(lambda: shown.bus.store.history(FORKED._replace(id="D3")), "the message of the group")


def test_endpoint_is_paused_and_resumed(page: Any, shown: Stage) -> None:
    """Who gets what is drawn; a paused endpoint says so here and on the overview."""
    go(page, "Endpoints")
    expect(page.locator("svg.topology")).to_contain_text("credit.check")
    page.on("dialog", lambda dialog: dialog.accept("maintenance"))
    row = page.locator("#endpoints tr", has_text="transunion")
    row.get_by_role("button", name="Pause").click()
    expect(row).to_contain_text("paused: maintenance")
    shot(page, "endpoints")
    assert "transunion" in shown.bus.store.presence.paused()
    row.get_by_role("button", name="Resume").click()
    expect(row.get_by_role("button", name="Pause")).to_be_visible()
    assert shown.bus.store.presence.paused() == {}


@pytest.mark.parametrize(("name", "said"), [("Timers", "Timers"), ("Workers", "process")])
def test_page_is_there(page: Any, name: str, said: str) -> None:
    go(page, name)
    expect(page.locator("main")).to_contain_text(said)
    shot(page, name.lower())


def test_keyboard_leads_everywhere(page: Any) -> None:
    """g and a letter changes the page, / goes to the search, j to the first row, ? says all that."""
    page.keyboard.press("g")
    page.keyboard.press("s")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sagas")
    page.wait_for_load_state()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    expect(page.locator("#found tbody tr").first.get_by_role("link")).to_be_focused()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()


def test_theme_is_kept_and_a_phone_needs_no_sideways_scrolling(page: Any, shown: Stage) -> None:
    page.get_by_role("button", name="Light or dark").click()
    chosen = page.evaluate("document.documentElement.dataset.theme")
    page.goto(f"{shown.origin}/saga?key={shown.raced}")
    assert page.evaluate("document.documentElement.dataset.theme") == chosen == "dark"
    shot(page, "dark")
    page.set_viewport_size({"width": 380, "height": 800})
    for path in ("/", "/sagas", "/failures", "/endpoints", "/workers", f"/saga?key={FORKED}"):
        page.goto(shown.origin + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 380, path
    shot(page, "phone")


def test_merge_now_is_carried_out_by_the_workers(page: Any, shown: Stage) -> None:
    """The last test, as it ends what others look at: siblings are merged, the saga decides, once."""
    page.goto(f"{shown.origin}/saga?key={FORKED}")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Merge now").click()
    until(lambda: shown.bus.store.history(FORKED)[-1].completed, "the merge")
    page.reload()
    expect(page.locator(".graph")).to_contain_text("completed")
