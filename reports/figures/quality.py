"""Every measure of the images by variant: a panel a metric and version, a dot a variant and seed."""

from collections.abc import Sequence
from typing import Any

from reports.figures.figure import MUTED, Figure, even, grid, list_down, note, panels, render, wrapped
from reports.figures.looks import draw_dot, key, looks
from reports.records.cell import Cell
from reports.records.record import Metric, is_quality
from reports.records.study import Study, Variant
from reports.tables.table import bounds
from reports.words import metric_name, number

COLUMNS = 7

Point = tuple[Variant, Cell, Metric]


def quality(study: Study) -> Figure | None:
    """The panels in the order of the records; None without measures."""
    points = _points(study)
    if not points:
        return None
    measured = {variant.name for found in points.values() for variant, *_ in found}
    variants = [variant for variant in study.variants_in_order() if variant.name in measured]
    columns = even(len(points), COLUMNS)

    def draw(figure: Any) -> None:
        axes = panels(figure, len(points), columns, sharey=True)
        for ax, ((name, _), found) in zip(axes, points.items()):
            _dots(ax, study, variants, found)
            ax.set_title(f"{wrapped(metric_name(name)[0], 17)}\n{_better(found[0][2])}", fontsize=8.5)
        list_down(axes[0], [variant.label for variant in variants], 50)
        key(figure, study)
        note(figure, "a dot a seed; ◂ ▸: a control beyond the scale of the variants, with its value")

    data = [
        {"variant": variant.name, "seed": cell.seed, "metric": name, "value": metric.value, **bounds(metric.ci),
         "n": metric.n, "version": version}
        for (name, version), found in points.items() for variant, cell, metric in found
    ]  # fmt: skip
    height = -(-len(points) // columns) * (0.21 * len(variants) + 0.95) + 0.7
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


def _better(metric: Metric) -> str:
    return {True: "higher is better", False: "lower is better", None: "closer to the line"}[metric.higher_is_better]


def _dots(ax: Any, study: Study, variants: Sequence[Variant], points: Sequence[Point]) -> None:
    look = looks(study)
    if (target := points[0][2].target) is not None:
        ax.axvline(target, color=MUTED, linewidth=1, linestyle="--")
    tested = [point for point in points if not point[0].is_control] or points
    for variant, cell, metric in tested:
        offset = 0.12 * (study.seeds.index(cell.seed) - (len(study.complete(variant.name)) - 1) / 2)
        draw_dot(ax, metric.value or 0.0, variants.index(variant) + offset, metric.ci, look[variant.name])
    ax.margins(x=0.1)
    low, high = ax.get_xlim()  # of the variants under test: a control shall not squash them
    for variant, _, metric in points:
        if variant.is_control and tested is not points:
            _control(ax, metric, variants.index(variant), (low, high))
    ax.set_xlim(low, high)
    grid(ax, "x")
    ax.locator_params(axis="x", nbins=3)


def _control(ax: Any, metric: Metric, y: float, limits: tuple[float, float]) -> None:
    low, high = limits
    value = metric.value or 0.0
    if low <= value <= high:
        ax.plot([value], [y], "o", color=MUTED, markersize=6)
        return
    is_low = value < low
    ax.annotate(f"◂ {number(value)}" if is_low else f"{number(value)} ▸", (0 if is_low else 1, y),
                xycoords=("axes fraction", "data"), ha="left" if is_low else "right", va="center", color=MUTED,
                fontsize=8)  # fmt: skip
