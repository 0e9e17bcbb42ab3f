"""Sample bodies: the smallest message that a schema allows, for people to copy and change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sagabus.asyncapi.payloads import PLACE, schemas_of

_BY_FORMAT: Final = {
    "date-time": "2026-01-31T12:00:00Z",
    "date": "2026-01-31",
    "time": "12:00:00",
    "duration": "PT1M",
    "uuid": "00000000-0000-4000-8000-000000000042",
    "decimal": "1",
}
_DEEP: Final = 8


def sample_body(cls: type) -> Any:
    """Return the plain data of a message of *cls*, with those fields alone that have no default."""
    (schema,), components = schemas_of([cls])
    return sample(schema, components)


def sample(schema: Mapping[str, Any], components: Mapping[str, Any], depth: int = 0) -> Any:
    """Return plain data that *schema* allows, as far as types, formats and lengths go."""
    if "$ref" in schema:
        return sample(components[schema["$ref"].removeprefix(PLACE)], components, depth + 1)
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        options = [option for option in schema["anyOf"] if option.get("type") != "null"]
        return None if depth > _DEEP else sample(options[0], components, depth + 1)
    match schema.get("type"):
        case "object":
            fields = schema.get("properties", {})
            return {name: sample(fields[name], components, depth + 1) for name in schema.get("required", ())}
        case "array":
            parts = schema.get("items", {})
            if isinstance(parts, list):
                return [sample(part, components, depth + 1) for part in parts]
            return [sample(parts, components, depth + 1) for _ in range(schema.get("minItems", 0))]
        case "integer" | "number":
            return _number(schema)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return _text(schema)


def _number(schema: Mapping[str, Any]) -> int | float:
    number: int | float = 1
    if "exclusiveMaximum" in schema:
        number = min(number, schema["exclusiveMaximum"] - 1)
    if "exclusiveMinimum" in schema:
        number = max(number, schema["exclusiveMinimum"] + 1)
    bounded: int | float = max(min(number, schema.get("maximum", number)), schema.get("minimum", number))
    return bounded


def _text(schema: Mapping[str, Any]) -> str:
    if schema.get("contentEncoding") == "base64":
        return "AA=="
    text = _BY_FORMAT.get(schema.get("format", ""), "42")
    return text.ljust(schema.get("minLength", 0), "0")[: schema.get("maxLength", 1000)]
