"""Preference training: drift of winners and losers, implicit accuracy and loss over steps, a column a variant."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports.figures.curves import MAX_POINTS, thinned
from reports.figures.figure import MUTED, Figure, grid, note, panels, render, wrapped
from reports.figures.looks import Look, looks
from reports.records.cell import Cell
from reports.records.study import Study, Variant

COLUMNS = 5  # variants in a row
TITLES = {"drift": "drift of the squared error", "accuracy": "implicit accuracy", "loss": "preference loss"}

Rows = Sequence[Mapping[str, Any]]


def preference(study: Study) -> Figure | None:
    """A row a quantity, a column a variant, on one scale; of many variants the drift alone."""
    cells = [cell for cell in study.cells if len(cell.preference) > 1]
    fields = list(dict.fromkeys(key for cell in cells for row in cell.preference for key in row if _panel(key)))
    if not fields:
        return None
    names = {cell.variant for cell in cells}
    variants = [variant for variant in study.variants if variant.name in names]
    is_crowded = len(variants) > COLUMNS
    if is_crowded:
        fields = [key for key in fields if _panel(key) == "drift"] or fields[:1]
    shown = [panel for panel in TITLES if any(_panel(key) == panel for key in fields)]
    data = _rows(cells, fields, MAX_POINTS // 4)

    def draw(figure: Any) -> None:
        if is_crowded:
            axes = [panels(figure, len(variants), COLUMNS, sharex=True, sharey=True)]
        else:
            axes = list(figure.subplots(len(shown), len(variants), squeeze=False, sharex=True, sharey="row"))
        for line, panel in zip(axes, shown):
            for ax, variant in zip(line, variants):
                _draw(ax, study, variant, [row for row in data if _panel(row["field"]) == panel])
                _finish(ax, panel)
            line[0].set_ylabel(TITLES[panel], fontsize=8.5)
        for ax, variant in zip(axes[0], variants):
            ax.set_title(wrapped(variant.label, 27), fontsize=8.5)
        note(figure, "step; solid: winners and what is not of one side, dashed: losers")

    lines = -(-len(variants) // COLUMNS) if is_crowded else len(shown)
    alt = "Preference training of " + ", ".join(cell.name for cell in cells)
    return render("preference", "Preference training", alt, draw, data, height=1.6 * lines + 0.6)


def _rows(cells: Sequence[Cell], fields: Sequence[str], most: int) -> list[dict[str, Any]]:
    return [
        {"variant": cell.variant, "cell": cell.name, "field": key, "step": row["step"], "value": row[key],
         "smoothed": smooth}
        for cell in cells for key in fields
        for row, smooth in thinned(cell.preference, "step", key, most)
    ]  # fmt: skip


def _panel(key: str) -> str:
    """The panel that a logged field belongs to, by its last word; "" for those not shown."""
    return next((panel for panel in TITLES if key == panel or key.endswith(f"_{panel}")), "")


def _draw(ax: Any, study: Study, variant: Variant, data: Rows) -> None:
    curves: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in (row for row in data if row["variant"] == variant.name):
        curves.setdefault((row["cell"], row["field"]), []).append(row)
    for (_, field), rows in curves.items():
        _line(ax, rows, "loser" in field, looks(study)[variant.name])


def _line(ax: Any, rows: Rows, is_loser: bool, look: Look) -> None:
    ax.plot([row["step"] for row in rows], [row["smoothed"] for row in rows], color=look.color, linewidth=1.3,
            linestyle="--" if is_loser else "-")  # fmt: skip


def _finish(ax: Any, panel: str) -> None:
    if panel != "loss":
        ax.axhline(0.5 if panel == "accuracy" else 0.0, color=MUTED, linewidth=0.8)
    grid(ax, "y")
    ax.locator_params(axis="both", nbins=4)
