"""SVG pictures stand in the page itself, so that they follow its light and dark, and can be searched and read aloud."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx


def on_doctree_resolved(app: Sphinx, doctree: nodes.document, _docname: str) -> None:
    """Put the text of each SVG file where the picture is."""
    if app.builder.format != "html":
        return
    for image in list(doctree.findall(nodes.image)):
        path = Path(app.srcdir, image["uri"])
        if path.suffix == ".svg" and path.is_file():
            drawn = path.read_text(encoding="utf-8")
            image.replace_self(nodes.raw("", f'<div class="picture">{drawn}</div>', format="html"))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register what is above."""
    app.connect("doctree-resolved", on_doctree_resolved)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
