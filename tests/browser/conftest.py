"""A browser, a live run to look at, and what must never happen on a page."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests import servers
from tests.browser.stage import Stage, stage

_NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Yield headless Chromium; skip where there is none, and fail in CI.

    For one module: while it is there an event loop runs in this thread, which other tests need for themselves.
    """
    path = os.environ.get("SAGABUS_TEST_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        servers.missing("no Chromium on PATH")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        servers.missing("no playwright here: pip install 'sagabus[test]'")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def shown(valkey_url: str) -> Iterator[Stage]:
    """Yield a live run, with a dashboard that may act."""
    with stage(valkey_url, "browser") as found:
        yield found


@pytest.fixture
def page(chromium: Any, shown: Stage) -> Iterator[Any]:
    """Yield a page that has been let in; fail where the console has an error, a script fails, or an answer is bad."""
    wrong: list[str] = []
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    made = context.new_page()
    made.set_default_timeout(15_000)
    made.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    made.on("pageerror", lambda error: wrong.append(str(error)))
    made.on("response", lambda answer: wrong.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None)
    made.goto(shown.address)
    yield made
    context.close()
    assert wrong == []
