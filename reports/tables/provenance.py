"""All that is needed to judge the numbers, or to get them again: settings, versions, inputs, cost, cells."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports.records.record import is_geneval
from reports.records.study import Study
from reports.tables.table import Entry, Table
from reports.words import OVERALL, flat, pretty


def protocol(study: Study) -> Table:
    """The resolved settings, one dotted name a row, with what differs between cells' environments."""
    facts = {"scale": study.scale, "seeds": ", ".join(map(str, study.seeds)), **flat(study.protocol)}
    for cell in study.complete():
        said = {"environment": cell.record.env, "generation": cell.record.protocol or {}} if cell.record else {}
        for key, value in flat({name: found for name, found in said.items() if found}).items():
            name = key if facts.get(key, value) == value else f"{key} ({cell.name})"
            facts[name] = value
    data = [{"setting": key, "value": value} for key, value in facts.items()]
    return _words("protocol", "Protocol", data, ["setting", "value"])


def versions(study: Study) -> Table:
    """Which version of each metric was measured: judge and feature hashes, prompts, resize, N."""
    seen: dict[tuple[str, str], int] = {}
    for cell in study.complete():
        for name, metric in cell.metrics.items():
            if not is_geneval(name) or name == f"geneval/{OVERALL}":
                seen[name, metric.version] = seen.get((name, metric.version), 0) + 1
    data = [{"metric": name, "version": version, "cells": count} for (name, version), count in seen.items()]
    return _words("versions", "Metric versions", data, ["metric", "version", "cells"])


def cells(study: Study) -> Table:
    """Every cell that the study asks for and its state; only complete ones have scores."""
    data = [
        {"cell": cell.name, "variant": cell.variant, "seed": cell.seed, "state": cell.state, "reason": cell.reason}
        for cell in study.cells
    ]
    return _words("cells", "Cells", data, ["cell", "state", "reason"])


def _words(name: str, title: str, data: Sequence[Mapping[str, Any]], header: Sequence[str]) -> Table:
    """These columns of the data as they are; only counts stand flush right."""
    rows = [[Entry(str(row[key])) for key in header] for row in data]
    words = sum(column != "cells" for column in header)
    return Table(name=name, title=title, header=header, rows=rows, data=data, text_columns=words)


def inputs(study: Study) -> Table:
    """What each cell was made from: the hashes of its data, models and stages, short for reading."""
    given = {cell.name: flat(cell.record.inputs) for cell in study.complete() if cell.record}
    keys = list(dict.fromkeys(key for found in given.values() for key in found))
    rows = [
        [Entry(name), *(Entry(found[key].removeprefix("sha256:")[:12] if key in found else "–") for key in keys)]
        for name, found in given.items()
    ]
    return Table(
        name="inputs",
        title="Inputs of the cells",
        note="First 12 digits; the CSV has all. Equal hashes are shared, not made again",
        header=["cell", *map(pretty, keys)],
        rows=rows,
        data=[{"cell": name, **{key: found.get(key, "") for key in keys}} for name, found in given.items()],
        text_columns=len(keys) + 1,
    )


def cost(study: Study) -> Table:
    """Seconds, samples, operations and images of each cell, and their sums."""
    given = {cell.name: cell.record.cost for cell in study.complete() if cell.record}
    keys = list(dict.fromkeys(key for costs in given.values() for key in costs))
    data: list[dict] = [{"cell": name, **{key: costs.get(key) for key in keys}} for name, costs in given.items()]
    total = {"cell": "all", **{key: sum(row[key] or 0 for row in data if _is_number(row[key])) for key in keys}}
    return Table(
        name="cost",
        title="Cost",
        note="Stages shared by several cells are counted in each of them",
        header=["cell", *map(pretty, keys)],
        rows=[[Entry(row["cell"]), *(_amount(row[key]) for key in keys)] for row in [*data, total]],
        data=data,
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _amount(value: Any) -> Entry:
    if not _is_number(value):
        return Entry("–" if value is None else str(value))
    return Entry(f"{value:,.0f}" if abs(value) < 1e9 else f"{value:.2e}")
