"""The two crossed factors: a line a level of the row factor, over the levels of the column factor."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from reports.figures.figure import MUTED, Figure, grid, note, render
from reports.figures.geneval import overall_words, score_row
from reports.figures.looks import LINES, MARKERS, Look, color_of, levels
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
        low, high = (pick(row[side] or row["value"] for row in data) for pick, side in ((min, "low"), (max, "high")))
        axes[0][0].set_ylim(low - 0.05 * (high - low) - 1e-3, high + 0.05 * (high - low) + 1e-3)
        note(figure, f"{column} (color); lines: {row}; bars: 95 % intervals, on one scale")
        handles, names = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, [f"{row}: {name}" for name in names], loc="outside upper right", ncols=len(names))

    title = f"{row} × {column}"
    height = 2.3 * len(others) + 0.5
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
        _line(ax, found, level, (rows.index(level), len(rows)))
    grid(ax, "y")
    ax.set_xticks(range(len(places)), places)
    ax.set_xlim(-0.3, len(places) - 0.7)


def _pooled(draws: Sequence[Score]) -> Score:
    """The score, or of an arm that was drawn several times the mean of its draws, without an interval."""
    if len(draws) == 1:
        return draws[0]
    return replace(draws[0], value=sum(score.value for score in draws) / len(draws), ci=None)


def _line(ax: Any, points: dict[int, Score], level: str, places: tuple[int, int]) -> None:
    """A line a level of the row factor, in its marker and style; its dots in the colors of the column factor."""
    place, count = places
    shifted = {x: x + 0.06 * (place - (count - 1) / 2) for x in points}  # keeps the intervals of two lines apart
    style = {"linestyle": LINES[place % len(LINES)], "marker": MARKERS[min(place, len(MARKERS) - 1)], "markersize": 6}
    ax.plot(list(shifted.values()), [score.value for score in points.values()], color=MUTED, label=level,
            linewidth=1.4, **style)  # fmt: skip
    for x, score in points.items():
        low, high = score.ci or (score.value, score.value)
        look = Look(color_of(x), MARKERS[min(place, len(MARKERS) - 1)])
        ax.plot([shifted[x]] * 3, [low, score.value, high], markevery=[1], linewidth=1.8, **look.marked())
