"""Plots with a small panel for each variant, all its seeds in it: FID against the number of images, and fine detail."""

from collections.abc import Callable, Sequence
from typing import Any

from reports.figures.figure import MUTED, Figure, grid, note, panels, render, wrapped
from reports.figures.looks import Look, looks
from reports.records.cell import SPECTRUM, Cell
from reports.records.study import Study

COLUMNS = 5
NORMAL_95 = 1.959964


def fid_by_size(study: Study) -> Figure | None:
    """FID of random subsets over 1/N, the line through them, and its value for infinitely many images."""
    cells = [cell for cell in study.complete() if cell.quality.get("fid_by_n")]
    if not cells:
        return None
    data = [row for cell in cells for row in _sizes(cell)] + [row for cell in cells for row in _limits(cell)]
    names = ", ".join(dict.fromkeys(row["metric"] for row in data))
    limits = [(cell, cell.quality["fid_infinity"]) for cell in cells if cell.quality.get("fid_infinity")]
    alt = f"{names} against N. For infinite N: "
    alt += "; ".join(f"{cell.name} {limit['value']:.4g}" for cell, limit in limits)
    label = f"{names} over the number of images N, spaced as 1/N; ∞: where the line ends"
    return _by_variant(study, cells, _draw_sizes, data, name="fid_by_n", title="FID against N", alt=alt, label=label)


def _sizes(cell: Cell) -> list[dict[str, Any]]:
    row = {"variant": cell.variant, "seed": cell.seed, "metric": _fid_name(cell)}
    return [{**row, "n": n, "fid": fid, "stderr": None} for n, fid in cell.quality["fid_by_n"]]


def _limits(cell: Cell) -> list[dict[str, Any]]:
    limit = cell.quality.get("fid_infinity")
    row = {"variant": cell.variant, "seed": cell.seed, "metric": _fid_name(cell), "n": "infinite"}
    return [{**row, "fid": limit["value"], "stderr": limit["stderr"]}] if limit else []


def _fid_name(cell: Cell) -> str:
    return next((name for name in cell.metrics if name.startswith("fid[")), "FID")


def _draw_sizes(ax: Any, cell: Cell, look: Look) -> None:
    xs, ys = [1 / n for n, _ in cell.quality["fid_by_n"]], [fid for _, fid in cell.quality["fid_by_n"]]
    ax.plot(xs, ys, linestyle="none", marker=look.marker, color=look.color, markersize=4)
    if limit := cell.quality.get("fid_infinity"):
        # A least-squares line passes through the means.
        slope = (sum(ys) / len(ys) - limit["value"]) / (sum(xs) / len(xs))
        ax.plot([0, max(xs)], [limit["value"], limit["value"] + slope * max(xs)], color=look.color, linewidth=1.2)
        error = None if limit["stderr"] is None else [NORMAL_95 * limit["stderr"]]
        ax.errorbar([0], [limit["value"]], yerr=error, **look.errorbar())
    sizes = [n for n, _ in cell.quality["fid_by_n"]]
    shown = [max(sizes), min(sizes)]
    ax.set_xticks([0, *(1 / n for n in shown)], ["∞", *map(str, shown)])
    ax.set_xlim(-0.07 * max(xs), 1.07 * max(xs))


def detail(study: Study) -> Figure | None:
    """How much of the reference's power the images have at each frequency."""
    cells = [cell for cell in study.complete() if cell.quality.get("spectrum")]
    if not cells:
        return None
    data = [
        {"variant": cell.variant, "seed": cell.seed, "frequency": frequency, "power": power, "reference": reference}
        for cell in cells
        for frequency, power, reference in _spectrum(cell)
    ]
    label = "power relative to the reference's (1: equal) over cycles per pixel; spectrum_gap is of the right half"
    alt = "Power spectra relative to the reference of " + ", ".join(cell.name for cell in cells)
    words = {"name": "detail", "title": "Fine detail", "alt": alt, "label": label}
    return _by_variant(study, cells, _draw_spectrum, data, sharey=True, **words)


def _spectrum(cell: Cell) -> list[tuple[float, float, float]]:
    frequencies, powers, references = (cell.quality["spectrum"][key] for key in SPECTRUM)
    return list(zip(frequencies, powers, references))


def _draw_spectrum(ax: Any, cell: Cell, look: Look) -> None:
    rows = [row for row in _spectrum(cell) if row[1] > 0 and row[2] > 0]
    ratios = [power / reference for _, power, reference in rows]
    ax.plot([row[0] for row in rows], ratios, color=look.color, linestyle=look.line, linewidth=1.6)
    ax.axhline(1, color=MUTED, linewidth=0.8)
    ax.set_yscale("log", base=2)
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g} ×")
    ax.set_xlim(0, 0.5)
    ax.set_xticks([0, 0.25, 0.5], ["0", "¼", "½"])


def _by_variant(
    study: Study,
    cells: Sequence[Cell],
    draw_cell: Callable[[Any, Cell, Look], None],
    data: Sequence[dict[str, Any]],
    *,
    name: str,
    title: str,
    alt: str,
    label: str,
    sharey: bool = False,
) -> Figure:
    measured = {cell.variant for cell in cells}
    variants = [variant for variant in study.variants_in_order() if variant.name in measured]
    columns = min(COLUMNS, len(variants))

    def draw(figure: Any) -> None:
        for ax, variant in zip(panels(figure, len(variants), columns, sharey=sharey), variants):
            for cell in (cell for cell in cells if cell.variant == variant.name):
                draw_cell(ax, cell, looks(study)[variant.name])
            ax.set_title(wrapped(variant.label, 110 // columns), fontsize=9.5)
            grid(ax, "y")
        note(figure, label)

    return render(name, title, alt, draw, data, height=1.75 * -(-len(variants) // columns) + 0.4)
