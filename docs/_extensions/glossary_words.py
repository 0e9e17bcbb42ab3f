"""Each word of the glossary is an anchor: `glossary.md#siblings` leads to its line."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx


def on_doctree_read(app: Sphinx, doctree: nodes.document) -> None:
    """Name the first cell of each row after the word that is bold in it."""
    if app.env.docname != "glossary":
        return
    slugs: dict[str, Any] = app.env.metadata["glossary"].setdefault("myst_slugs", {})
    for row in doctree.findall(nodes.row):
        cell = row[0]
        for word in cell.findall(nodes.strong):
            name = nodes.make_id(word.astext())
            cell["ids"].append(name)
            slugs[name] = (None, name, word.astext())


def setup(app: Sphinx) -> dict[str, Any]:
    """Register what is above."""
    app.connect("doctree-read", on_doctree_read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
