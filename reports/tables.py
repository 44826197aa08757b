"""The tables of a study, one function each.

A table never holds a number of an incomplete cell, and never puts numbers of different versions in one column.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reports.contrasts import OVERALL, Answer, Estimate, Scores
from reports.formats import Entry, Table, interval, number
from reports.records import Cell, Metric, Study, Variant

DISTANCES = ("fid", "fid_infinity", "kid", "cmmd")
TITLES = {
    "quality": "Distance to the reference pictures",
    "fidelity": "Fidelity, coverage, diversity and alignment with the prompt",
}


def geneval(study: Study, scores: Scores) -> Table:
    """GenEval by variant (rows) and task (columns), with 95 % intervals."""
    tasks = list(dict.fromkeys(task for _, split, task in scores if split == ""))
    keys = [("", task) for task in tasks]
    note = "Mean of the task means, 95 % intervals from prompts resampled within task"
    return _by_variant(study, scores, "geneval", "GenEval by variant and task", keys, [pretty(t) for t in tasks], note)


def splits(study: Study, scores: Scores) -> Table:
    """GenEval overall by variant (rows) and prompt split (columns)."""
    present = [(name, label) for name, label in study.splits if any(split == name for _, split, _ in scores)]
    keys = [("", OVERALL)] + [(name, OVERALL) for name, _ in present]
    header = ["all prompts"] + [f"{name}: {label}" if label != name else name for name, label in present]
    return _by_variant(study, scores, "splits", "GenEval overall by prompt split", keys, header, "95 % intervals")


def _by_variant(
    study: Study,
    scores: Scores,
    name: str,
    title: str,
    keys: Sequence[tuple[str, str]],
    header: Sequence[str],
    note: str,
) -> Table:
    variants = [v for v in in_order(study) if any((v.name, *key) in scores for key in keys)]
    rows, data = [], []
    for variant in variants:
        found = [scores.get((variant.name, *key)) for key in keys]
        first = next(estimate for estimate in found if estimate)
        counts = [Entry(str(first.n)), Entry(str(first.prompts)), Entry(str(first.seeds))]
        rows.append([Entry(variant.label), *(_score(estimate) for estimate in found), *counts])
        data += [_long(variant, *key, estimate) for key, estimate in zip(keys, found) if estimate]
    return Table(
        name=name,
        title=title,
        note=note,
        header=["variant", *header, "images", "prompts", "seeds"],
        rows=rows,
        data=data,
        controls=frozenset(i for i, variant in enumerate(variants) if variant.is_control),
    )


def _score(estimate: Estimate | None) -> Entry:
    if estimate is None:
        return Entry("–")
    return Entry(f"{estimate.value:.3f}", interval(estimate.ci, "{:.3f}") if estimate.ci else "")


def _long(variant: Variant, split: str, task: str, estimate: Estimate) -> dict:
    low, high = estimate.ci or (None, None)
    return {
        "variant": variant.name,
        "split": split or "all",
        "task": task,
        "value": estimate.value,
        "low": low,
        "high": high,
        "images": estimate.n,
        "prompts": estimate.prompts,
        "seeds": estimate.seeds,
        "version": estimate.version,
    }


def answers(given: Sequence[Answer]) -> Table:
    """The contrasts and their verdicts, one a row."""
    rows, data = [], []
    for answer in given:
        contrast, low_high = answer.contrast, answer.ci or (None, None)
        rows.append(
            [
                Entry(contrast.label),
                Entry(answer.verdict),
                _signed(answer.effect, answer.ci),
                Entry(f"{contrast.smallest_effect:g}"),
                Entry("–" if answer.detectable is None else number(answer.detectable)),
                Entry(str(answer.prompts)),
                Entry(str(len(answer.seeds))),
            ]
        )
        data.append(
            {
                "contrast": contrast.name,
                "metric": contrast.metric,
                "a": contrast.a,
                "b": contrast.b,
                "minus": " - ".join(contrast.minus or ()),
                "verdict": answer.verdict,
                "effect": answer.effect,
                "low": low_high[0],
                "high": low_high[1],
                "smallest_effect": contrast.smallest_effect,
                "detectable": answer.detectable,
                "prompts": answer.prompts,
                "seeds": len(answer.seeds),
            }
        )
    header = ["contrast", "verdict", "effect", "smallest effect of interest", "detectable effect", "prompts", "seeds"]
    title = "What the contrasts say"
    return Table(name="contrasts", title=title, header=header, rows=rows, data=data, text_columns=2)


def effects(given: Sequence[Answer]) -> Table:
    """Each contrast within each split and each task: where an effect comes from."""
    parts = list(dict.fromkeys(key for answer in given for key in answer.parts))
    rows, data = [], []
    for answer in given:
        found = [answer.parts.get(key) for key in parts]
        rows.append([Entry(answer.contrast.label), *(_signed(d.effect, d.ci) if d else Entry("–") for d in found)])
        for (split, task), part in answer.parts.items():
            low, high = part.ci or (None, None)
            row = {"contrast": answer.contrast.name, "split": split or "all", "task": task, "effect": part.effect}
            data.append({**row, "low": low, "high": high, "prompts": part.prompts})
    return Table(
        name="effects",
        title="Where the effects come from",
        note="Paired differences on the same prompts and seeds, 95 % intervals",
        header=["contrast", *(part_label(*key) for key in parts)],
        rows=rows,
        data=data,
    )


def measured(study: Study) -> list[Table]:
    """The other metrics, a table for each group of names ("data/captions" is of the group "data").

    A metric that was measured in several ways (another N, reference, extractor or version) has a table for each: in one
    table they would be compared.
    """
    columns: dict[tuple[str, str], None] = {}
    for cell in study.cells:
        if cell.is_complete and cell.record:
            columns.update({(name, m.version): None for name, m in cell.record.metrics.items() if not is_geneval(name)})
    groups: dict[tuple[str, int], list[tuple[str, str]]] = {}
    ways: dict[str, int] = {}
    for name, version in columns:
        base = name.partition("[")[0]
        ways[base] = ways.get(base, 0) + 1
        groups.setdefault((_group(name), ways[base]), []).append((name, version))
    order = sorted(groups, key=lambda key: [*TITLES, key[0]].index(key[0]))
    return [_measured(study, *key, groups[key]) for key in order]


def is_quality(name: str) -> bool:
    """Whether a metric is of images alone: named without a group, or of the group "detail"."""
    return not is_geneval(name) and ("/" not in name.partition("[")[0] or name.startswith("detail/"))


def _group(name: str) -> str:
    base = name.partition("[")[0]
    if not is_quality(name):
        return base.partition("/")[0]
    return "quality" if base in DISTANCES or base.startswith("detail/") else "fidelity"


def _measured(study: Study, group: str, way: int, keys: list[tuple[str, str]]) -> Table:
    header, rows, data = [], [], []
    arrows: dict[tuple[str, str], str] = {}
    variants = []
    for variant in in_order(study):
        line = []
        for key in keys:
            metrics = _of_version(study.complete(variant.name), key)
            line.append(_pooled(metrics))
            if metrics:
                arrows[key] = "↑" if metrics[0].higher_is_better else "↓"
            data += [_metric_row(variant, cell, key) for cell in study.complete(variant.name) if _has(cell, key)]
        if any(entry.text != "–" for entry in line):
            variants.append(variant)
            rows.append([Entry(variant.label), *line])
    for key in keys:
        base, bracket, rest = key[0].partition("[")
        header.append(f"{base.rpartition('/')[2]}{bracket}{rest} {arrows.get(key, '')}".strip())
    another = f" (measured in another way, {way}: not comparable with the table before)" if way > 1 else ""
    return Table(
        name=group if way == 1 else f"{group}-{way}",
        title=TITLES.get(group, f"Measured: {group}") + another,
        note="Extractor, N and reference are part of each name; ↑ higher is better, ↓ lower is better. "
        "With several seeds: mean and range",
        header=["variant", *header],
        rows=rows,
        data=data,
        controls=frozenset(i for i, variant in enumerate(variants) if variant.is_control),
    )


def _has(cell: Cell, key: tuple[str, str]) -> bool:
    metric = cell.record.metrics.get(key[0]) if cell.record else None
    return metric is not None and metric.version == key[1]


def _of_version(cells: Sequence[Cell], key: tuple[str, str]) -> list[Metric]:
    return [cell.record.metrics[key[0]] for cell in cells if cell.record and _has(cell, key)]


def _pooled(metrics: Sequence[Metric]) -> Entry:
    """One seed's value with its interval, or the mean of several with their range."""
    values = [metric.value for metric in metrics if metric.value is not None]
    if not values:
        return Entry("–")
    if len(values) > 1:
        return Entry(number(sum(values) / len(values)), f"{number(min(values))} to {number(max(values))}")
    return Entry(number(values[0]), interval(metrics[0].ci) if metrics[0].ci else "")


def _metric_row(variant: Variant, cell: Cell, key: tuple[str, str]) -> dict:
    assert cell.record
    metric = cell.record.metrics[key[0]]
    low, high = metric.ci or (None, None)
    row = {"variant": variant.name, "seed": cell.seed, "metric": key[0], "value": metric.value, "low": low}
    return {**row, "high": high, "n": metric.n, "version": metric.version}


def versions(study: Study) -> Table:
    """Which version of each metric was measured: judge and feature hashes, prompts, resize, N."""
    seen: dict[tuple[str, str], list[str]] = {}
    for cell in study.cells:
        if cell.is_complete and cell.record:
            for name, metric in cell.record.metrics.items():
                if not is_geneval(name) or name == "geneval/overall":
                    seen.setdefault((name, metric.version), []).append(cell.name)
    data: list[dict[str, Any]] = [
        {"metric": name, "version": version, "cells": len(cells)} for (name, version), cells in seen.items()
    ]
    rows = [[Entry(d["metric"]), Entry(d["version"]), Entry(str(d["cells"]))] for d in data]
    header = ["metric", "version", "cells"]
    return Table(name="versions", title="Metric versions", header=header, rows=rows, data=data, text_columns=2)


def cost(study: Study) -> Table:
    """Seconds, samples, operations and images of each cell, and their sums."""
    cells = [cell for cell in study.cells if cell.is_complete and cell.record]
    keys = list(dict.fromkeys(key for cell in cells if cell.record for key in cell.record.cost))
    data: list[dict] = []
    for cell in cells:
        given = cell.record.cost if cell.record else {}
        data.append({"cell": cell.name, **{key: given.get(key) for key in keys}})
    total = {"cell": "all", **{key: sum(row[key] or 0 for row in data if _is_number(row[key])) for key in keys}}
    rows = [[Entry(row["cell"]), *(_amount(row[key]) for key in keys)] for row in [*data, total]]
    header = ["cell", *(pretty(key) for key in keys)]
    note = "Stages shared by several cells are counted in each of them"
    return Table(name="cost", title="Cost", note=note, header=header, rows=rows, data=data)


def cells(study: Study) -> Table:
    """Every cell that the study asks for and its state; only complete ones have scores."""
    data: list[dict[str, Any]] = [
        {"cell": cell.name, "variant": cell.variant, "seed": cell.seed, "state": cell.state, "reason": cell.reason}
        for cell in study.cells
    ]
    rows = [[Entry(d["cell"]), Entry(d["state"]), Entry(d["reason"])] for d in data]
    header = ["cell", "state", "reason"]
    return Table(name="cells", title="Cells", header=header, rows=rows, data=data, text_columns=3)


def inputs(study: Study) -> Table:
    """What each cell was made from: the hashes of its data, models and stages, short for reading."""
    complete = [cell for cell in study.cells if cell.is_complete and cell.record]
    given = {cell.name: flat(cell.record.inputs) for cell in complete if cell.record}
    keys = list(dict.fromkeys(key for found in given.values() for key in found))
    data = [{"cell": name, **{key: found.get(key, "") for key in keys}} for name, found in given.items()]
    rows = [
        [Entry(name), *(Entry(found[key].removeprefix("sha256:")[:12] if key in found else "–") for key in keys)]
        for name, found in given.items()
    ]
    note = "First 12 digits; the CSV has all. Equal hashes are shared, not made again"
    header = ["cell", *map(pretty, keys)]
    return Table(name="inputs", title="Inputs of the cells", note=note, header=header, rows=rows, data=data,
                 text_columns=len(header))  # fmt: skip


def protocol(study: Study) -> Table:
    """The resolved settings, one dotted name a row, with what differs between cells' environments."""
    facts = {"scale": study.scale, "seeds": ", ".join(map(str, study.seeds)), **flat(study.protocol)}
    for cell in study.cells:
        if cell.is_complete and cell.record:
            for key, value in flat({"environment": cell.record.env}).items():
                name = key if facts.get(key, value) == value else f"{key} ({cell.name})"
                facts[name] = value
    data = [{"setting": key, "value": value} for key, value in facts.items()]
    rows = [[Entry(key), Entry(value)] for key, value in facts.items()]
    title = "Protocol"
    return Table(name="protocol", title=title, header=["setting", "value"], rows=rows, data=data, text_columns=2)


def published() -> Table:
    """Scores that others published, for the claim under test; never measured here."""
    with (Path(__file__).parent / "published.csv").open(newline="", encoding="utf-8") as file:
        data = [row for row in csv.DictReader(file) if row["source"].startswith("LightGen paper Table")]
    data = [row for row in data if row["resolution"]]
    shown = {"model": "model", "params": "parameters", "training_images": "training images", "resolution": "resolution"}
    tasks = ["single_object", "two_object", "counting", "colors", "position", "color_attr", OVERALL]
    rows = [[Entry(row[key] or "–") for key in [*shown, *tasks, "source"]] for row in data]
    return Table(
        name="published",
        title="Published GenEval scores (not measured here)",
        note="As printed in the LightGen paper: other prompts' images, judge and resolution than the tables above",
        header=[*shown.values(), *map(pretty, tasks), "source"],
        rows=rows,
        data=data,
    )


# Words and numbers


def in_order(study: Study) -> list[Variant]:
    """The variants under test, then the controls."""
    return sorted(study.variants, key=lambda variant: variant.is_control)


def is_geneval(name: str) -> bool:
    return name.startswith(("geneval/", "geneval@"))


def pretty(name: str) -> str:
    """A task's or field's name in words."""
    return {"color_attr": "color attribution", "flops": "FLOPs"}.get(name, name.replace("_", " "))


def part_label(split: str, task: str) -> str:
    words = pretty(task) if task != OVERALL else ("all prompts" if not split else "")
    return " / ".join(word for word in (split, words) if word)


def _signed(effect: float | None, ci: tuple[float, float] | None) -> Entry:
    if effect is None:
        return Entry("–")
    return Entry(f"{effect:+.3f}", interval(ci, "{:+.3f}") if ci else "")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _amount(value: Any) -> Entry:
    if not _is_number(value):
        return Entry("–" if value is None else str(value))
    return Entry(f"{value:,.0f}" if abs(value) < 1e9 else f"{value:.2e}")


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as {"outer.inner": text}."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found.update(flat(value, f"{name}."))
        elif isinstance(value, list):
            found[name] = ", ".join(map(str, value))
        else:
            found[name] = str(value)
    return found
