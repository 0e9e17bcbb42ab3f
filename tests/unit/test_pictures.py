"""The pictures of docs/ are what their script draws, and can be read by those who do not see them."""

from __future__ import annotations

import runpy
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any, Final

import pytest

from tests.pages import ROOT

FOLDER: Final = ROOT / "docs" / "pictures"
DRAWN: Final[tuple[Callable[[], Any], ...]] = runpy.run_path(str(FOLDER / "draw.py"))["PICTURES"]
_SVG: Final = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("draw", DRAWN, ids=lambda draw: draw.__name__)
def test_picture_is_as_its_script_draws_it(draw: Callable[[], Any]) -> None:
    """Who changes one and not the other is told: `python docs/pictures/draw.py` writes them."""
    picture = draw()
    text = (FOLDER / f"{picture.name}.svg").read_text(encoding="utf-8")
    assert text == picture.svg()
    root = ElementTree.fromstring(text)
    assert root.findtext(f"{_SVG}title")
    assert root.findtext(f"{_SVG}desc")
    assert "animation" not in text or "prefers-reduced-motion" in text


def test_pictures_are_all_drawn_by_the_script() -> None:
    """No picture is left over."""
    assert {path.stem for path in FOLDER.glob("*.svg")} == {draw().name for draw in DRAWN}
