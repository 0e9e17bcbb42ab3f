"""When the site is built: no link inside it leads nowhere, neither to a file nor to a place in one."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sphinx.application import Sphinx
from sphinx.util import logging

_log = logging.getLogger(__name__)


class _Page(HTMLParser):
    """What can be linked to on one page, and where it leads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.places: set[str] = set()
        self.links: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and (name == "id" or (name == "name" and tag == "a")):
                self.places.add(value)
            elif value and (name, tag) in (("href", "a"), ("src", "img")):
                self.links.add(value)


def broken(root: Path) -> Iterator[tuple[str, str]]:
    """Yield each page below *root* with a link of it that leads nowhere."""
    pages = {path: _Page(path) for path in root.rglob("*.html")}
    for path, page in sorted(pages.items()):
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            place = unquote(parts.fragment)
            is_there = target.is_file()
            if is_there and place and target in pages:
                is_there = place in pages[target].places
            if not is_there:
                yield str(path.relative_to(root)), link


def on_build_finished(app: Sphinx, error: Exception | None) -> None:
    """Warn of each broken link; with -W the build fails."""
    if error is None and app.builder.format == "html":
        for page, link in broken(Path(app.outdir).resolve()):
            _log.warning("%s links to %s, which is not there", page, link)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register what is above."""
    app.connect("build-finished", on_build_finished)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
