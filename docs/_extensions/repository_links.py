"""Links to files of the repository lead somewhere on the site, too: relative paths work in both places.

A Markdown file elsewhere in the repository may be a page of the site (`pages_of_files`). What else is linked to (tests,
examples, folders) is shown as highlighted source; where the text of a link names a test, the link leads to its line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any, Final

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

SCHEME: Final = "repository:"
_FOLDER: Final = "source"
_LINK: Final = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
_FENCE: Final = re.compile(r"(^```.*?^```\s*?$)", re.DOTALL | re.MULTILINE)
_LANGUAGES: Final = {".py": "python", ".md": "markdown", ".lua": "lua", ".toml": "toml", ".yaml": "yaml"}


def _root(app: Sphinx) -> Path:
    return Path(app.srcdir).parent


def on_source_read(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put in the file that the page shows, and give each link the form that leads somewhere on the site."""
    root = _root(app)
    shown = Path("docs", f"{docname}.md")
    if docname in app.config.pages_of_files:
        shown = Path(app.config.pages_of_files[docname])
        app.env.note_dependency(str(root / shown))
        source[0] = (root / shown).read_text(encoding="utf-8")
    pages = {path: name for name, path in app.config.pages_of_files.items()}
    here = os.path.dirname(docname)

    def led(found: re.Match[str]) -> str:
        path, anchor = found[1], found[2] or ""
        target = os.path.normpath(shown.parent / path)
        if target in pages:
            return os.path.relpath(f"{pages[target]}.md", here or ".") + anchor
        if target.startswith("docs/"):
            return os.path.relpath(target.removeprefix("docs/"), here or ".") + anchor
        if (root / target).exists() and not target.startswith(".."):
            return f"{SCHEME}{target}{anchor}"
        return found[0]

    pieces = _FENCE.split(source[0])
    source[0] = "".join(piece if number % 2 else _LINK.sub(led, piece) for number, piece in enumerate(pieces))


def on_doctree_resolved(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Lead links to files to the pages that show them."""
    for link in doctree.findall(nodes.reference):
        uri = link.get("refuri", "")
        if uri.startswith(SCHEME):
            path, _, anchor = uri.removeprefix(SCHEME).partition("#")
            _linked(app.env).setdefault(docname, set()).add(path)
            if app.builder.format == "html":
                place = anchor or _line_of(_root(app) / path, link.astext())
                link["refuri"] = app.builder.get_relative_uri(docname, _page(path)) + (f"#{place}" if place else "")
                link["internal"] = True


def _linked(env: BuildEnvironment) -> dict[str, set[str]]:
    if not hasattr(env, "repository_links"):
        env.repository_links = {}  # type: ignore[attr-defined]
    found: dict[str, set[str]] = env.repository_links
    return found


def _page(path: str) -> str:
    return f"{_FOLDER}/{path}"


def _line_of(path: Path, text: str) -> str:
    """Return the anchor of the test that *text* begins with, if it does."""
    name = re.match(r"test_\w+", text)
    if name is None or not path.is_file():
        return ""
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((f"L-{n}" for n, line in enumerate(lines, 1) if f"def {name[0]}(" in line), "")


def on_purge(_app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    """Forget what a page linked to that is read again."""
    _linked(env).pop(docname, None)


def on_collect_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield a page for each file that is linked to, and for the files of each folder."""
    root = _root(app)
    waiting = sorted(set().union(*_linked(app.env).values()))
    seen: set[str] = set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        if (root / path).is_dir():
            inside = sorted(f"{path}/{each.name}" for each in (root / path).iterdir() if _shown(each))
            waiting += inside
            body = _listing(app, path, inside)
        else:
            body = _highlighted(app, root / path)
        yield _page(path), {"title": path, "body": f"<h1><code>{escape(path)}</code></h1>\n{body}"}, "page.html"


def _shown(path: Path) -> bool:
    return not path.name.startswith((".", "__pycache__")) and (path.is_dir() or path.suffix in _LANGUAGES)


def _listing(app: Sphinx, path: str, inside: list[str]) -> str:
    links = "\n".join(
        f'<li><a href="{app.builder.get_relative_uri(_page(path), _page(each))}"><code>{escape(each)}</code></a></li>'
        for each in inside
    )
    return f"<ul>\n{links}\n</ul>"


def _highlighted(app: Sphinx, path: Path) -> str:
    language = _LANGUAGES.get(path.suffix, "text")
    code = path.read_text(encoding="utf-8")
    found: str = app.builder.highlighter.highlight_block(  # type: ignore[attr-defined]
        code, language, force=True, linenos="inline", lineanchors="L", anchorlinenos=True
    )
    return found


def setup(app: Sphinx) -> dict[str, Any]:
    """Register what is above."""
    app.add_config_value("pages_of_files", {}, "env")
    app.connect("source-read", on_source_read)
    app.connect("doctree-resolved", on_doctree_resolved)
    app.connect("env-purge-doc", on_purge)
    app.connect("html-collect-pages", on_collect_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
