"""Plots with a row for each variant: FID against the number of images, and fine detail by frequency."""

from collections.abc import Sequence
from typing import Any

from reports.figures.figure import CARD, MUTED, Figure, grid, list_down, render
from reports.figures.looks import Look, draw_dot, key, looks
from reports.records.cell import SPECTRUM, Cell
from reports.records.study import Study, Variant
from reports.words import metric_name

NORMAL_95 = 1.959964
WIDEST = 2.0  # powers of two that the colors of the spectra reach


def fid_by_size(study: Study) -> Figure | None:
    """FID of random subsets, from few images to many, and its value for infinitely many, all on one scale."""
    cells = [cell for cell in study.complete() if cell.quality.get("fid_by_n")]
    if not cells:
        return None
    data = [row for cell in cells for row in _sizes(cell)] + [row for cell in cells for row in _limits(cell)]
    name = _fid_name(cells[0])
    limits = [(cell, cell.quality["fid_infinity"]) for cell in cells if cell.quality.get("fid_infinity")]
    alt = f"{name} against N. For infinite N: "
    alt += "; ".join(f"{cell.name} {limit['value']:.4g}" for cell, limit in limits)
    variants = _of(study, cells)
    sizes = [n for cell in cells for n, _ in cell.quality["fid_by_n"]]

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        for cell in cells:
            _draw_sizes(ax, cell, _row(study, variants, cell), looks(study)[cell.variant])
        list_down(ax, [variant.label for variant in variants])
        ax.set_xlabel(
            f"{', '.join(metric_name(name))}; a line a seed: small dots from {min(sizes)} to {max(sizes)} images,\n"
            "large: where their line over 1/N ends, with the error of the fit",
            fontsize=8.5,
        )
        grid(ax, "x")
        key(figure, study)

    return render("fid_by_n", "FID against N", alt, draw, data, height=0.34 * len(variants) + 1.2)


def _of(study: Study, cells: Sequence[Cell]) -> list[Variant]:
    measured = {cell.variant for cell in cells}
    return [variant for variant in study.variants_in_order() if variant.name in measured]


def _row(study: Study, variants: Sequence[Variant], cell: Cell) -> float:
    """The height of a seed's line within its variant's row."""
    names, own = [variant.name for variant in variants], study.complete(cell.variant)
    place = [other.seed for other in own].index(cell.seed)
    return names.index(cell.variant) + 0.7 * ((place + 0.5) / len(own) - 0.5)


def _sizes(cell: Cell) -> list[dict[str, Any]]:
    row = {"variant": cell.variant, "seed": cell.seed, "metric": _fid_name(cell)}
    return [{**row, "n": n, "fid": fid, "stderr": None} for n, fid in cell.quality["fid_by_n"]]


def _limits(cell: Cell) -> list[dict[str, Any]]:
    limit = cell.quality.get("fid_infinity")
    row = {"variant": cell.variant, "seed": cell.seed, "metric": _fid_name(cell), "n": "infinite"}
    return [{**row, "fid": limit["value"], "stderr": limit["stderr"]}] if limit else []


def _fid_name(cell: Cell) -> str:
    return next((name for name in cell.metrics if name.startswith("fid[")), "fid")


def _draw_sizes(ax: Any, cell: Cell, y: float, look: Look) -> None:
    values = [fid for _, fid in sorted(cell.quality["fid_by_n"])]
    limit = cell.quality.get("fid_infinity")
    ends = [*values, *([limit["value"]] if limit else [])]
    ax.plot([min(ends), max(ends)], [y, y], color=look.color, linewidth=0.6, alpha=0.5)
    ax.scatter(values, [y] * len(values), s=[3 + 9 * i / len(values) for i in range(len(values))], color=look.color,
               linewidths=0)  # fmt: skip
    if limit:
        half = NORMAL_95 * (limit["stderr"] or 0.0)
        draw_dot(ax, limit["value"], y, (limit["value"] - half, limit["value"] + half), look)


def detail(study: Study) -> Figure | None:
    """How much of the reference's power the images have at each frequency, seeds averaged."""
    cells = [cell for cell in study.complete() if cell.quality.get("spectrum")]
    if not cells:
        return None
    data = [
        {"variant": cell.variant, "seed": cell.seed, "frequency": frequency, "power": power, "reference": reference}
        for cell in cells
        for frequency, power, reference in _spectrum(cell)
    ]
    alt = "Power spectra relative to the reference of " + ", ".join(cell.name for cell in cells)
    variants = _of(study, cells)
    most = max(len(_spectrum(cell)) for cell in cells)
    rows = [_ratios([cell for cell in cells if cell.variant == variant.name], most) for variant in variants]

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        ax.set_facecolor(CARD)
        image = ax.imshow(rows, aspect="auto", cmap="PuOr_r", vmin=-WIDEST, vmax=WIDEST, interpolation="nearest",
                          extent=(0, 0.5, len(rows) - 0.5, -0.5))  # fmt: skip
        list_down(ax, [variant.label for variant in variants])
        ax.set_xlabel("cycles per pixel; the spectrum gap is of the right half", fontsize=8.5)
        ax.axvline(0.25, color=MUTED, linewidth=0.8)
        ax.tick_params(length=0)
        bar = figure.colorbar(image, ax=ax, ticks=[-2, -1, 0, 1, 2], shrink=0.9, pad=0.01)
        bar.ax.set_yticklabels(["¼ or less", "½", "equal", "2 ×", "4 × or more"])
        bar.set_label("power against the reference's", fontsize=8.5)

    return render("detail", "Fine detail", alt, draw, data, height=0.24 * len(variants) + 1.0)


def _spectrum(cell: Cell) -> list[tuple[float, float, float]]:
    frequencies, powers, references = (cell.quality["spectrum"][key] for key in SPECTRUM)
    return list(zip(frequencies, powers, references))


def _ratios(cells: Sequence[Cell], most: int) -> list[float]:
    """The mean over seeds of log2 of power over the reference's, at each frequency; NaN where one is 0."""
    import numpy as np

    found = np.full((len(cells), most), np.nan)
    for row, cell in zip(found, cells):
        for place, (_, power, reference) in enumerate(_spectrum(cell)):
            if power > 0 and reference > 0:
                row[place] = np.log2(power / reference)
    known = ~np.isnan(found).all(0)
    means = np.full(most, np.nan)
    means[known] = np.nanmean(found[:, known], axis=0)
    return [float(value) for value in means]
