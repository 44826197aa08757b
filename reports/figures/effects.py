"""Each contrast on all prompts, by split and by task, against its smallest effect of interest."""

from collections.abc import Sequence
from typing import Any

from reports.figures.figure import GRID, MUTED, PALETTE, Figure, grid, list_down, note, panels, render, wrapped
from reports.figures.looks import Look, draw_dot
from reports.tables.table import bounds
from reports.verdicts import Verdict
from reports.words import OVERALL, part_label

MAX_EFFECTS = 6  # contrasts drawn; the table has them all
Part = tuple[str, str]


def effects(verdicts: Sequence[Verdict]) -> Figure | None:
    """A panel a contrast; None where no contrast has parts."""
    shown = [verdict for verdict in verdicts if verdict.difference.parts][:MAX_EFFECTS]
    if not shown:
        return None
    parts = list(dict.fromkeys(key for verdict in shown for key in verdict.difference.parts))
    columns = min(3 if len(shown) > 4 else 2, len(shown))

    def draw(figure: Any) -> None:
        axes = panels(figure, len(shown), columns, sharey=True, sharex=True)
        for ax, verdict in zip(axes, shown):
            _panel(ax, verdict, parts, 104 // columns)
        list_down(axes[0], [part_label(*key) for key in parts])
        low, high = axes[0].get_xlim()
        axes[0].set_xlim(max(low, -1.05), min(high, 1.05))
        note(figure, "difference with 95 % interval; shaded: too small to matter")

    data = [
        {"contrast": verdict.contrast.name, "split": split or "all", "task": task, "effect": part.effect,
         **bounds(part.ci)}
        for verdict in shown for (split, task), part in verdict.difference.parts.items()
    ]  # fmt: skip
    alt = "; ".join(f"{v.contrast.label}: {v.outcome}, {v.difference.effect:+.3f}" for v in shown)
    height = -(-len(shown) // columns) * (0.25 * len(parts) + 0.9) + 0.3
    return render("effects", "Where the effects come from", alt, draw, data, height=height)


def _panel(ax: Any, verdict: Verdict, parts: Sequence[Part], width: int) -> None:
    ax.axvspan(0, verdict.contrast.smallest_effect, color=GRID, alpha=0.7, linewidth=0)
    ax.axvline(0, color=MUTED, linewidth=1)
    for y, key in enumerate(parts):
        if part := verdict.difference.parts.get(key):
            is_whole = key == ("", OVERALL)
            look = Look(PALETTE[0] if key[0] or is_whole else MUTED, is_filled=is_whole)
            draw_dot(ax, part.effect or 0.0, y, part.ci, look)
    ax.set_title(f"{wrapped(verdict.contrast.label, width)}\n{verdict.outcome}")
    grid(ax, "x")
