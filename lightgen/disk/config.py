"""Load, override and save frozen dataclasses as JSON."""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from lightgen.disk.json_files import read_json, write_json

Config = TypeVar("Config")


def load(cls: type[Config], path: str | Path) -> Config:
    """The config of class `cls` that `save` wrote to `path`; unknown names and wrong types are refused."""
    values = read_json(Path(path))
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds a {type(values).__name__}, expected one JSON object of {cls.__name__}")
    return from_dict(cls, values, where=str(path))


def save(config: Any, path: str | Path) -> None:
    """Write `config` as indented JSON, atomically."""
    write_json(Path(path), json.loads(json.dumps(dataclasses.asdict(config), default=_encode)))


def from_dict(cls: type[Config], values: Mapping[str, Any], where: str = "the given values") -> Config:
    """A `cls` from plain values (nested mappings for nested configs); absent fields keep their defaults."""
    hints = _field_types(cls)
    _refuse_unknown(values, hints, where)
    kwargs = {name: _convert(value, hints[name], name, where) for name, value in values.items()}
    missing = [
        field.name
        for field in dataclasses.fields(cls)  # type: ignore[arg-type]
        if field.name not in kwargs
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)} of {cls.__name__}")
    return cls(**kwargs)


def override(config: Config, changes: Mapping[str, Any], where: str = "") -> Config:
    """A copy of `config` with the dotted names in `changes` set; `{"model.width": 96}` reaches a nested config."""
    hints = _field_types(type(config))
    where = where or type(config).__name__
    heads = {name.split(".", 1)[0]: None for name in changes}
    _refuse_unknown(heads, hints, where)
    fields: dict[str, Any] = {}
    for head in heads:
        if head in changes:
            fields[head] = _convert(changes[head], hints[head], head, where)
        nested = {name.split(".", 1)[1]: value for name, value in changes.items() if name.startswith(head + ".")}
        if nested:
            inner = fields.get(head, getattr(config, head))
            fields[head] = _override_field(inner, hints[head], nested, f"{where}.{head}")
    return dataclasses.replace(config, **fields)  # type: ignore[type-var]


def _override_field(value: Any, hint: Any, changes: Mapping[str, Any], where: str) -> Any:
    """A nested config with `changes`; where its field may be one of several classes and the names are another's, that
    other with what the two have in common: `data.folder=...` makes data one's own."""
    if not dataclasses.is_dataclass(value):
        raise ValueError(f"{where} is a plain value and has no field {', '.join(sorted(changes))}")
    heads = {name.split(".", 1)[0] for name in changes}
    others: list[Any] = [kind for kind in typing.get_args(hint) if dataclasses.is_dataclass(kind)]
    if heads <= set(_field_types(type(value))) or not others:
        return override(value, changes, where)
    for kind in others:
        hints = _field_types(kind)
        if heads <= set(hints):
            shared = {name: getattr(value, name) for name in hints if hasattr(value, name)}
            return from_dict(kind, {**shared, **changes}, where)
    valid = "; or ".join(", ".join(_field_types(kind)) for kind in others)
    raise ValueError(f"unknown name {', '.join(sorted(heads))} in {where}; valid names: {valid}")


def _field_types(cls: type) -> dict[str, Any]:
    if not dataclasses.is_dataclass(cls):
        raise ValueError(f"{cls.__name__} is not a dataclass")
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def _refuse_unknown(names: typing.Iterable[str], hints: Mapping[str, Any], where: str) -> None:
    unknown = sorted(set(names) - set(hints))
    if unknown:
        raise ValueError(f"unknown name {', '.join(unknown)} in {where}; valid names: {', '.join(hints)}")


def _convert(value: Any, hint: Any, name: str, where: str) -> Any:
    """`value` as the field type `hint`: JSON lists become tuples, strings become paths, ints become floats."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _convert(value, arguments[0], name, where)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(value, arguments, name, where)
    if origin is typing.Literal:
        if value in arguments:
            return value
        raise ValueError(f"{name} in {where} is {value!r}; valid choices: {', '.join(map(repr, arguments))}")
    if origin is tuple and isinstance(value, list | tuple):
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            arguments = (arguments[0],) * len(value)
        if len(arguments) == len(value):
            return tuple(_convert(item, kind, name, where) for item, kind in zip(value, arguments, strict=True))
    elif origin is list and isinstance(value, list):
        return [_convert(item, arguments[0], name, where) for item in value]
    elif origin is not None and isinstance(value, origin):
        return value
    elif dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, hint):
            return value
        if isinstance(value, Mapping):
            return from_dict(hint, value, f"{where}.{name}")
    elif hint is Path and isinstance(value, str | Path):
        return Path(value)
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif hint is Any or (isinstance(hint, type) and type(value) is hint):
        return value
    raise ValueError(f"{name} in {where} is {value!r}, expected {getattr(hint, '__name__', hint)}")


def _convert_union(value: Any, choices: tuple[Any, ...], name: str, where: str) -> Any:
    if isinstance(value, Mapping):  # of several configs the one that the names fill best
        given = set(value)
        choices = tuple(sorted(choices, key=lambda c: len(_names(c) ^ given)))
    for choice in choices:
        if value is None and choice is type(None):
            return None
        try:
            return _convert(value, choice, name, where)
        except ValueError:
            continue
    raise ValueError(f"{name} in {where} is {value!r}, expected one of {', '.join(map(str, choices))}")


def _names(choice: Any) -> set[str]:
    return set(_field_types(choice)) if isinstance(choice, type) and dataclasses.is_dataclass(choice) else set()


def _encode(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a config cannot hold a {type(value).__name__}: {value!r}")
