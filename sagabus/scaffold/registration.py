"""Putting a new saga on the bus of an app: the two lines, and where they go in a file that is plain enough."""

from __future__ import annotations

import ast

from attrs import frozen


@frozen
class Registration:
    """The lines that put a saga on a bus.

    Attributes:
        module: of the saga.
        cls: its class.
        endpoint: the queue it gets.
        bus: what the bus is called in the app.
    """

    module: str
    cls: str
    endpoint: str
    bus: str

    @property
    def import_line(self) -> str:
        return f"from {self.module} import {self.cls}"

    @property
    def endpoint_line(self) -> str:
        return f'{self.bus}.endpoint("{self.endpoint}", {self.cls})'

    def inserted(self, text: str) -> str | None:
        """Return the text of an app with both lines in it; None where nobody can say where they belong.

        That is clear where, at the top level, the bus is assigned once, behind imports of modules of the same package:
        the import goes among those, in alphabetical order; the endpoint behind the last that is declared in a line of
        its own, or behind the bus.
        """
        try:
            tree = ast.parse(text)
        except SyntaxError:
            return None
        buses = [node for node in tree.body if _assigns(node, self.bus)]
        imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and self._is_sibling(node)]
        if len(buses) != 1 or not imports or self._named(tree):
            return None
        declared = [node for node in tree.body if _declares(node, self.bus)]
        behind = declared[-1] if declared else buses[0]
        before = [node for node in imports if (node.module or "") < self.module]
        # Line numbers count from 1, so the one of a statement is where what comes behind its line is inserted.
        at_import = _end(before[-1]) if before else imports[0].lineno - 1
        at_endpoint = _end(behind)
        lines = text.splitlines(keepends=True)
        crowded = any(_shares_lines(tree, node) for node in (*imports, behind))
        if crowded or at_endpoint < _end(imports[-1]) or not lines[at_endpoint - 1].endswith("\n"):
            return None
        lines.insert(at_endpoint, f"{self.endpoint_line}\n")
        lines.insert(at_import, f"{self.import_line}\n")
        return "".join(lines)

    def _named(self, tree: ast.Module) -> bool:
        """Return whether the app uses the name of the class already."""
        return any(isinstance(node, ast.alias) and (node.asname or node.name) == self.cls for node in ast.walk(tree))

    def _is_sibling(self, node: ast.ImportFrom) -> bool:
        return node.level == 0 and (node.module or "").partition(".")[0] == self.module.partition(".")[0]


def _assigns(node: ast.stmt, name: str) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)


def _declares(node: ast.stmt, bus: str) -> bool:
    """Return whether *node* is `bus.endpoint(...)`, alone."""
    call = node.value if isinstance(node, ast.Expr) else None
    return (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "endpoint"
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == bus
    )


def _end(node: ast.stmt) -> int:
    assert node.end_lineno is not None
    return node.end_lineno


def _shares_lines(tree: ast.Module, node: ast.stmt) -> bool:
    """Return whether another statement ends where *node* begins, or begins where it ends, beyond a semicolon."""
    return any(node is not other and other.lineno <= _end(node) and node.lineno <= _end(other) for other in tree.body)
