"""The plots of a study, each with the rows behind it.

One visual grammar throughout: color is the level of the interaction's column factor (diversity), marker and line style
that of its row factor (volume), a filled marker the first level of the remaining factors (no preference training).
Bytes are the same for the same records. The palette is Okabe and Ito's, which color-blind readers can tell apart.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports.contrasts import OVERALL, Answer, Estimate, Scores
from reports.formats import to_csv
from reports.records import Study, Variant
from reports.tables import in_order, part_label, pretty

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
INK, MUTED, GRID, CARD = "#24292f", "#6e7781", "#d8dee4", "#fefefe"
MARKERS = ("o", "s", "^", "D", "v", "P")
MAX_EFFECTS = 6  # contrasts drawn; the table has them all
LINES = ("-", "--", ":", "-.")

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "svg.fonttype": "none",
    # Labels come from records: a dollar sign in one is a dollar sign.
    "text.parse_math": False,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A plot as bytes, and the rows behind it."""

    name: str
    title: str
    alt: str  # what a reader who cannot see it should know
    svg: str
    png: bytes
    data: Sequence[Mapping[str, Any]]

    def write(self, folder: Path) -> None:
        """`folder`/NAME.svg, .png and .csv."""
        (folder / f"{self.name}.svg").write_text(self.svg, encoding="utf-8", newline="\n")
        (folder / f"{self.name}.png").write_bytes(self.png)
        (folder / f"{self.name}.csv").write_text(to_csv(self.data), encoding="utf-8", newline="\n")


@dataclass(frozen=True)
class Look:
    """How a variant is drawn."""

    color: str
    marker: str
    line: str
    is_filled: bool

    def errorbar(self) -> dict[str, Any]:
        face = self.color if self.is_filled else CARD
        return {"color": self.color, "marker": self.marker, "markerfacecolor": face, "markeredgecolor": self.color,
                "markersize": 6, "markeredgewidth": 1.4, "elinewidth": 1.8, "capsize": 0}  # fmt: skip


def looks(study: Study) -> dict[str, Look]:
    """The look of each variant; without an interaction the first factor gives the color."""
    tested = [variant for variant in study.variants if not variant.is_control]
    factors = list(dict.fromkeys(factor for variant in tested for factor in variant.factors))
    column = study.interaction.get("columns") or (factors[0] if factors else "")
    row = study.interaction.get("rows", "")
    others = [factor for factor in factors if factor not in (column, row)]
    first = {factor: levels(study, factor)[0] for factor in others}
    found = {}
    for variant in study.variants:
        color = PALETTE[_level(study, variant, column) % len(PALETTE)] if not variant.is_control else MUTED
        place = _level(study, variant, row)
        is_filled = all(variant.factors.get(factor, first[factor]) == first[factor] for factor in others)
        found[variant.name] = Look(color, MARKERS[place % len(MARKERS)], LINES[place % len(LINES)], is_filled)
    return found


def levels(study: Study, factor: str) -> list[str]:
    """A factor's levels in the order in which the variants name them."""
    return list(dict.fromkeys(variant.factors[factor] for variant in study.variants if factor in variant.factors))


def _level(study: Study, variant: Variant, factor: str) -> int:
    return levels(study, factor).index(variant.factors[factor]) if factor in variant.factors else 0


def geneval(study: Study, scores: Scores) -> Figure:
    """GenEval by task: a panel a task, a dot and its interval a variant."""
    tasks = list(dict.fromkeys(task for _, split, task in scores if split == ""))
    panels = [(pretty(task), "", task) for task in tasks]
    title = "GenEval by task"
    return _intervals(study, scores, "geneval", title, panels, columns=4)


def splits(study: Study, scores: Scores) -> Figure:
    """GenEval overall by prompt split: a panel a split."""
    present = [(label, name) for name, label in study.splits if any(split == name for _, split, _ in scores)]
    panels = [("all prompts", "", OVERALL)]
    panels += [(f"{name}\n{wrapped(label, 28)}" if label != name else name, name, OVERALL) for label, name in present]
    return _intervals(study, scores, "splits", "GenEval overall by prompt split", panels, columns=4)


def _intervals(
    study: Study, scores: Scores, name: str, title: str, panels: list[tuple[str, str, str]], *, columns: int
) -> Figure:
    variants = [v for v in in_order(study) if any((v.name, split, task) in scores for _, split, task in panels)]
    look = looks(study)
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)

    def draw(figure) -> None:
        axes = figure.subplots(rows, columns, sharey=True, squeeze=False).flatten()
        for ax, (heading, split, task) in zip(axes, panels):
            for y, variant in enumerate(variants):
                if estimate := scores.get((variant.name, split, task)):
                    draw_dot(ax, estimate.value, y, estimate.ci, look[variant.name])
            _score_axis(ax, heading)
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
        if len(axes) > len(panels):
            _key(axes[-1], study)
        axes[0].set_yticks(range(len(variants)), [variant.label for variant in variants])
        axes[0].set_ylim(len(variants) - 0.4, -0.6)
        if any(variant.is_control for variant in variants):
            boundary = next(y for y, variant in enumerate(variants) if variant.is_control) - 0.5
            for ax in axes[: len(panels)]:
                ax.axhline(boundary, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))

    data = [_row(variant.name, split, task, scores) for variant in variants for _, split, task in panels
            if (variant.name, split, task) in scores]  # fmt: skip
    height = rows * (0.27 * len(variants) + 0.85)
    return render(name, title, _words(title, data), draw, data, width=11, height=height)


def _key(ax, study: Study) -> None:
    """What color, marker and filling mean, in the free corner."""
    from matplotlib.lines import Line2D

    tested = [variant for variant in study.variants if not variant.is_control]
    look = looks(study)
    handles: dict[str, Any] = {}
    for variant in tested:
        for factor, level in variant.factors.items():
            mine = look[variant.name]
            if factor == study.interaction.get("columns"):
                style: dict[str, Any] = {"color": mine.color, "marker": "o"}
            elif factor == study.interaction.get("rows"):
                style = {"color": MUTED, "marker": mine.marker}
            else:
                style = {"color": MUTED, "marker": "o", "markerfacecolor": MUTED if mine.is_filled else CARD}
            handles.setdefault(f"{factor}: {level}", Line2D([], [], linestyle="none", markersize=6, **style))
    factors = list(dict.fromkeys(factor for variant in tested for factor in variant.factors))
    names = sorted(handles, key=lambda name: factors.index(name.split(": ")[0]))
    if study.interaction and len(names) <= 8:
        ax.legend([handles[name] for name in names], names, loc="center left")


def draw_dot(ax, value: float, y: float, ci: tuple[float, float] | None, look: Look) -> None:
    error = None if ci is None else [[max(value - ci[0], 0)], [max(ci[1] - value, 0)]]
    ax.errorbar([value], [y], xerr=error, linestyle="none", **look.errorbar())


def _score_axis(ax, heading: str) -> None:
    ax.set_title(heading)
    ax.set_xlim(-0.03, 1.03)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
    ax.grid(axis="x")
    ax.tick_params(length=0)


def _row(variant: str, split: str, task: str, scores: Scores) -> dict:
    estimate = scores[variant, split, task]
    low, high = estimate.ci or (None, None)
    row = {"variant": variant, "split": split or "all", "task": task, "value": estimate.value, "low": low, "high": high}
    return {**row, "images": estimate.n, "prompts": estimate.prompts, "seeds": estimate.seeds}


def _words(title: str, data: Sequence[Mapping[str, Any]]) -> str:
    shown = [row for row in data if row["split"] == "all" and row["task"] == OVERALL]
    return f"{title}. Overall: " + "; ".join(f"{row['variant']} {row['value']:.2f}" for row in shown)


def effects(study: Study, answers: Sequence[Answer]) -> Figure | None:
    """Each contrast on all prompts, by split and by task, against its smallest effect of interest."""
    shown = [answer for answer in answers if answer.parts][:MAX_EFFECTS]
    if not shown:
        return None
    parts = list(dict.fromkeys(key for answer in shown for key in answer.parts))
    columns = min(3 if len(shown) > 4 else 2, len(shown))
    rows = -(-len(shown) // columns)

    def draw(figure) -> None:
        axes = figure.subplots(rows, columns, sharey=True, sharex=True, squeeze=False).flatten()
        for ax, answer in zip(axes, shown):
            smallest = answer.contrast.smallest_effect
            ax.axvspan(0, smallest, color=GRID, alpha=0.7, linewidth=0)
            ax.axvline(0, color=MUTED, linewidth=1)
            for y, key in enumerate(parts):
                if part := answer.parts.get(key):
                    is_whole = key == ("", OVERALL)
                    draw_dot(
                        ax,
                        part.effect,
                        y,
                        part.ci,
                        Look(PALETTE[0] if key[0] or is_whole else MUTED, "o", "-", is_whole),
                    )
            ax.set_title(f"{wrapped(answer.contrast.label, 104 // columns)}\n{answer.verdict}")
            ax.grid(axis="x")
            ax.tick_params(length=0)
        for ax in axes[len(shown) :]:
            ax.set_axis_off()
        axes[0].set_yticks(range(len(parts)), [part_label(*key) for key in parts])
        axes[0].set_ylim(len(parts) - 0.4, -0.6)
        low, high = axes[0].get_xlim()
        axes[0].set_xlim(max(low, -1.05), min(high, 1.05))
        figure.supxlabel("difference with 95 % interval; shaded: too small to matter", fontsize=8.5, color=MUTED)

    data = [
        {"contrast": answer.contrast.name, "split": split or "all", "task": task, "effect": part.effect,
         "low": part.ci[0] if part.ci else None, "high": part.ci[1] if part.ci else None}
        for answer in shown for (split, task), part in answer.parts.items()
    ]  # fmt: skip
    alt = "; ".join(f"{a.contrast.label}: {a.verdict}, {a.effect:+.3f}" for a in shown if a.effect is not None)
    height = rows * (0.25 * len(parts) + 0.9) + 0.3
    return render("effects", "Where the effects come from", alt, draw, data, width=11, height=height)


def interaction(study: Study, scores: Scores) -> Figure | None:
    """The two crossed factors: a line a level of the row factor, over the levels of the column factor."""
    row, column = study.interaction.get("rows", ""), study.interaction.get("columns", "")
    tested = [v for v in study.variants if row in v.factors and column in v.factors and (v.name, "", OVERALL) in scores]
    if not tested:
        return None
    others = list(dict.fromkeys(_others(variant, row, column) for variant in tested))
    panels = [("all prompts", "")]
    panels += [(name, name) for name, _ in study.splits if any(split == name for _, split, _ in scores)]
    places = levels(study, column)

    def draw(figure) -> None:
        axes = figure.subplots(len(others), len(panels), sharex=True, sharey=True, squeeze=False)
        for line, other in zip(axes, others):
            for ax, (heading, split) in zip(line, panels):
                found: dict[str, dict[int, Estimate]] = {
                    v.factors[row]: {} for v in tested if _others(v, row, column) == other
                }
                for v in tested:
                    if _others(v, row, column) == other and (v.name, split, OVERALL) in scores:
                        found[v.factors[row]][places.index(v.factors[column])] = scores[v.name, split, OVERALL]
                _crossing(ax, found, levels(study, row))
                ax.set_title(f"{heading}\n{other}" if other else heading)
                ax.set_xticks(range(len(places)), places)
                ax.set_xlim(-0.35, len(places) - 0.35)
            line[0].set_ylabel("GenEval overall")
        axes[0][0].set_ylim(0, 1.08 * max(row["high"] or row["value"] for row in data) or 1)
        figure.supxlabel(f"{column}; lines: {row}", fontsize=8.5, color=MUTED)
        handles, names = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, [f"{row}: {name}" for name in names], loc="outside upper right", ncols=len(names))

    data = [_row(v.name, split, OVERALL, scores) | dict(v.factors) for v in tested for _, split in panels
            if (v.name, split, OVERALL) in scores]  # fmt: skip
    title = f"{row} × {column}"
    return render("interaction", title, _words(title, data), draw, data, width=11, height=2.5 * len(others) + 0.6)


def _others(variant: Variant, row: str, column: str) -> str:
    """The levels of the factors that are not crossed, in words."""
    return ", ".join(f"{key}: {value}" for key, value in variant.factors.items() if key not in (row, column))


def _crossing(ax, found: Mapping[str, Mapping[int, Estimate]], rows: list[str]) -> None:
    for level, points in found.items():
        place = rows.index(level)
        xs = sorted(points)
        values = [points[x].value for x in xs]
        bounds = [points[x].ci or (points[x].value, points[x].value) for x in xs]
        error = [[max(v - b[0], 0) for v, b in zip(values, bounds)], [max(b[1] - v, 0) for v, b in zip(values, bounds)]]
        # A small shift keeps the intervals of two lines apart.
        shifted = [x + 0.06 * (place - (len(rows) - 1) / 2) for x in xs]
        look = Look(PALETTE[(place + 2) % len(PALETTE)], MARKERS[place % len(MARKERS)], LINES[place % len(LINES)], True)
        ax.errorbar(shifted, values, yerr=error, label=level, linestyle=look.line, linewidth=1.6, **look.errorbar())
    ax.grid(axis="y")
    ax.tick_params(length=0)


def wrapped(text: str, width: int) -> str:
    """`text` broken into lines of about `width` characters."""
    return "\n".join(textwrap.wrap(text, width)) or text


def render(
    name: str,
    title: str,
    alt: str,
    draw: Callable[[Any], None],
    data: Sequence[Mapping[str, Any]],
    *,
    width: float,
    height: float,
) -> Figure:
    """The drawing as SVG and PNG; no date, and a salt of its own for the identifiers of each figure."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    svg, png = io.StringIO(), io.BytesIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        canvas = Canvas(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(canvas)
        draw(canvas)
        # The layout is found once and kept for both files: it takes half of the time.
        canvas.draw_without_rendering()
        canvas.set_layout_engine("none")
        canvas.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        canvas.savefig(png, format="png", dpi=144, facecolor="white", metadata={"Software": None})
    return Figure(name=name, title=title, alt=alt, svg=svg.getvalue(), png=png.getvalue(), data=data)
