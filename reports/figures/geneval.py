"""GenEval by task and by prompt split: a panel each, a dot and its interval a variant."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports.figures.figure import CARD, MUTED, Figure, grid, list_down, panels, render, wrapped
from reports.figures.looks import Look, draw_dot, looks, tested_factors
from reports.records.study import Study, Variant
from reports.scores import Scores
from reports.tables.table import bounds
from reports.words import OVERALL, pretty

COLUMNS = 4
Panel = tuple[str, str, str]  # (heading, split, task)


def geneval(study: Study, scores: Scores) -> Figure:
    """A panel a task."""
    tasks = list(dict.fromkeys(task for _, split, task in scores if split == ""))
    return _intervals(study, scores, "geneval", "GenEval by task", [(pretty(task), "", task) for task in tasks])


def splits(study: Study, scores: Scores) -> Figure:
    """A panel a split, of the overall score."""
    present = [(label, name) for name, label in study.splits if any(split == name for _, split, _ in scores)]
    shown = [("all prompts", "", OVERALL)]
    shown += [(f"{name}\n{wrapped(label, 28)}" if label != name else name, name, OVERALL) for label, name in present]
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
    columns = min(COLUMNS, len(shown))

    def draw(figure: Any) -> None:
        axes = panels(figure, len(shown), columns, sharey=True)
        for ax, panel in zip(axes, shown):
            _panel(ax, study, scores, variants, panel)
        if len(axes) > len(shown):
            _key(axes[-1], study)
        list_down(axes[0], [variant.label for variant in variants])
        _set_controls_apart(axes[: len(shown)], variants)

    data = [score_row(v.name, split, task, scores) for v in variants for _, split, task in shown
            if (v.name, split, task) in scores]  # fmt: skip
    height = -(-len(shown) // columns) * (0.27 * len(variants) + 0.85)
    return render(name, title, overall_words(title, data), draw, data, height=height)


def _panel(ax: Any, study: Study, scores: Scores, variants: Sequence[Variant], panel: Panel) -> None:
    heading, split, task = panel
    look = looks(study)
    for y, variant in enumerate(variants):
        if score := scores.get((variant.name, split, task)):
            draw_dot(ax, score.value, y, score.ci, look[variant.name])
    ax.set_title(heading)
    ax.set_xlim(-0.03, 1.03)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
    grid(ax, "x")


def _set_controls_apart(axes: Sequence[Any], variants: Sequence[Variant]) -> None:
    tested = sum(not variant.is_control for variant in variants)
    if tested < len(variants):
        for ax in axes:
            ax.axhline(tested - 0.5, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))


def _key(ax: Any, study: Study) -> None:
    """What color, marker and filling mean, in the free corner."""
    from matplotlib.lines import Line2D

    look = looks(study)
    handles: dict[tuple[str, str], Any] = {}
    for variant in (variant for variant in study.variants if not variant.is_control):
        for factor, level in ((name, level) for name, level in variant.factors.items() if name != "draw"):
            style = _key_style(study, factor, look[variant.name])
            handles.setdefault((factor, level), Line2D([], [], linestyle="none", markersize=6, **style))
    factors = tested_factors(study)
    names = sorted(handles, key=lambda name: factors.index(name[0]))
    if study.interaction and len(names) <= 8:
        labels = [f"{factor}: {level}" for factor, level in names]
        ax.legend([handles[name] for name in names], labels, loc="center left")


def _key_style(study: Study, factor: str, look: Look) -> dict[str, Any]:
    if factor == study.interaction.get("columns"):
        return {"color": look.color, "marker": "o"}
    if factor == study.interaction.get("rows"):
        return {"color": MUTED, "marker": look.marker}
    return {"color": MUTED, "marker": "o", "markerfacecolor": MUTED if look.is_filled else CARD}
