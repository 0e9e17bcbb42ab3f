"""States as plain data, and the ways to make such data simpler: less of it, and simpler values.

Plain data is what a stored state holds: maps, lists and single values. So whatever a class can hold is simplified
alike, and leaving a field out gives its default. Whether the class takes the outcome is for its codec to say.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import msgspec

Path: TypeAlias = tuple[Any, ...]
"""The keys and indices that lead to a place in plain data."""

Edit: TypeAlias = Callable[[Any], Any]
"""Returns plain data with one thing changed; the same where it has no such thing."""

_LETTERS: Final = ("a", "b", "c")
_GONE: Final = object()


def tree_of(stored: bytes) -> Any:
    """Return the plain data of a stored state."""
    return msgspec.msgpack.decode(stored)[1]


def stored_tree(tree: Any, like: bytes) -> bytes:
    """Return *tree* stored with the version that *like* has."""
    return msgspec.msgpack.encode((msgspec.msgpack.decode(like)[0], tree))


def complexity(tree: Any, initial: Any) -> tuple[int, int, int]:
    """Return what sorts states: how many fields have not their default, how much they hold, how simple it is."""
    changed = sum(name not in initial or initial[name] != value for name, value in tree.items())
    return changed, *_extent(tree)


def edited(trees: Sequence[Any]) -> Iterator[list[Any]]:
    """Yield *trees* with one thing made simpler: in all of them at once, in each alone, then in every two.

    In all at once because siblings often break a law only while they are alike: equally long, say.
    """
    places = range(len(trees))
    groups = [tuple(places), *itertools.combinations(places, 1), *itertools.combinations(places, 2)]
    for edit in edits(trees):
        for group in dict.fromkeys(groups):
            yield [edit(tree) if place in group else tree for place, tree in enumerate(trees)]


def edits(trees: Sequence[Any]) -> Iterator[Edit]:
    """Yield what might make *trees* simpler, that which takes most away first."""
    nodes = sorted(dict.fromkeys(path for tree in trees for path, _ in _nodes(tree)), key=len)
    yield _cleared
    for path in nodes:
        yield partial(_at, path=path, new=_GONE)
    words = _unique(word for tree in trees for word in _words(tree))
    for word in words:
        for new in (_GONE, *_simple(word)):
            yield partial(_everywhere, word=word, new=new)
    leaves = _unique(node for tree in trees for node in _nodes(tree) if not isinstance(node[1], dict | list))
    for path, leaf in leaves:
        for new in _simple(leaf):
            yield partial(_at, path=path, new=new)
    for path in nodes:
        if len(path) > 1 and isinstance(path[-1], str):
            for key in _LETTERS:
                yield partial(_renamed, path=path, key=key)


def _cleared(tree: Any) -> Any:
    """Return no fields, so that all have their defaults."""
    return {}


def _nodes(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield every place below the root of *tree*, and what stands there."""
    for step, value in _items(tree):
        yield (*path, step), value
        yield from _nodes(value, (*path, step))


def _items(tree: Any) -> Iterable[tuple[Any, Any]]:
    return tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()


def _words(tree: Any) -> Iterator[Any]:
    """Yield the single values of *tree*, and the keys of its maps; at the root those are the fields' names."""
    for path, value in _nodes(tree):
        if len(path) > 1 and isinstance(path[-1], str):
            yield path[-1]
        if not isinstance(value, dict | list):
            yield value


def _unique(values: Iterable[Any]) -> list[Any]:
    """Return *values* without repetition; 1, 1.0 and True are three."""
    return list({repr(value): value for value in values}.values())


def _at(tree: Any, path: Path, new: Any) -> Any:
    """Return *tree* with *new* at *path*, if anything stands there; `_GONE` takes that out."""
    step, *rest = path
    items = _items(tree)
    if rest:
        return _rebuilt(tree, ((key, _at(value, tuple(rest), new) if key == step else value) for key, value in items))
    return _rebuilt(tree, ((key, new if key == step else value) for key, value in items))


def _rebuilt(tree: Any, items: Iterable[tuple[Any, Any]]) -> Any:
    if not isinstance(tree, dict | list):
        return tree
    kept = [(key, value) for key, value in items if value is not _GONE and key is not _GONE]
    return dict(kept) if isinstance(tree, dict) else [value for _, value in kept]


def _renamed(tree: Any, path: Path, key: str) -> Any:
    """Return *tree* with the key at the end of *path* replaced; nothing is overwritten."""
    step, *rest = path
    if rest:
        items = (
            (known, _renamed(value, tuple(rest), key) if known == step else value) for known, value in _items(tree)
        )
        return _rebuilt(tree, items)
    if not isinstance(tree, dict) or key in tree:
        return tree
    return {key if known == step else known: value for known, value in tree.items()}


def _everywhere(tree: Any, word: Any, new: Any, depth: int = 0) -> Any:
    """Return *tree* with *word* replaced as value and as key; entries that had it are left out for `_GONE`."""
    if isinstance(tree, dict | list):
        names = isinstance(tree, dict) and depth > 0
        return _rebuilt(
            tree,
            (
                (new if names and _same(key, word) else key, _everywhere(value, word, new, depth + 1))
                for key, value in _items(tree)
            ),
        )
    return new if _same(tree, word) else tree


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _simple(leaf: Any) -> list[Any]:
    """Return values that may stand in for *leaf*, the simplest first."""
    match leaf:
        case bool():
            simple: list[Any] = [None, False]
        case int():
            simple = [None, 0, 1, 2, abs(leaf) // 2, abs(leaf) - 1, abs(leaf)]
        case float():
            simple = [None, 0.0, 1.0, 2.0, float(leaf // 2)]
        case str():
            simple = [None, *_LETTERS, leaf[:1], leaf[: (len(leaf) + 1) // 2]]
        case bytes():
            simple = [None, b"", b"a", leaf[: len(leaf) // 2]]
        case _:
            simple = []
    return [value for value in _unique(simple) if not _same(value, leaf)]


def _extent(tree: Any) -> tuple[int, int]:
    """Return how many places *tree* has, and how far their values and keys are from the simplest."""
    nodes = list(_nodes(tree))
    return len(nodes), sum(_rank(value) + (_rank(path[-1]) if len(path) > 1 else 0) for path, value in nodes)


def _rank(leaf: Any) -> int:
    match leaf:
        case bool():
            return int(leaf)
        case int() | float():
            size = min(abs(leaf), 2.0**60)
            return int(size) + (3 if leaf < 0 else 0) + (size != int(size))
        case str() | bytes():
            return len(leaf) or 3  # a short word is easier to read than none
        case _:
            return 0
