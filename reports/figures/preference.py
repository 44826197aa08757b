"""Preference training: drift of winners and losers, implicit accuracy and loss over steps."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports.figures.curves import MAX_POINTS, thinned
from reports.figures.figure import MUTED, PALETTE, Figure, grid, note, panels, render, wrapped
from reports.figures.looks import looks
from reports.records.cell import Cell
from reports.records.study import Study

COLUMNS = 5  # panels of one variant each in a row
TITLES = {"drift": "drift of the squared error", "accuracy": "implicit accuracy", "loss": "preference loss"}

Rows = Sequence[Mapping[str, Any]]


def preference(study: Study) -> Figure | None:
    """A panel a quantity; of many variants the drift alone, a panel each: many lines would not be told apart."""
    cells = [cell for cell in study.cells if len(cell.preference) > 1]
    fields = list(dict.fromkeys(key for cell in cells for row in cell.preference for key in row if _panel(key)))
    if not fields:
        return None
    alt = "Preference training of " + ", ".join(cell.name for cell in cells)
    is_crowded = len({cell.variant for cell in cells}) > len(PALETTE)
    if is_crowded:
        fields = [key for key in fields if _panel(key) == "drift"]
    data = _rows(cells, fields, MAX_POINTS // 4 if is_crowded else MAX_POINTS)
    height = 1.75 * -(-len({cell.variant for cell in cells}) // COLUMNS) + 0.4 if is_crowded else 3.6
    drawn = _by_variant if is_crowded else _by_quantity
    return render("preference", "Preference training", alt, lambda figure: drawn(figure, study, data), data,
                  height=height)  # fmt: skip


def _rows(cells: Sequence[Cell], fields: Sequence[str], most: int) -> list[dict[str, Any]]:
    return [
        {"cell": cell.name, "field": key, "step": row["step"], "value": row[key], "smoothed": smooth}
        for cell in cells for key in fields
        for row, smooth in thinned(cell.preference, "step", key, most)
    ]  # fmt: skip


def _panel(key: str) -> str:
    """The panel that a logged field belongs to, by its last word; "" for those not shown."""
    return next((panel for panel in TITLES if key == panel or key.endswith(f"_{panel}")), "")


def _by_variant(figure: Any, study: Study, data: Rows) -> None:
    names = {row["cell"] for row in data}
    variants = [v for v in study.variants if any(cell.name in names for cell in study.complete(v.name))]
    axes = panels(figure, len(variants), COLUMNS, sharex=True, sharey=True)
    for ax, variant in zip(axes, variants):
        for cell in study.complete(variant.name):
            for key in dict.fromkeys(row["field"] for row in data):
                _line(ax, data, cell, key, color=PALETTE[1 if "loser" in key else 0], linestyle="-")
        ax.set_title(wrapped(variant.label, 26), fontsize=8.5)
        _finish(ax, "drift")
    figure.supylabel("drift of the squared error; blue: winners, orange: losers", fontsize=8.5, color=MUTED)
    note(figure, "step")


def _by_quantity(figure: Any, study: Study, data: Rows) -> None:
    fields = list(dict.fromkeys(row["field"] for row in data))
    shown = [panel for panel in TITLES if any(_panel(key) == panel for key in fields)]
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    for ax, panel in zip(axes, shown):
        keys = [key for key in fields if _panel(key) == panel]
        for cell in (cell for cell in study.complete() if cell.preference):
            _quantity(ax, study, data, cell, keys)
        ax.set_title(TITLES[panel] + ("\nsolid: winner, dashed: loser" if len(keys) > 1 else "\n"))
        ax.set_xlabel("step")
        _finish(ax, panel)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)


def _quantity(ax: Any, study: Study, data: Rows, cell: Cell, keys: Sequence[str]) -> None:
    for key in keys:
        style = looks(study)[cell.variant].line if len(keys) == 1 else ("--" if "loser" in key else "-")
        is_named = key == keys[0] and cell.seed == study.seeds[0]
        label = study.variant(cell.variant).label if is_named else None
        _line(ax, data, cell, key, color=_shade(study, cell), linestyle=style, label=label)


def _line(ax: Any, data: Rows, cell: Cell, key: str, **look: Any) -> None:
    rows = [row for row in data if row["cell"] == cell.name and row["field"] == key]
    if rows:
        ax.plot([row["step"] for row in rows], [row["smoothed"] for row in rows], linewidth=1.6, **look)


def _finish(ax: Any, panel: str) -> None:
    if panel != "loss":
        ax.axhline(0.5 if panel == "accuracy" else 0.0, color=MUTED, linewidth=0.8)
    grid(ax, "y")


def _shade(study: Study, cell: Cell) -> str:
    """A color of its own for each variant with preference training: line styles are taken."""
    names = list(dict.fromkeys(c.variant for c in study.cells if c.preference))
    return PALETTE[names.index(cell.variant) % len(PALETTE)]
