"""Pages of odd data: what is large, damaged, hostile or not there; and what an action says of itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from attrs import define, field

from sagabus import Bus, Saga, handles, starts
from sagabus.dashboard.shown import json_text
from sagabus.envelope import SagaKey
from sagabus.errors import StoreUnavailableError, UnmergeableStateError
from sagabus.store.memory import MemoryStore
from sagabus.store.protocol import Bookkeeping, DeadLetter
from tests.dashboard import HTMX, Browser
from tests.sagas_for_tests import (
    CheckCredit,
    CreditCheck,
    CreditState,
    Hand,
    Nudge,
    ScoreReported,
    incoming,
    score,
)

LARGE = 5_000
HOSTILE = "<script>alert(1)</script>\u202e\x1b[31m"


def refusing(siblings: Sequence[CreditState]) -> CreditState:
    raise UnmergeableStateError(HOSTILE)


def first(siblings: Sequence[CreditState]) -> CreditState:
    return CreditState(dict(siblings[0].scores))


class Refused(CreditCheck, key="customer", merger=refusing):
    """Its siblings can never be merged."""


class Broken(CreditCheck, key="customer", merger=first):
    """Its merger gives another state in another order."""


@define
class LedgerState:
    entries: dict[str, int] = field(factory=dict)


def union(siblings: Sequence[LedgerState]) -> LedgerState:
    found = {name: value for sibling in siblings for name, value in sibling.entries.items()}
    return LedgerState(dict(sorted(found.items())))


class Ledger(Saga[LedgerState], key="customer", merger=union):
    """A large state."""

    @starts
    def opened(self, m: CheckCredit) -> None:
        self.state.entries = {f"entry {n:05d}": n for n in range(LARGE)}

    @handles
    def noted(self, m: ScoreReported) -> None:
        self.state.entries[m.bureau] = m.score


@pytest.fixture
def bus() -> Iterator[Bus]:
    with Bus("memory:", "memory:") as made:
        made.endpoint("credit", CreditCheck, Refused, Broken, Ledger)
        for name in ("a", "b", "c", "notes"):
            made.endpoint(name)
        yield made


@pytest.fixture
def browser(bus: Bus) -> Browser:
    made = Browser(bus, may_act=True)
    made.let_in()
    return made


def forked(bus: Bus, saga: type[Saga[Any]], id_: str, count: int = 3) -> SagaKey:
    """Store a saga with as many siblings."""
    definition = bus.saga(saga.__name__)
    assert definition is not None
    hand = Hand(bus.store, definition, id_)
    snapshot = hand.start()
    for commit in [hand.run(snapshot, score(f"bureau {n}", n)) for n in range(count)]:
        hand.put(commit)
    return hand.key


def at(path: str, **query: object) -> str:
    return f"{path}?{urlencode(query)}"


def buried(bus: Bus, id_: str, *, error: str = "ValueError: no", body: bytes = b"{}", **more: Any) -> DeadLetter:
    """Put a dead letter on record."""
    values: dict[str, Any] = {"reason": "failed", "traceback": "", "attempts": 5, "at_ms": 1_700_000_000_000} | more
    letter = DeadLetter(id=id_, endpoint="credit", error=error, body=body, **values)
    bus.store.note(Bookkeeping(buried=(letter,)))
    return letter


# -- sagas -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id_", ["a/b c", "ünï ☃ 😀", HOSTILE, "x\x00\ny", "'\"&?#%2F", ""])
def test_saga_of_any_id_is_found_and_shown(bus: Bus, browser: Browser, id_: str) -> None:
    """What an id holds does nothing on a page, and every link leads to it."""
    definition = bus.saga("CreditCheck")
    assert definition is not None
    hand = Hand(bus.store, definition, id_)
    hand.handle(incoming(CheckCredit(id_), "start"))
    link = at("/saga", key=hand.key)
    assert link in browser.get("/sagas").text
    assert browser.get(at("/sagas", q=hand.key)).headers["location"] == link
    page = browser.get(link).text
    assert "<script>alert" not in page
    assert not re.search("[\x00\x1b\u202e]", page)
    commit = re.search(r'hx-get="(/saga/commit[^"]*)"', page)
    assert commit is not None
    assert "test.check-credit" in browser.get(commit[1].replace("&amp;", "&")).text


def test_search_for_a_whole_key_leaves_the_page_that_htmx_is_on(bus: Bus, browser: Browser) -> None:
    """htmx follows a redirect by itself, and would put the page of a saga where the list of sagas is."""
    key = forked(bus, CreditCheck, "42")
    answer = browser.ask("GET", at("/sagas", q=key), HTMX)
    assert (answer.status_code, answer.headers["hx-redirect"]) == (200, at("/saga", key=key))


def test_merger_that_refuses_is_shown_with_what_it_says(bus: Bus, browser: Browser) -> None:
    key = forked(bus, Refused, "1")
    for path in ("/saga/merge-view", "/saga/what-if"):
        answer = browser.get(at(path, key=key))
        assert answer.status_code == 200
        assert "UnmergeableStateError" in answer.text
        assert "<script>alert" not in answer.text


def test_merger_that_hangs_on_the_order_is_flagged(bus: Bus, browser: Browser) -> None:
    answer = browser.get(at("/saga/what-if", key=forked(bus, Broken, "1")))
    assert "a broken merger: 3 different results" in answer.text


def test_large_siblings_are_shown_by_what_differs(bus: Bus, browser: Browser) -> None:
    """25 states of 5,000 entries: the page is small, and has in it what tells them apart."""
    key = forked(bus, Ledger, "1", 25)
    page = browser.get(at("/saga", key=key)).text
    assert len(page) < 300_000
    assert page.count("lines that do not differ") == 25
    for number in range(25):
        assert f'"bureau {number}": {number}'.replace('"', "&#34;") in page
    assert len(browser.get(at("/saga/merge-view", key=key)).text) < 300_000


def test_saga_that_is_written_all_the_time_is_shown(
    bus: Bus, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hot saga is never the same before and after it was read; people see what was read last."""
    key = forked(bus, CreditCheck, "1")
    hand = Hand(bus.store, bus.saga("CreditCheck"), "1")  # type: ignore[arg-type]
    load, written = MemoryStore.load, iter(range(1000))

    def writing(self: MemoryStore, wants: Any, *more: Any) -> Any:
        monkeypatch.setattr(MemoryStore, "load", load)
        hand.handle(incoming(Nudge(), f"nudge-{next(written)}"))
        monkeypatch.setattr(MemoryStore, "load", writing)
        return load(self, wants, *more)

    monkeypatch.setattr(MemoryStore, "load", writing)
    assert browser.get(at("/saga", key=key)).status_code == 200


def test_version_is_shown_by_its_name_while_others_are_trimmed(bus: Bus, browser: Browser) -> None:
    """A click shows the version that was clicked, also when the history has moved on since."""
    definition = bus.saga("CreditCheck")
    assert definition is not None
    hand = Hand(bus.store, definition, "1")
    hand.start()
    for number in range(40):
        hand.handle(score(f"b{number}", number))
    links = re.findall(r'hx-get="(/saga/commit[^"]*)"', browser.get(at("/saga", key=hand.key)).text)
    wanted = links[-1].replace("&amp;", "&")
    for number in range(40, 80):
        hand.handle(incoming(Nudge(), f"n{number}"))
    assert "&#34;bureau&#34;: &#34;b39&#34;" in browser.get(wanted).text
    gone = browser.get(links[0].replace("&amp;", "&"))
    assert gone.status_code == 404


def test_address_of_a_version_shows_it_at_once(bus: Bus, browser: Browser) -> None:
    """It can be sent to somebody else; one that is remembered no more says so, on the page of its saga."""
    key = forked(bus, CreditCheck, "1")
    assert "Messages in" in browser.get(at("/saga", key=key, at="memory:2")).text
    gone = browser.get(at("/saga", key=key, at="memory:99"))
    assert gone.status_code == 200
    assert "no one version called" in gone.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/saga/what-if?key=CreditCheck/1", 409),
        ("/saga/merge-view?key=CreditCheck/1", 409),
        ("/saga/commit?key=CreditCheck/1&at=" + "9" * 5000, 404),
        ("/saga/what-if?key=Other/1", 404),
        ("/sagas?cursor=nonsense", 400),
        ("/saga?key=", 400),
    ],
)
def test_what_cannot_be_shown_says_why(bus: Bus, browser: Browser, path: str, status: int) -> None:
    """It is no failure of the server, and never one without a page."""
    definition = bus.saga("CreditCheck")
    assert definition is not None
    Hand(bus.store, definition, "1").start()
    answer = browser.get(path)
    assert answer.status_code == status
    assert '<p class="note' in answer.text


# -- dead letters ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("letter", "said"),
    [
        ({"context": b"{no json"}, "{no json"),
        ({"at_ms": 10**17}, f"{10**17} ms"),
        ({"body": b"\xff\xfe" + HOSTILE.encode()}, "\\xff\\xfe"),
        ({"body": b"[" * 5000 + b"]" * 5000}, "[[["),
        ({"type": HOSTILE, "error": HOSTILE, "reason": "undecodable"}, "undecodable"),
        ({"traceback": "begin\n" + "x" * 3_000_000 + "\nend"}, "end</pre>"),
        ({"error": "E" * 1_000_000}, "EEE"),
        ({"body": json.dumps([{"a": n} for n in range(60_000)]).encode()}, "lines more"),
    ],
    ids=["context", "time", "bytes", "deep", "hostile", "traceback", "error", "large"],
)
def test_dead_letter_of_any_kind_is_shown(bus: Bus, browser: Browser, letter: dict[str, Any], said: str) -> None:
    """Damaged, hostile or huge: its page and that of its group are there, of bounded size, and do nothing."""
    found = buried(bus, "odd", **letter)
    page = browser.get(at("/failures/letter", endpoint="credit", id="odd"))
    assert page.status_code == 200
    assert said in page.text
    groups = browser.get("/failures").text
    link = re.search(r'href="(/failures/group[^"]*)"', groups)
    assert link is not None
    group = browser.get(link[1].replace("&amp;", "&"))
    assert group.status_code == 200
    assert found.id in group.text
    for text in (page.text, groups, group.text):
        assert len(text) < 700_000
        assert "<script>alert" not in text


def test_letter_that_was_not_sent_can_be_tried_again(bus: Bus, browser: Browser) -> None:
    """Its page says why it was not, and keeps the buttons."""
    buried(bus, "odd", body=b"nonsense")
    answer = browser.post(at("/failures/retry", endpoint="credit", id="odd"))
    assert "cannot be read" in answer.text
    assert "/failures/drop" in answer.text
    assert "/failures/drop" not in browser.post(at("/failures/drop", endpoint="credit", id="odd")).text


# -- actions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/failures/burn?id=odd", "/endpoints/stop?name=credit", "/timers/burn?name=odd"])
def test_action_that_nobody_knows_is_none(bus: Bus, browser: Browser, path: str) -> None:
    buried(bus, "odd")
    answer = browser.post(path)
    assert (answer.status_code, "nothing here is called" in answer.text) == (404, True)


def test_what_was_done_is_said_in_any_script(bus: Bus, browser: Browser) -> None:
    """A header holds ASCII alone, and what it says is JSON."""
    name = "café ☃ 😀"
    definition = bus.saga("CreditCheck")
    assert definition is not None
    hand = Hand(bus.store, definition, name)
    hand.start()
    answer = browser.post(at("/saga/cancel", key=hand.key))
    assert json.loads(answer.headers["hx-trigger"])["told"]["value"].startswith(f"CreditCheck/{name}")


@pytest.mark.parametrize(
    ("header", "said"), [({"HX-Prompt": "plain"}, "plain"), ({"HX-Prompt": quote("schön ☃")}, "schön ☃")]
)
def test_reason_is_kept_in_any_script(bus: Bus, browser: Browser, header: dict[str, str], said: str) -> None:
    """htmx encodes what a header cannot hold."""
    auto = {} if said == "plain" else {"HX-Prompt-URI-AutoEncoded": "true"}
    browser.ask("POST", "/endpoints/pause?name=credit", HTMX | header | auto)
    assert bus.store.presence.paused()["credit"].why == said


# -- servers and stores ------------------------------------------------------------------------------------------


def test_overview_waits_for_a_store_that_does_not_answer(
    bus: Bus, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so, and listens for news, so that it comes back by itself; other pages are 503 and say what to do."""

    def down(*_: object) -> Any:
        raise StoreUnavailableError("redis://here", "connection refused")

    monkeypatch.setattr(type(bus.store.presence), "cards", down)
    monkeypatch.setattr(MemoryStore, "next_due_ms", down)
    page = browser.get("/")
    assert page.status_code == 200
    assert "does not answer" in page.text
    assert 'sse-connect="/live"' in page.text
    for path in ("/sagas", "/failures", "/workers", "/endpoints"):
        answer = browser.get(path)
        assert answer.status_code == 503, path
        assert "sagabus doctor" in answer.text


def test_store_without_an_index_has_an_overview(bus: Bus, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers need none; what is not known is said not to be, and the list of sagas says what is missing."""
    forked(bus, CreditCheck, "1")
    monkeypatch.delattr(bus.store, "index")
    page = browser.get("/")
    assert page.status_code == 200
    assert "this store has no index" in page.text
    assert browser.get("/saga?key=CreditCheck/1").status_code == 200
    assert "has no index of its sagas" in browser.get("/sagas").text


def test_bug_of_a_page_is_a_page_without_what_it_was_about(
    bus: Bus, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object, **__: object) -> Any:
        raise RuntimeError("card 4711")

    monkeypatch.setattr(MemoryStore, "next_due_ms", bug)
    answer = browser.get("/timers")
    assert answer.status_code == 500
    assert "RuntimeError" in answer.text
    assert "4711" not in answer.text
    assert "content-security-policy" in answer.headers


# -- values ------------------------------------------------------------------------------------------------------


def test_long_json_keeps_its_lines() -> None:
    """What does not fit is cut between lines, and says how much it is."""
    text = json_text({f"k{n}": n for n in range(1000)}, most=200)
    assert 10 < text.count("\n") < 30
    assert "lines more" in text.splitlines()[-1]


def test_long_json_is_folded_around_what_differs() -> None:
    text = json_text({f"k{n}": n for n in range(1000)}, {"k500"}, most=2000)
    assert '<mark class="differs">  &#34;k500&#34;: 500,</mark>' in text
    assert "499" in text
    assert "k300" not in text
