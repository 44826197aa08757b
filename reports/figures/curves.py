"""Smoothed curves of training, and their names at the right end."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports.figures.figure import Figure, grid, note, render
from reports.figures.looks import Look, looks
from reports.records.cell import Cell
from reports.records.study import Study
from reports.words import shortened

MAX_LABELS = 16  # of curves
MAX_POINTS = 400  # of one curve in a plot and in the CSV behind it

Ends = dict[str, tuple[float, Look]]  # label -> (height of the curve's end, look)


def training(study: Study) -> Figure | None:
    """Training loss over samples seen, smoothed; cells that share a base model share its curve."""
    cells = _distinct([cell for cell in study.cells if len(thinned(cell.training, "samples", "loss")) > 1])
    if not cells:
        return None
    curves = {cell.name: thinned(cell.training, "samples", "loss") for cell in cells}
    data = [
        {"cell": name, "samples": row["samples"], "loss": row["loss"], "smoothed": smooth}
        for name, curve in curves.items() for row, smooth in curve
    ]  # fmt: skip

    def draw(figure: Any) -> None:
        ax, ends = figure.subplots(), Ends()
        for cell in cells:
            look = looks(study)[cell.variant]
            _draw_curve(ax, [row for row in data if row["cell"] == cell.name], look)
            ends.setdefault(study.variant(cell.variant).label, (curves[cell.name][-1][1], look))
        settled = sorted(row["smoothed"] for row in data)
        low, high = settled[0], settled[int(0.97 * (len(settled) - 1))]
        ax.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low) + 1e-9)
        label_ends(ax, dict(list(ends.items())[:MAX_LABELS]), gap=0.055)
        if len(ends) > MAX_LABELS:
            note(figure, f"the first {MAX_LABELS} of {len(ends)} variants are named; the table beside has all")
        ax.set_xlabel("training samples seen")
        ax.set_ylabel("loss (smoothed)")
        ax.xaxis.set_major_formatter(_thousands)
        grid(ax, "y")

    alt = "Final loss: " + "; ".join(f"{name} {curve[-1][1]:.3f}" for name, curve in curves.items())
    return render("training", "Training curves", alt, draw, data, height=3.6)


def _draw_curve(ax: Any, rows: Sequence[Mapping[str, Any]], look: Look) -> None:
    xs = [row["samples"] for row in rows]
    ax.plot(xs, [row["loss"] for row in rows], color=look.color, linewidth=0.6, alpha=0.2)
    ax.plot(xs, [row["smoothed"] for row in rows], color=look.color, linestyle=look.line, linewidth=1.6)


def thinned(
    rows: Sequence[Mapping[str, Any]], x: str, key: str, most: int = MAX_POINTS
) -> list[tuple[Mapping[str, Any], float]]:
    """At most `most` rows that have `x` and `key`, each with its running mean over a fiftieth of the curve."""
    given = [row for row in rows if isinstance(row.get(x), (int, float)) and isinstance(row.get(key), (int, float))]
    weight = min(1.0, 50 / max(len(given), 1))
    mean, means = 0.0, []
    for number, row in enumerate(given, 1):
        mean += (row[key] - mean) * max(weight, 1 / number)
        means.append(mean)
    step = -(-len(given) // most) or 1
    return [(given[i], means[i]) for i in range((len(given) - 1) % step, len(given), step)]


def label_ends(ax: Any, ends: Ends, *, gap: float) -> None:
    """Each curve's name at its right end, moved up or down until no two touch."""
    low, high = ax.get_ylim()
    order = sorted(ends.items(), key=lambda item: item[1][0])
    places = [(y - low) / (high - low) for _, (y, _) in order]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + gap)
    shift = max(0.0, places[-1] - 1.0)
    for (label, (_, look)), place in zip(order, places):
        ax.annotate(shortened(label, 52), (1.0, place - shift), xycoords="axes fraction", xytext=(6, 0),
                    textcoords="offset points", va="center", color=look.color, fontsize=8.5)  # fmt: skip


def _distinct(cells: Sequence[Cell]) -> list[Cell]:
    """The first cell of each distinct curve."""
    found: list[Cell] = []
    for cell in cells:
        if not any((cell.seed, cell.training) == (other.seed, other.training) for other in found):
            found.append(cell)
    return found


def _thousands(value: float, _position: int) -> str:
    return f"{value / 1e6:g} M" if value >= 1e6 else f"{value / 1e3:g} k" if value >= 1e3 else f"{value:g}"
