"""The JSON schema of envelopes: what every message on the wire has around its body."""

from __future__ import annotations

import inspect
import re
import typing
from typing import Any, Final

import msgspec

from sagabus.envelope import Envelope

_DESCRIBED: Final = re.compile(r"^ {4}(\w+): (.+)$", re.MULTILINE)
_LEFT_OUT: Final = frozenset({"data_base64"})


def envelope_schema() -> dict[str, Any]:
    """Return the schema of a CloudEvents 1.0 JSON object as endpoints admit it; the body is any JSON."""
    hints = typing.get_type_hints(Envelope, include_extras=True)
    described = dict(_DESCRIBED.findall(inspect.cleandoc(Envelope.__doc__ or "")))
    properties: dict[str, Any] = {}
    required = []
    for field in msgspec.structs.fields(Envelope):
        if field.name in _LEFT_OUT:
            continue
        schema = {} if field.type is msgspec.Raw else msgspec.json.schema(hints[field.name])
        if field.name in described:
            schema["description"] = described[field.name]
        properties[field.name] = schema
        if field.required:
            required.append(field.name)
    for name in ("id", "type"):
        properties[name]["minLength"] = 1
    return {
        "title": "CloudEvent",
        "description": "The envelope of every message: CloudEvents 1.0, structured mode, with extension attributes.",
        "type": "object",
        "properties": properties,
        "required": required,
    }


def envelope_of(name: str, version: int, body: Any) -> dict[str, Any]:
    """Return a whole sample envelope around the plain data *body* of a message."""
    whole = {"specversion": "1.0", "id": "d0b1c36a0f5e4a2f9c8e7d6b5a493827", "source": "/client", "type": name}
    dated = whole | {"time": "2026-01-31T12:00:00.000Z", "data": body}
    return dated if version == 1 else dated | {"dataversion": version}
