"""All contrasts: each with its verdict, and each within every split and task, where its effect comes from."""

from collections.abc import Sequence
from typing import Any

from reports.figures.figure import GRID, INK, MUTED, Figure, even, grid, list_down, note, panels, render, wrapped
from reports.figures.looks import Look, draw_dot
from reports.records.record import is_geneval
from reports.tables.table import bounds
from reports.verdict import Verdict, primary
from reports.words import OVERALL, metric_name, part_label, shortened

COLUMNS = 5
MARKERS = {"supported": "^", "refuted": "v", "inconclusive": "o", "unsettled": "o"}
OUTCOME = "marker up: supported, down: refuted, hollow: neither; line: 95 % interval; shaded: too small to matter"
Part = tuple[str, str]


def contrasts(verdicts: Sequence[Verdict]) -> Figure | None:
    """A row a contrast with its verdict, a panel each unit of measurement; None where nothing was measured."""
    groups: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault(_unit(verdict), []).append(verdict)
    if all(verdict.difference.effect is None for verdict in verdicts):
        return None

    def draw(figure: Any) -> None:
        ratios = [len(found) + 1.5 for found in groups.values()]
        axes = figure.subplots(len(groups), 1, squeeze=False, gridspec_kw={"height_ratios": ratios})[:, 0]
        for ax, (unit, found) in zip(axes, groups.items()):
            _rows(ax, found)
            ax.set_title(f"difference of {unit}", fontsize=9)
        note(figure, OUTCOME)

    data = [{"contrast": v.contrast.name, "metric": v.contrast.metric, "verdict": v.outcome,
             "effect": v.difference.effect, **bounds(v.difference.ci), "smallest_effect": v.contrast.smallest_effect,
             "published_effect": v.contrast.published_effect} for v in verdicts]  # fmt: skip
    height = 0.27 * len(verdicts) + 0.8 * len(groups) + 0.3
    return render("contrasts", "What the contrasts say", _words(verdicts), draw, data, height=height)


def main_contrast(verdicts: Sequence[Verdict]) -> Figure | None:
    """The primary contrast alone, for the head of the page."""
    first = primary(verdicts)
    if first is None or first.difference.effect is None:
        return None

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        _rows(ax, [first])
        ax.set_yticks([])
        ax.margins(x=0.2)
        ax.set_xlabel(f"{shortened(first.contrast.label, 80)}: {_unit(first)}", fontsize=8.5)

    row = {"contrast": first.contrast.name, "effect": first.difference.effect, **bounds(first.difference.ci)}
    return render("primary", "The primary contrast", _words([first]), draw, [row], width=8, height=1.15)


def _unit(verdict: Verdict) -> str:
    name = verdict.contrast.metric
    return "GenEval (share of images judged right)" if is_geneval(name) else metric_name(name)[0]


def _words(verdicts: Sequence[Verdict]) -> str:
    shown = [verdict for verdict in verdicts if verdict.difference.effect is not None]
    return "; ".join(f"{v.contrast.label}: {v.outcome}, {v.difference.effect:+.3f}" for v in shown)


def _rows(ax: Any, verdicts: Sequence[Verdict]) -> None:
    ax.axvline(0, color=MUTED, linewidth=1)
    for y, verdict in enumerate(verdicts):
        found, contrast = verdict.difference, verdict.contrast
        ax.fill_betweenx([y - 0.45, y + 0.45], 0, contrast.smallest_effect, color=GRID, linewidth=0)
        if contrast.published_effect is not None:
            ax.plot([contrast.published_effect], [y], "|", color=INK, markersize=11, markeredgewidth=1.6)
            ax.annotate("claimed", (contrast.published_effect, y), xytext=(3, 4), textcoords="offset points",
                        fontsize=7, color=INK)  # fmt: skip
        if found.effect is not None:
            draw_dot(ax, found.effect, y, found.ci, look_of(verdict))
        words = "not answered" if found.effect is None else verdict.outcome
        ax.annotate(words, (1, y), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
                    va="center", fontsize=8.5, color=MUTED if words != "supported" else INK)  # fmt: skip
    list_down(ax, [v.contrast.label + (" (primary)" if v.contrast.is_primary else "") for v in verdicts], 62)
    grid(ax, "x")


def look_of(verdict: Verdict) -> Look:
    """Black, as colors are the variants'; the marker says the verdict."""
    kind = verdict.kind
    return Look(INK, MARKERS[kind], is_filled=kind in ("supported", "refuted"))


def effects(verdicts: Sequence[Verdict]) -> Figure | None:
    """A panel a split and task, a row a contrast; None where no contrast has parts."""
    shown = [verdict for verdict in verdicts if verdict.difference.parts]
    parts = list(dict.fromkeys(key for verdict in shown for key in verdict.difference.parts))
    if not shown:
        return None
    columns = even(len(parts), COLUMNS)

    def draw(figure: Any) -> None:
        axes = panels(figure, len(parts), columns, sharey=True, sharex=True)
        for ax, part in zip(axes, parts):
            _part(ax, shown, part)
        list_down(axes[0], [verdict.contrast.label for verdict in shown], 46)
        low, high = axes[0].get_xlim()
        axes[0].set_xlim(max(low, -1.05), min(high, 1.05))
        absent = [verdict.contrast.label for verdict in verdicts if not verdict.difference.parts]
        missing = f"\nno tasks or splits: {shortened('; '.join(absent), 150)}" if absent else ""
        note(figure, f"difference with 95 % interval; filled: its verdict is supported or refuted{missing}")

    data = [
        {"contrast": verdict.contrast.name, "split": split or "all", "task": task, "effect": part.effect,
         **bounds(part.ci)}
        for verdict in shown for (split, task), part in verdict.difference.parts.items()
    ]  # fmt: skip
    height = -(-len(parts) // columns) * (0.2 * len(shown) + 0.7) + 0.4
    return render("effects", "Where the effects come from", _words(shown), draw, data, height=height)


def _part(ax: Any, verdicts: Sequence[Verdict], part: Part) -> None:
    ax.axvline(0, color=MUTED, linewidth=1)
    for y, verdict in enumerate(verdicts):
        if (found := verdict.difference.parts.get(part)) and found.effect is not None:
            is_filled = part == ("", OVERALL) and verdict.kind in ("supported", "refuted")
            draw_dot(ax, found.effect, y, found.ci, Look(INK if part[1] == OVERALL else MUTED, is_filled=is_filled))
    ax.set_title(wrapped(part_label(*part), 22), fontsize=9)
    grid(ax, "x")
    ax.locator_params(axis="x", nbins=3)
