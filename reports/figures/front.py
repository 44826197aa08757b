"""GenEval overall over the time of an image; a line through what nothing cheaper reaches."""

from collections.abc import Sequence
from typing import Any

from reports.figures.curves import Ends, label_ends
from reports.figures.figure import INK, MUTED, Figure, grid, render
from reports.figures.looks import draw_dot, looks
from reports.figures.numbers import number
from reports.front import Priced, priced, worth_showing
from reports.records.study import Study
from reports.scores import Scores
from reports.words import shortened


def front(study: Study, scores: Scores) -> Figure | None:
    """A number is a variant, the line through its dot the range of the repetitions; None where nothing was timed or all
    cost alike. The scores' intervals stand in the table: side by side they would hide that differences are paired."""
    rows = priced(study, scores)
    if not worth_showing(rows):
        return None
    data = [row.data for row in rows]
    alt = "GenEval overall against milliseconds an image: " + "; ".join(
        f"{row.variant.name} {row.score.value:.2f} at {1e3 * row.middle:.2f}" + (" (front)" if row.is_on_front else "")
        for row in rows
    )

    def draw(figure: Any) -> None:
        _draw(figure.subplots(), study, rows)

    return render("front", "Score against time", alt, draw, data, height=max(4.4, 0.22 * len(rows) + 1))


def _draw(ax: Any, study: Study, rows: Sequence[Priced]) -> None:
    ends, places = Ends(), []
    ax.set_xscale("log")
    best = [row for row in rows if row.is_on_front]
    ax.plot([1e3 * row.middle for row in best], [row.score.value for row in best], color=MUTED, linewidth=1.2)
    for count, row in enumerate(rows, 1):
        x, y, look = 1e3 * row.middle, row.score.value, looks(study)[row.variant.name]
        draw_dot(ax, x, y, (1e3 * min(row.seconds), 1e3 * max(row.seconds)), look)
        places.append((x, y))
        ends[f"{count}  {shortened(row.variant.label, 40)}: {y:.3f}"] = (y, look)
    ax.margins(x=0.06, y=0.08)
    ax.set_xlabel("milliseconds an image, without text encoder and autoencoder (logarithmic)")
    ax.set_ylabel("GenEval overall")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:g}"[0] in "25" else "")
    ax.tick_params(axis="x", which="minor", labelsize=8.5, labelcolor=INK)
    grid(ax)
    label_ends(ax, ends, gap=min(0.052, 1 / len(ends)))
    ax.figure.draw_without_rendering()  # settles where the points lie
    number(ax, places)
