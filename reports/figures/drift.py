"""GenEval overall over the measured drift of the winners' error: a gain that drift paid for lies to the right."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports.figures.curves import Ends, label_ends
from reports.figures.figure import MUTED, Figure, grid, render
from reports.figures.looks import draw_dot, looks
from reports.figures.numbers import number
from reports.records.study import Study, Variant
from reports.scores import Scores
from reports.words import OVERALL, shortened

Rows = Sequence[Mapping[str, Any]]


def drift(study: Study, scores: Scores) -> Figure | None:
    """A number is a variant's mean over its seeds, small dots are the seeds; a variant without preference training has
    not drifted. None where no drift was measured."""
    shown = [v for v in study.variants if not v.is_control and (v.name, "", OVERALL) in scores and _rows(study, v.name)]
    data = [row for variant in shown for row in _rows(study, variant.name)]
    if not any(row["was_preferred"] for row in data):
        return None
    alt = "GenEval overall against winner drift: " + "; ".join(
        f"{row['variant']} seed {row['seed']} {row['winner_drift']:+.3f} {row['geneval_overall']:.2f}" for row in data
    )

    def draw(figure: Any) -> None:
        _draw(figure.subplots(), study, scores, shown, data)

    return render("drift", "Score against drift", alt, draw, data, height=max(4.4, 0.2 * len(shown) + 1))


def _rows(study: Study, variant: str) -> list[dict[str, Any]]:
    """A row for each of the variant's complete cells that were scored."""
    found: list[dict[str, Any]] = []
    for cell in study.complete(variant):
        overall, moved = cell.metrics.get(f"geneval/{OVERALL}"), cell.metrics.get("preference/winner_drift")
        if overall and overall.value is not None:
            value = moved.value if moved else None
            row = {"variant": variant, "seed": cell.seed, "winner_drift": value or 0.0}
            found.append({**row, "geneval_overall": overall.value, "was_preferred": value is not None})
    return found


def _draw(ax: Any, study: Study, scores: Scores, shown: Sequence[Variant], data: Rows) -> None:
    ax.axvline(0.0, color=MUTED, linewidth=0.8)
    ends, places = Ends(), []
    for count, variant in enumerate(shown, 1):
        score, look = scores[variant.name, "", OVERALL], looks(study)[variant.name]
        rows = [row for row in data if row["variant"] == variant.name]
        x = sum(row["winner_drift"] for row in rows) / len(rows)
        ax.plot([row["winner_drift"] for row in rows], [row["geneval_overall"] for row in rows], ".", alpha=0.35,
                markersize=5, color=look.color)  # fmt: skip
        draw_dot(ax, x, score.value, None, look)
        places.append((x, score.value))
        ends[f"{count}  {shortened(variant.label, 40)}: {score.value:.3f}"] = (score.value, look)
    ax.margins(x=0.06, y=0.08)
    ax.set_xlabel("drift of the winners' squared error from the reference (left: their error fell)")
    ax.set_ylabel("GenEval overall")
    grid(ax)
    label_ends(ax, ends, gap=min(0.052, 1 / len(ends)))
    ax.figure.draw_without_rendering()  # settles where the points lie
    number(ax, places)
