"""The metrics beside GenEval, a table for each group of names ("data/captions" is of the group "data").

A metric that was measured in several ways (another N, reference, extractor or version) has a table for each: in one
table they would be compared.
"""

from collections.abc import Sequence

from reports.records.cell import Cell
from reports.records.record import Metric, is_geneval, is_quality
from reports.records.study import Study, Variant
from reports.tables.table import Entry, Table, bounds
from reports.words import interval, number

DISTANCES = ("fid", "fid_infinity", "kid", "cmmd")
TITLES = {
    "quality": "Distance to the reference pictures",
    "fidelity": "Fidelity, coverage, diversity and alignment with the prompt",
}
Key = tuple[str, str]  # (metric's name, version)


def measures(study: Study) -> list[Table]:
    """A table a group and way of measuring, those of the images first."""
    groups: dict[tuple[str, int], list[Key]] = {}
    ways: dict[str, int] = {}
    for name, version in _keys(study.complete()):
        base = name.partition("[")[0]
        ways[base] = ways.get(base, 0) + 1
        groups.setdefault((_group(name), ways[base]), []).append((name, version))
    order = sorted(groups, key=lambda key: [*TITLES, key[0]].index(key[0]))
    return [_table(study, *key, groups[key]) for key in order]


def _keys(cells: Sequence[Cell]) -> list[Key]:
    found = [(name, m.version) for cell in cells for name, m in cell.metrics.items() if not is_geneval(name)]
    return list(dict.fromkeys(found))


def _group(name: str) -> str:
    base = name.partition("[")[0]
    if not is_quality(name):
        return base.partition("/")[0]
    return "quality" if base in DISTANCES or base.startswith("detail/") else "fidelity"


def _table(study: Study, group: str, way: int, keys: Sequence[Key]) -> Table:
    cells = {variant.name: study.complete(variant.name) for variant in study.variants}
    shown = [v for v in study.variants_in_order() if any(_pooled(cells[v.name], key).text != "–" for key in keys)]
    another = f" (measured in another way, {way}: not comparable with the table before)" if way > 1 else ""
    return Table(
        name=group if way == 1 else f"{group}-{way}",
        title=TITLES.get(group, f"Measured: {group}") + another,
        note="Extractor, N and reference are part of each name; ↑ higher is better, ↓ lower is better. "
        "With several seeds: mean and range",
        header=["variant", *(_heading(study.complete(), key) for key in keys)],
        rows=[[Entry(variant.label), *(_pooled(cells[variant.name], key) for key in keys)] for variant in shown],
        data=[
            _data(variant, cell, key, metric)
            for variant in study.variants_in_order()
            for key in keys
            for cell in cells[variant.name]
            for metric in _of_version([cell], key)
        ],
        controls=frozenset(i for i, variant in enumerate(shown) if variant.is_control),
    )


def _of_version(cells: Sequence[Cell], key: Key) -> list[Metric]:
    found = [cell.metrics[key[0]] for cell in cells if key[0] in cell.metrics]
    return [metric for metric in found if metric.version == key[1]]


def _heading(cells: Sequence[Cell], key: Key) -> str:
    base, bracket, rest = key[0].partition("[")
    return f"{base.rpartition('/')[2]}{bracket}{rest} {_arrow(_of_version(cells, key)[0])}"


def _arrow(metric: Metric) -> str:
    if metric.higher_is_better is None:
        return "→ the reference's" + ("" if metric.target is None else f" {number(metric.target)}")
    return "↑" if metric.higher_is_better else "↓"


def _pooled(cells: Sequence[Cell], key: Key) -> Entry:
    """One seed's value with its interval, or the mean of several with their range."""
    metrics = _of_version(cells, key)
    values = [metric.value for metric in metrics if metric.value is not None]
    if not values:
        return Entry("–")
    if len(values) > 1:
        return Entry(number(sum(values) / len(values)), f"{number(min(values))} to {number(max(values))}")
    return Entry(number(values[0]), interval(metrics[0].ci))


def _data(variant: Variant, cell: Cell, key: Key, metric: Metric) -> dict:
    row = {"variant": variant.name, "seed": cell.seed, "metric": key[0], "value": metric.value}
    return {**row, **bounds(metric.ci), "n": metric.n, "version": metric.version}
