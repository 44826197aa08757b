"""GenEval by task and by prompt split: a panel each, a dot and its interval a variant."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports.figures.figure import MUTED, Figure, even, grid, list_down, panels, render, wrapped
from reports.figures.looks import draw_dot, key, looks
from reports.records.study import Study, Variant
from reports.scores import Scores
from reports.tables.table import bounds
from reports.words import OVERALL, pretty

COLUMNS = 8
Panel = tuple[str, str, str]  # (heading, split, task)


def geneval(study: Study, scores: Scores) -> Figure:
    """A panel a task."""
    tasks = list(dict.fromkeys(task for _, split, task in scores if split == ""))
    return _intervals(study, scores, "geneval", "GenEval by task", [(pretty(task), "", task) for task in tasks])


def splits(study: Study, scores: Scores) -> Figure:
    """A panel a split, of the overall score."""
    present = [(label, name) for name, label in study.splits if any(split == name for _, split, _ in scores)]
    shown = [("all prompts", "", OVERALL)]
    shown += [(f"{name}: {label}" if label != name else name, name, OVERALL) for label, name in present]
    return _intervals(study, scores, "splits", "GenEval overall by prompt split", shown)


def score_row(variant: str, split: str, task: str, scores: Scores) -> dict[str, Any]:
    """The row behind one dot."""
    score = scores[variant, split, task]
    row = {"variant": variant, "split": split or "all", "task": task, "value": score.value, **bounds(score.ci)}
    return {**row, "images": score.n, "prompts": score.prompts, "seeds": score.seeds}


def overall_words(title: str, data: Sequence[Mapping[str, Any]]) -> str:
    """The overall scores in words, for readers who cannot see them."""
    shown = [row for row in data if row["split"] == "all" and row["task"] == OVERALL]
    return f"{title}. Overall: " + "; ".join(f"{row['variant']} {row['value']:.2f}" for row in shown)


def _intervals(study: Study, scores: Scores, name: str, title: str, shown: Sequence[Panel]) -> Figure:
    variants = [v for v in study.variants_in_order() if any((v.name, *key) in scores for _, *key in shown)]
    columns = even(len(shown), COLUMNS)

    def draw(figure: Any) -> None:
        axes = panels(figure, len(shown), columns, sharey=True, sharex=True)
        for ax, panel in zip(axes, shown):
            _panel(ax, study, scores, variants, panel, 88 // columns)
        list_down(axes[0], [variant.label for variant in variants], 50)
        _set_controls_apart(axes[: len(shown)], variants)
        key(figure, study)

    data = [score_row(v.name, split, task, scores) for v in variants for _, split, task in shown
            if (v.name, split, task) in scores]  # fmt: skip
    height = -(-len(shown) // columns) * (0.24 * len(variants) + 0.75) + 0.6
    return render(name, title, overall_words(title, data), draw, data, height=height)


def _panel(ax: Any, study: Study, scores: Scores, variants: Sequence[Variant], panel: Panel, width: int) -> None:
    heading, split, task = panel
    look = looks(study)
    for y, variant in enumerate(variants):
        if score := scores.get((variant.name, split, task)):
            draw_dot(ax, score.value, y, score.ci, look[variant.name])
    ax.set_title(wrapped(heading, width), fontsize=9)
    ax.set_xlim(-0.04, 1.04)
    ax.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    ax.set_xticks([0.25, 0.75], minor=True)
    ax.grid(axis="x", which="minor")
    grid(ax, "x")
    ax.tick_params(which="minor", length=0)


def _set_controls_apart(axes: Sequence[Any], variants: Sequence[Variant]) -> None:
    tested = sum(not variant.is_control for variant in variants)
    if tested < len(variants):
        for ax in axes:
            ax.axhline(tested - 0.5, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
