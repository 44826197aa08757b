"""Typed fields of JSON objects: what is missing, or of another type, is named with its place."""

from collections.abc import Mapping
from typing import Any

NUMBER = (int, float)


def checked(data: Any, fields: Mapping[str, Any], where: str) -> dict:
    """`data` if it is an object that has every field in its type (or in one of a tuple of types)."""
    if not isinstance(data, dict):
        raise ValueError(f"{where}: expected an object, found {type(data).__name__}")
    for name, kind in fields.items():
        if name not in data:
            raise ValueError(f"{where}: {name}: missing")
        kinds = kind if isinstance(kind, tuple) else (kind,)
        # bool is an int to Python, never to a reader of a record.
        if not isinstance(data[name], kinds) or (isinstance(data[name], bool) and bool not in kinds):
            expected = " or ".join("null" if k is type(None) else k.__name__ for k in kinds)
            raise ValueError(f"{where}: {name}: expected {expected}, found {type(data[name]).__name__}")
    return data


def check_schema(data: Mapping[str, Any], known: int, where: str) -> None:
    """Refuse another schema than the one that this version reads."""
    if data["schema"] != known:
        raise ValueError(f"{where}: schema: {data['schema']} is not known; this version reads schema {known}")


def are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) in NUMBER for value in values)
