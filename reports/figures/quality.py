"""Every measure of the images by variant: a panel a metric and version, a dot a variant and seed."""

from collections.abc import Sequence
from typing import Any

from reports.figures.figure import MUTED, Figure, grid, list_down, panels, render
from reports.figures.looks import draw_dot, looks
from reports.records.cell import Cell
from reports.records.record import Metric, is_quality
from reports.records.study import Study, Variant
from reports.tables.table import bounds

COLUMNS = 4

Point = tuple[Variant, Cell, Metric]


def quality(study: Study) -> Figure | None:
    """The panels in the order of the records; None without measures."""
    points = _points(study)
    if not points:
        return None
    measured = {variant.name for found in points.values() for variant, *_ in found}
    variants = [variant for variant in study.variants_in_order() if variant.name in measured]
    columns = min(COLUMNS, len(points))

    def draw(figure: Any) -> None:
        axes = panels(figure, len(points), columns, sharey=True)
        for ax, ((name, _), found) in zip(axes, points.items()):
            _dots(ax, study, variants, found)
            ax.set_title(_heading(name, found[0][2]), fontsize=8.5)
        list_down(axes[0], [variant.label for variant in variants])

    data = [
        {"variant": variant.name, "seed": cell.seed, "metric": name, "value": metric.value, **bounds(metric.ci),
         "n": metric.n, "version": version}
        for (name, version), found in points.items() for variant, cell, metric in found
    ]  # fmt: skip
    height = -(-len(points) // columns) * (0.27 * len(variants) + 1.05)
    alt = "Panels: " + ", ".join(name for name, _ in points)
    return render("quality", "Image quality and alignment", alt, draw, data, height=height)


def _points(study: Study) -> dict[tuple[str, str], list[Point]]:
    points: dict[tuple[str, str], list[Point]] = {}
    for variant in study.variants_in_order():
        for cell in study.complete(variant.name):
            for name, metric in cell.metrics.items():
                if is_quality(name) and metric.value is not None:
                    points.setdefault((name, metric.version), []).append((variant, cell, metric))
    return points


def _heading(name: str, metric: Metric) -> str:
    head, bracket, rest = name.partition("[")
    better = {True: "higher", False: "lower", None: "closer to the line"}[metric.higher_is_better]
    return f"{head.rpartition('/')[2]}\n{bracket}{rest}\n{better} is better"


def _dots(ax: Any, study: Study, variants: Sequence[Variant], points: Sequence[Point]) -> None:
    look = looks(study)
    for variant, cell, metric in points:
        offset = 0.12 * (study.seeds.index(cell.seed) - (len(study.complete(variant.name)) - 1) / 2)
        draw_dot(ax, metric.value or 0.0, variants.index(variant) + offset, metric.ci, look[variant.name])
    if (target := points[0][2].target) is not None:
        ax.axvline(target, color=MUTED, linewidth=1, linestyle="--")
    ax.margins(x=0.08)
    grid(ax, "x")
    ax.locator_params(axis="x", nbins=4)
