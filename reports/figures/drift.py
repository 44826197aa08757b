"""GenEval overall over the measured drift of the winners' error: a gain that drift paid for lies to the right."""

from collections.abc import Mapping, Sequence
from math import cos, hypot, pi, sin
from typing import Any

from reports.figures.curves import Ends, label_ends
from reports.figures.figure import MUTED, Figure, grid, render
from reports.figures.looks import draw_dot, looks
from reports.records.study import Study, Variant
from reports.scores import Scores
from reports.words import OVERALL, shortened

RADII = (11.0, 18.0, 26.0, 36.0, 48.0)  # points between a dot and its number
ANGLES = tuple(place * pi / 8 for place in (1, 15, 7, 9, 3, 13, 5, 11, 0, 8, 4, 12))
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
    for number, variant in enumerate(shown, 1):
        score, look = scores[variant.name, "", OVERALL], looks(study)[variant.name]
        rows = [row for row in data if row["variant"] == variant.name]
        x = sum(row["winner_drift"] for row in rows) / len(rows)
        ax.plot([row["winner_drift"] for row in rows], [row["geneval_overall"] for row in rows], ".", alpha=0.35,
                markersize=5, color=look.color)  # fmt: skip
        draw_dot(ax, x, score.value, None, look)
        places.append((x, score.value))
        ends[f"{number}  {shortened(variant.label, 40)}: {score.value:.3f}"] = (score.value, look)
    ax.margins(x=0.06, y=0.08)
    ax.set_xlabel("drift of the winners' squared error from the reference (left: their error fell)")
    ax.set_ylabel("GenEval overall")
    grid(ax)
    label_ends(ax, ends, gap=min(0.052, 1 / len(ends)))
    ax.figure.draw_without_rendering()  # settles where the points lie
    _number(ax, places)


def _number(ax: Any, places: Sequence[tuple[float, float]]) -> None:
    """Each dot's number beside it, where neither a dot nor another number is; a thin line where it stands afar."""
    scale = 72 / ax.figure.dpi
    dots = [tuple(scale * value for value in ax.transData.transform(place)) for place in places]
    taken: list[tuple[float, float]] = list(dots)
    for number, (place, (x, y)) in enumerate(zip(places, dots), 1):
        offset = next(
            ((r * cos(angle), r * sin(angle)) for r in RADII for angle in ANGLES
             if _is_free((x + r * cos(angle), y + r * sin(angle)), (x, y), taken)),
            (RADII[-1], 0.0),
        )  # fmt: skip
        taken.append((x + offset[0], y + offset[1]))
        line = {"arrowstyle": "-", "color": MUTED, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
        ax.annotate(str(number), place, xytext=offset, textcoords="offset points", ha="center", va="center",
                    fontsize=8.5, arrowprops=line if hypot(*offset) > RADII[0] else None)  # fmt: skip


def _is_free(spot: tuple[float, float], own: tuple[float, float], taken: Sequence[tuple[float, float]]) -> bool:
    return all(abs(spot[0] - x) > 11 or abs(spot[1] - y) > 9 for x, y in taken if (x, y) != own)
