"""JSON schemas of message bodies, in the dialect that AsyncAPI and draft 7 of JSON Schema share."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, Final

import attrs
import msgspec

from sagabus.secrecy.encrypted import Encrypted

PLACE: Final = "#/components/schemas/"
ENCRYPTED: Final = "x-sagabus-encrypted"
"""Marks a value that is encrypted on the wire."""
_VALUES: Final = frozenset({"default", "enum", "const"})


def schemas_of(classes: Iterable[type]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return a schema for each of *classes*, in order, and by name the schemas that these refer to under `PLACE`."""
    schemas, components = msgspec.json.schema_components(
        classes, schema_hook=_schema_of_other, ref_template=f"{PLACE}{{name}}"
    )
    return [_as_draft_7(schema) for schema in schemas], {n: _as_draft_7(s) for n, s in components.items()}


def about(cls: type) -> str:
    """Return the docstring of *cls*; empty where it has none of its own."""
    text = inspect.cleandoc(cls.__doc__ or "")
    # attrs and dataclasses write one, of the signature, where there is none.
    return "" if attrs.has(cls) and text.startswith(f"{cls.__name__}(") else text


def _schema_of_other(kind: type) -> dict[str, Any]:
    if kind is not Encrypted:
        raise NotImplementedError
    return {"type": "string", "description": "Encrypted on the wire, readable in handlers alone.", ENCRYPTED: True}


def _as_draft_7(schema: Any) -> Any:
    """Return *schema* with tuples as draft 7 has them, and descriptions without the indentation of docstrings."""
    if isinstance(schema, list):
        return [_as_draft_7(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    turned = {name: part if name in _VALUES else _as_draft_7(part) for name, part in schema.items()}
    if "prefixItems" in turned:
        rest = turned.pop("items", True)
        turned["items"], turned["additionalItems"] = turned.pop("prefixItems"), rest
    if isinstance(turned.get("description"), str):
        turned["description"] = inspect.cleandoc(turned["description"])
    return turned
