"""The two crossed factors: a line a level of the row factor, over the levels of the column factor."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from reports.figures.figure import PALETTE, Figure, grid, note, render
from reports.figures.geneval import overall_words, score_row
from reports.figures.looks import LINES, MARKERS, Look, levels
from reports.records.study import Study, Variant
from reports.scores import Score, Scores
from reports.words import OVERALL


def interaction(study: Study, scores: Scores) -> Figure | None:
    """A row of panels for each combination of the other factors, a column a split; None without crossed factors."""
    row, column = study.interaction.get("rows", ""), study.interaction.get("columns", "")
    tested = [v for v in study.variants if row in v.factors and column in v.factors and (v.name, "", OVERALL) in scores]
    if not tested:
        return None
    others = list(dict.fromkeys(_others(variant, row, column) for variant in tested))
    splits = ["", *(name for name, _ in study.splits if any(split == name for _, split, _ in scores))]
    data = [score_row(v.name, split, OVERALL, scores) | dict(v.factors) for v in tested for split in splits
            if (v.name, split, OVERALL) in scores]  # fmt: skip

    def draw(figure: Any) -> None:
        axes = figure.subplots(len(others), len(splits), sharex=True, sharey=True, squeeze=False)
        for line, other in zip(axes, others):
            alike = [variant for variant in tested if _others(variant, row, column) == other]
            for ax, split in zip(line, splits):
                _panel(ax, study, alike, {v.name: scores.get((v.name, split, OVERALL)) for v in alike})
                heading = split or "all prompts"
                ax.set_title(f"{heading}\n{other}" if other else heading)
            line[0].set_ylabel("GenEval overall")
        axes[0][0].set_ylim(0, 1.08 * max(row["high"] or row["value"] for row in data) or 1)
        note(figure, f"{column}; lines: {row}")
        handles, names = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, [f"{row}: {name}" for name in names], loc="outside upper right", ncols=len(names))

    title = f"{row} × {column}"
    height = 2.5 * len(others) + 0.6
    return render("interaction", title, overall_words(title, data), draw, data, height=height)


def _others(variant: Variant, row: str, column: str) -> str:
    """The levels of the factors that are not crossed, in words."""
    return ", ".join(f"{key}: {value}" for key, value in variant.factors.items() if key not in (row, column, "draw"))


def _panel(ax: Any, study: Study, variants: Sequence[Variant], scores: dict[str, Score | None]) -> None:
    row, column = study.interaction["rows"], study.interaction["columns"]
    rows, places = levels(study, row), levels(study, column)
    for level in dict.fromkeys(variant.factors[row] for variant in variants):
        points: dict[int, list[Score]] = {}
        for variant in (variant for variant in variants if variant.factors[row] == level):
            if score := scores[variant.name]:
                points.setdefault(places.index(variant.factors[column]), []).append(score)
        found = {x: _pooled(points[x]) for x in sorted(points)}
        _line(ax, found, level, rows.index(level), len(rows))
    grid(ax, "y")
    ax.set_xticks(range(len(places)), places)
    ax.set_xlim(-0.35, len(places) - 0.35)


def _pooled(draws: Sequence[Score]) -> Score:
    """The score, or of an arm that was drawn several times the mean of its draws, without an interval."""
    if len(draws) == 1:
        return draws[0]
    return replace(draws[0], value=sum(score.value for score in draws) / len(draws), ci=None)


def _line(ax: Any, points: dict[int, Score], level: str, place: int, count: int) -> None:
    values = [score.value for score in points.values()]
    bounds = [score.ci or (score.value, score.value) for score in points.values()]
    error = [[max(v - b[0], 0) for v, b in zip(values, bounds)], [max(b[1] - v, 0) for v, b in zip(values, bounds)]]
    # A small shift keeps the intervals of two lines apart.
    shifted = [x + 0.06 * (place - (count - 1) / 2) for x in points]
    look = Look(PALETTE[(place + 2) % len(PALETTE)], MARKERS[place % len(MARKERS)], LINES[place % len(LINES)])
    ax.errorbar(shifted, values, yerr=error, label=level, linestyle=look.line, linewidth=1.6, **look.errorbar())
