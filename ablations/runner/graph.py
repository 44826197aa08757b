"""Steps as data: plan.json holds the graph, and a worker builds it again through the same strict loader as any config.

Class names are looked up in a table that the study gives; a name that is not in it is refused, and nothing is imported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ablations.runner.step import Step, in_order
from lightgen.disk.config import from_dict

Table = Mapping[str, type[Step]]


def to_json(ends: Iterable[Step]) -> dict[str, Any]:
    """{key: {"step": class name, fields}} of all steps that lead to `ends`, each after those that it needs."""
    return {step.key: {"step": type(step).__name__, **_fields(step)} for step in in_order(ends)}


def from_json(data: Mapping[str, Any], table: Table, where: str = "plan.json") -> dict[str, Step]:
    """The steps by key. ValueError for a class that is not in `table`, settings that do not fit it, or a step that has
    another key now: its code, its settings' meaning or the files that it reads are others than when it was planned."""
    built: dict[str, Step] = {}
    for key, given in data.items():
        fields = dict(given)
        name = fields.pop("step", None)
        if name not in table:
            raise ValueError(f"{where} names the step {name!r}; there are {', '.join(table)}")
        step = from_dict(table[name], {k: _built(v, built, where) for k, v in fields.items()}, f"{where}: {name}")
        if step.key != key:
            raise ValueError(f"{where}: {step.name} was planned as {key[:16]} and is {step.key[:16]} now; plan again")
        built[key] = step
    return built


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}


def _plain(value: Any) -> Any:
    if isinstance(value, Step):
        return {"made by": value.key}
    if dataclasses.is_dataclass(value):
        return _fields(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _built(value: Any, built: Mapping[str, Step], where: str) -> Any:
    """The value with every {"made by": key} replaced by that step."""
    if isinstance(value, Mapping):
        if set(value) == {"made by"}:
            if value["made by"] not in built:
                raise ValueError(f"{where} needs the step {value['made by']!r} before it is there")
            return built[value["made by"]]
        return {name: _built(item, built, where) for name, item in value.items()}
    return [_built(item, built, where) for item in value] if isinstance(value, list) else value
