"""The part of a page that figures are written into; the words around it are people's."""

from __future__ import annotations

from pathlib import Path


class NoPlaceError(Exception):
    """A page has no part for what is to be written into it."""


def rewrite(path: Path, part: str, text: str) -> None:
    """Put *text* between `<!-- PART:begin -->` and `<!-- PART:end -->` in a page, in place of what was there.

    Raises:
        NoPlaceError: the page has no such part; the text has the mend.
    """
    begin, end = f"<!-- {part}:begin -->", f"<!-- {part}:end -->"
    page = path.read_text("utf-8") if path.exists() else ""
    before, opening, rest = page.partition(begin)
    _, closing, after = rest.partition(end)
    if not (opening and closing):
        raise NoPlaceError(f"{path} has no part for the figures; write the lines {begin} and {end} where they belong")
    path.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}", "utf-8")
