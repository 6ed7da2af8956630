"""What a schema is written with (JSON Schema, draft 7), what checks it, and what the documentation is written from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from dtvit_edge.errors import BundleError

Json = dict[str, Any]

_MOST_WORDS = 300  # of a message, in which a field's name may be as long as the file
_validators: dict[int, Callable[[Any], Any]] = {}


def fields(description: str, properties: Json, *, optional: tuple[str, ...] = ()) -> Json:
    """An object with these fields and no other."""
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def mapping(description: str, values: Json, **more: Any) -> Json:
    """An object whose names are free and whose values are all of one kind."""
    return {"type": "object", "description": description, "additionalProperties": values, **more}


def array(description: str, items: Json, **more: Any) -> Json:
    """A list of items of one kind."""
    return {"type": "array", "description": description, "items": items, **more}


def text(description: str, **more: Any) -> Json:
    """One line of text: without control characters, which a terminal would obey."""
    return {"type": "string", "description": description, "pattern": "^[^\\x00-\\x1f\\x7f-\\x9f]*$", **more}


def choice(description: str, *values: str) -> Json:
    """One of some texts."""
    return {"type": "string", "description": description, "enum": list(values)}


def switch(description: str) -> Json:
    """True or false."""
    return {"type": "boolean", "description": description}


def number(description: str, **more: Any) -> Json:
    """A number; `strict_json` lets no other pass than finite ones."""
    return {"type": "number", "description": description, **more}


def count(description: str, **more: Any) -> Json:
    """An integer of 0 or more."""
    return {"type": "integer", "description": description, "minimum": 0, **more}


def free(description: str) -> Json:
    """What another module writes and reads, described there."""
    return {"type": "object", "description": description}


def or_null(schema: Json) -> Json:
    """The same, or null."""
    return schema | {"type": [schema["type"], "null"]}


def check(data: Any, schema: Json, what: str) -> None:
    """Validate what was read.

    Args:
        schema: a constant of a module; it is compiled once.

    Raises:
        BundleError: with the field and what is wrong with it.
    """
    from fastjsonschema import JsonSchemaValueException

    try:
        _validator(schema)(data)
        _require_integers(data, schema, "data")
    except JsonSchemaValueException as error:
        raise BundleError(f"not {what}: {error.message.replace('data.', '', 1)[:_MOST_WORDS]}") from error


def described(schema: Json, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Every field below a schema: its path, its type and its description, in order; for the documentation."""
    for name, field in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        kind = field["type"] if isinstance(field["type"], str) else " or ".join(field["type"])
        yield path, kind, field["description"]
        inner = field.get("additionalProperties") or field.get("items") or {}
        if isinstance(inner, dict) and inner.get("properties"):
            yield from described(inner, f"{path}[].")
        yield from described(field, f"{path}.")


def _validator(schema: Json) -> Callable[[Any], Any]:
    if id(schema) not in _validators:
        import fastjsonschema

        # Only the message is used; without the rest it compiles in a quarter of the time.
        _validators[id(schema)] = fastjsonschema.compile(schema, detailed_exceptions=False)
    return _validators[id(schema)]


def _require_integers(data: Any, schema: Json, path: str) -> None:
    """JSON Schema calls 512.0 an integer; as the length of an array it would be none."""
    from fastjsonschema import JsonSchemaValueException

    if isinstance(data, float) and "integer" in schema.get("type", ()) and "number" not in schema["type"]:
        raise JsonSchemaValueException(f"{path} must be integer")
    if isinstance(data, dict):
        named, others = schema.get("properties", {}), schema.get("additionalProperties") or {}
        for name, value in data.items():
            _require_integers(value, named.get(name, others), f"{path}.{name}")
    elif isinstance(data, list) and "items" in schema:
        for number_, value in enumerate(data):
            _require_integers(value, schema["items"], f"{path}[{number_}]")
