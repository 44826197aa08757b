"""The plots of image quality: every measure by variant, FID against the number of images, and fine detail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from reports.figures import MUTED, Figure, draw_dot, looks, render, wrapped
from reports.records import Cell, Metric, Study, Variant
from reports.tables import in_order, is_quality

COLUMNS = 5  # panels of one variant each in a row
NORMAL_95 = 1.959964

Point = tuple[Variant, Cell, Metric]


def measures(study: Study) -> Figure | None:
    """A panel a metric and version, a dot a variant and seed."""
    points: dict[tuple[str, str], list[Point]] = {}
    for variant in in_order(study):
        for cell in study.complete(variant.name):
            for name, metric in (cell.record.metrics if cell.record else {}).items():
                if is_quality(name) and metric.value is not None:
                    points.setdefault((name, metric.version), []).append((variant, cell, metric))
    if not points:
        return None
    measured = {variant.name for found in points.values() for variant, *_ in found}
    variants = [variant for variant in in_order(study) if variant.name in measured]
    columns = min(4, len(points))
    rows = -(-len(points) // columns)

    def draw(figure) -> None:
        axes = figure.subplots(rows, columns, sharey=True, squeeze=False).flatten()
        for ax, ((name, _), found) in zip(axes, points.items()):
            _dots(ax, study, variants, found)
            head, bracket, rest = name.partition("[")
            direction = f"{'higher' if found[0][2].higher_is_better else 'lower'} is better"
            ax.set_title(f"{head.rpartition('/')[2]}\n{bracket}{rest}\n{direction}", fontsize=8.5)
        for ax in axes[len(points) :]:
            ax.set_axis_off()
        axes[0].set_yticks(range(len(variants)), [variant.label for variant in variants])
        axes[0].set_ylim(len(variants) - 0.4, -0.6)

    data = [
        {"variant": variant.name, "seed": cell.seed, "metric": name, "value": metric.value,
         "low": metric.ci[0] if metric.ci else None, "high": metric.ci[1] if metric.ci else None,
         "n": metric.n, "version": version}
        for (name, version), found in points.items() for variant, cell, metric in found
    ]  # fmt: skip
    height = rows * (0.27 * len(variants) + 1.05)
    alt = "Panels: " + ", ".join(name for name, _ in points)
    return render("quality", "Image quality and alignment", alt, draw, data, width=11, height=height)


def _dots(ax, study: Study, variants: Sequence[Variant], points: Sequence[Point]) -> None:
    look = looks(study)
    for variant, cell, metric in points:
        offset = 0.12 * (study.seeds.index(cell.seed) - (len(study.complete(variant.name)) - 1) / 2)
        draw_dot(ax, metric.value or 0.0, variants.index(variant) + offset, metric.ci, look[variant.name])
    ax.margins(x=0.08)
    ax.grid(axis="x")
    ax.tick_params(length=0)
    ax.locator_params(axis="x", nbins=4)


def fid_by_size(study: Study) -> Figure | None:
    """FID of random subsets over 1/N, the line through them, and its value for infinitely many images."""
    cells = [cell for cell in study.cells if cell.is_complete and cell.quality.get("fid_by_n")]
    if not cells:
        return None
    look = looks(study)

    def draw_cell(ax, cell: Cell) -> None:
        mine = look[cell.variant]
        xs, ys = [1 / n for n, _ in cell.quality["fid_by_n"]], [fid for _, fid in cell.quality["fid_by_n"]]
        ax.plot(xs, ys, linestyle="none", marker=mine.marker, color=mine.color, markersize=4)
        if limit := cell.quality.get("fid_infinity"):
            # A least-squares line passes through the means.
            slope = (sum(ys) / len(ys) - limit["value"]) / (sum(xs) / len(xs))
            ax.plot([0, max(xs)], [limit["value"], limit["value"] + slope * max(xs)], color=mine.color, linewidth=1.2)
            ax.errorbar([0], [limit["value"]], yerr=[NORMAL_95 * limit["stderr"]], **mine.errorbar())
        sizes = [n for n, _ in cell.quality["fid_by_n"]]
        shown = [max(sizes), min(sizes)]
        ax.set_xticks([0, *(1 / n for n in shown)], ["∞", *map(str, shown)])
        ax.set_xlim(-0.07 * max(xs), 1.07 * max(xs))

    data: list[dict[str, Any]] = [
        {"variant": cell.variant, "seed": cell.seed, "metric": _fid_name(cell), "n": n, "fid": fid, "stderr": None}
        for cell in cells for n, fid in cell.quality["fid_by_n"]
    ]  # fmt: skip
    limits = [(cell, cell.quality["fid_infinity"]) for cell in cells if cell.quality.get("fid_infinity")]
    data += [
        {"variant": cell.variant, "seed": cell.seed, "metric": _fid_name(cell), "n": "infinite",
         "fid": limit["value"], "stderr": limit["stderr"]} for cell, limit in limits
    ]  # fmt: skip
    names = ", ".join(dict.fromkeys(row["metric"] for row in data))
    alt = f"{names} against N. For infinite N: "
    alt += "; ".join(f"{cell.name} {limit['value']:.4g}" for cell, limit in limits)
    label = f"{names} over the number of images N, spaced as 1/N; ∞: where the line ends, with 95 % interval of the fit"
    return _panels(study, cells, draw_cell, data, name="fid_by_n", title="FID against N", alt=alt, label=label)


def detail(study: Study) -> Figure | None:
    """How much of the reference's power the images have at each frequency."""
    cells = [cell for cell in study.cells if cell.is_complete and cell.quality.get("spectrum")]
    if not cells:
        return None
    look = looks(study)
    data = [
        {"variant": cell.variant, "seed": cell.seed, "frequency": frequency, "power": power, "reference": reference}
        for cell in cells
        for frequency, power, reference in zip(
            *(cell.quality["spectrum"][key] for key in ("frequencies", "generated", "reference")), strict=True
        )
    ]
    whole = [row for row in data if row["power"] > 0 and row["reference"] > 0]

    def draw_cell(ax, cell: Cell) -> None:
        mine = look[cell.variant]
        rows = [row for row in whole if (row["variant"], row["seed"]) == (cell.variant, cell.seed)]
        ratios = [row["power"] / row["reference"] for row in rows]
        ax.plot([row["frequency"] for row in rows], ratios, color=mine.color, linestyle=mine.line, linewidth=1.6)
        ax.axhline(1, color=MUTED, linewidth=0.8)
        ax.set_yscale("log", base=2)
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g} ×")
        ax.set_xlim(0, 0.5)
        ax.set_xticks([0, 0.25, 0.5], ["0", "¼", "½"])

    label = "power relative to the reference's (1: equal) over cycles per pixel; spectrum_gap is of the right half"
    alt = "Power spectra relative to the reference of " + ", ".join(cell.name for cell in cells)
    return _panels(study, cells, draw_cell, data, name="detail", title="Fine detail", alt=alt, label=label, sharey=True)


def _panels(
    study: Study,
    cells: Sequence[Cell],
    draw_cell: Callable[[Any, Cell], None],
    data: Sequence[dict[str, Any]],
    *,
    name: str,
    title: str,
    alt: str,
    label: str,
    sharey: bool = False,
) -> Figure:
    """A panel a variant, all its seeds in it."""
    variants = [variant for variant in in_order(study) if any(cell.variant == variant.name for cell in cells)]
    columns = min(COLUMNS, len(variants))
    rows = -(-len(variants) // columns)

    def draw(figure) -> None:
        axes = figure.subplots(rows, columns, sharey=sharey, squeeze=False).flatten()
        for ax, variant in zip(axes, variants):
            for cell in cells:
                if cell.variant == variant.name:
                    draw_cell(ax, cell)
            ax.set_title(wrapped(variant.label, 110 // columns), fontsize=9.5)
            ax.grid(axis="y")
            ax.tick_params(length=0)
        for ax in axes[len(variants) :]:
            ax.set_axis_off()
        figure.supxlabel(label, fontsize=8.5, color=MUTED)

    return render(name, title, alt, draw, data, width=11, height=1.75 * rows + 0.4)


def _fid_name(cell: Cell) -> str:
    names = cell.record.metrics if cell.record else {}
    return next((name for name in names if name.startswith("fid[")), "FID")
