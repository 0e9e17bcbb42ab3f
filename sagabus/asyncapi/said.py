"""What handlers say, as far as their source tells: which messages they send, publish, defer or answer with.

Nothing is run. A message is found where the call that says it also makes it, `self.publish(CreditDecided(...))`, or
where it was put into a variable first that is assigned nowhere else in the handler; one that was made elsewhere is not.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, Final

from attrs import frozen

from sagabus.messages import MessageType, registry
from sagabus.saga import Saga

_WORDS: Final = frozenset({"send", "publish", "reply", "reply_to_starter", "defer"})


@frozen
class Said:
    """One message that a handler says.

    Attributes:
        word: `send`, `publish`, `reply`, `reply_to_starter` or `defer`.
        kind: of the message.
        to: the endpoint; empty where the source does not name it, and where it goes along a route.
        routed: whether it names none.
    """

    word: str
    kind: MessageType
    to: str = ""
    routed: bool = False


def said_in_class(cls: type[Saga[Any]]) -> dict[str, tuple[Said, ...]]:
    """Return what each method of a saga says, also those it inherits: name -> in the order of its source."""
    found: dict[str, tuple[Said, ...]] = {}
    for base in cls.__mro__:
        if base in (Saga, object):
            continue
        for name, member in vars(base).items():
            if inspect.isfunction(member) and name not in found:
                found[name] = said_by(member, 0)
    return found


def said_by(function: Callable[..., Any], position: int) -> tuple[Said, ...]:
    """Return what *function* says through its parameter at *position*: `self`, or a consumer's context."""
    function = inspect.unwrap(function)
    parameters = list(inspect.signature(function).parameters)
    if position >= len(parameters):
        return ()
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        # Made at run time, or part of a line that is no statement by itself.
        return ()
    names = _names_of(function)
    return tuple(_calls(tree, parameters[position], names))


def _names_of(function: Any) -> dict[str, Any]:
    names = dict(getattr(function, "__globals__", {}))
    code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None) or ()
    for name, cell in zip(code.co_freevars if code else (), cells, strict=False):
        try:
            names[name] = cell.cell_contents
        except ValueError:
            # Not assigned yet.
            continue
    return names


def _calls(tree: ast.AST, speaker: str, names: dict[str, Any]) -> Iterator[Said]:
    variables = _assigned_once(tree)
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _WORDS):
            continue
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id == speaker and node.args):
            continue
        made = node.args[0]
        if isinstance(made, ast.Name):
            made = variables.get(made.id, made)
        cls = _value(made.func, names) if isinstance(made, ast.Call) else None
        kind = registry.of(cls) if isinstance(cls, type) else None
        if kind is not None:
            to = next((keyword.value for keyword in node.keywords if keyword.arg == "to"), None)
            if to is None and node.func.attr == "send" and len(node.args) > 1:
                to = node.args[1]
            named = None if to is None else _value(to, names)
            yield Said(node.func.attr, kind, named if isinstance(named, str) else "", routed=to is None)


def _assigned_once(tree: ast.AST) -> dict[str, ast.expr]:
    """Return what variables stand for, by name, where one statement alone gives them a value."""
    stored = [n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    found: dict[str, ast.expr] = {}
    for node in ast.walk(tree):
        target = node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1 else None
        if isinstance(node, ast.AnnAssign | ast.NamedExpr):
            target = node.target
        if isinstance(target, ast.Name) and stored.count(target.id) == 1:
            value = getattr(node, "value", None)
            if isinstance(value, ast.expr):
                found[target.id] = value
    return found


def _value(node: ast.expr, names: dict[str, Any]) -> Any:
    """Return what an expression stands for where that can be told without running anything; else None."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _value(node.value, names)
        # Of modules and classes only: looking at an attribute of anything else may run code.
        return vars(owner).get(node.attr) if inspect.ismodule(owner) or inspect.isclass(owner) else None
    return None
