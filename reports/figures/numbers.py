"""Numbers beside the dots of a plot, for a list that says what they are."""

from collections.abc import Sequence
from math import cos, hypot, pi, sin
from typing import Any

from reports.figures.figure import MUTED

RADII = (11.0, 18.0, 26.0, 36.0, 48.0)  # points between a dot and its number
ANGLES = tuple(place * pi / 8 for place in (1, 15, 7, 9, 3, 13, 5, 11, 0, 8, 4, 12))


def number(ax: Any, places: Sequence[tuple[float, float]]) -> None:
    """Each dot's number beside it, where neither a dot nor another number is; a thin line where it stands afar."""
    scale = 72 / ax.figure.dpi
    dots = [tuple(scale * value for value in ax.transData.transform(place)) for place in places]
    taken: list[tuple[float, float]] = list(dots)
    for count, (place, (x, y)) in enumerate(zip(places, dots), 1):
        offset = next(
            ((r * cos(angle), r * sin(angle)) for r in RADII for angle in ANGLES
             if _is_free((x + r * cos(angle), y + r * sin(angle)), (x, y), taken)),
            (RADII[-1], 0.0),
        )  # fmt: skip
        taken.append((x + offset[0], y + offset[1]))
        line = {"arrowstyle": "-", "color": MUTED, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
        ax.annotate(str(count), place, xytext=offset, textcoords="offset points", ha="center", va="center",
                    fontsize=8.5, arrowprops=line if hypot(*offset) > RADII[0] else None)  # fmt: skip


def _is_free(spot: tuple[float, float], own: tuple[float, float], taken: Sequence[tuple[float, float]]) -> bool:
    return all(abs(spot[0] - x) > 11 or abs(spot[1] - y) > 9 for x, y in taken if (x, y) != own)
