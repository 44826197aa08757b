"""How a variant is drawn, the same in every figure of a report, and the key that says so.

Color is the level of one factor, marker and line style that of another, a filled marker the first level of all the
rest. Of a study with crossed factors color is the columns' and marker the rows'; else color is the factor that tells
most variants apart. A level beyond the palette is black: no color stands for two levels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reports.figures.figure import CARD, INK, MUTED, PALETTE
from reports.records.study import Study, Variant
from reports.words import shortened

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
LINES = ("-", "--", ":", "-.")
MAX_KEY = 24  # entries


@dataclass(frozen=True)
class Look:
    """Color, marker and line of a variant."""

    color: str
    marker: str = "o"
    line: str = "-"
    is_filled: bool = True

    def marked(self) -> dict[str, Any]:
        face = self.color if self.is_filled else CARD
        return {"color": self.color, "marker": self.marker, "markerfacecolor": face, "markeredgecolor": self.color,
                "markersize": 6, "markeredgewidth": 1.4}  # fmt: skip


def looks(study: Study) -> dict[str, Look]:
    """The look of each variant."""
    column, row = shown_factors(study)
    first = {factor: levels(study, factor)[0] for factor in tested_factors(study) if factor not in (column, row)}
    found = {}
    for variant in study.variants:
        place = _level(study, variant, row)
        is_filled = all(variant.factors.get(factor, level) == level for factor, level in first.items())
        color = MUTED if variant.is_control else color_of(_level(study, variant, column))
        found[variant.name] = Look(color, MARKERS[min(place, len(MARKERS) - 1)], LINES[place % len(LINES)], is_filled)
    return found


def shown_factors(study: Study) -> tuple[str, str]:
    """The factors that color and marker stand for; "" where there is none."""
    factors = sorted(tested_factors(study), key=lambda factor: _largest_level(study, factor))
    column = study.interaction.get("columns") or (factors[0] if factors else "")
    rest = [factor for factor in factors if factor != column]
    return column, study.interaction.get("rows") or ("" if study.interaction or not rest else rest[0])


def color_of(level: int) -> str:
    return PALETTE[level] if level < len(PALETTE) else INK


def tested_factors(study: Study) -> list[str]:
    """The factors of the variants under test; random draws of an arm look alike."""
    tested = [variant for variant in study.variants if not variant.is_control]
    return list(dict.fromkeys(factor for variant in tested for factor in variant.factors if factor != "draw"))


def levels(study: Study, factor: str) -> list[str]:
    """A factor's levels in the order in which the variants name them."""
    return list(dict.fromkeys(variant.factors[factor] for variant in study.variants if factor in variant.factors))


def _largest_level(study: Study, factor: str) -> int:
    """How many variants look alike if color is this factor's."""
    given = [variant.factors.get(factor, "") for variant in study.variants if not variant.is_control]
    places = [min(levels(study, factor).index(level), len(PALETTE)) if level else -1 for level in given]
    return max(places.count(place) for place in places)


def _level(study: Study, variant: Variant, factor: str) -> int:
    return levels(study, factor).index(variant.factors[factor]) if factor in variant.factors else 0


def key(figure: Any, study: Study) -> None:
    """What color, marker and filling mean, above the panels."""
    from matplotlib.lines import Line2D

    styles = _key_styles(study)
    if len(styles) < 2:
        return
    shown = dict(list(styles.items())[:MAX_KEY])
    handles = [Line2D([], [], linestyle="none", markersize=6, **style) for style in shown.values()]
    labels = [f"{factor}: {shortened(level, 24)}" for factor, level in shown]
    if len(styles) > MAX_KEY:
        labels[-1] += f" (and {len(styles) - MAX_KEY} more)"
    figure.legend(handles, labels, loc="outside upper left", ncols=6, fontsize=8, handletextpad=0.2, columnspacing=1.2)


def _key_styles(study: Study) -> Mapping[tuple[str, str], dict[str, Any]]:
    """{(factor, level): how it is drawn}, color first, then marker, then filling."""
    column, row = shown_factors(study)
    look = looks(study)
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for factor in [column, row, *(f for f in tested_factors(study) if f not in (column, row))]:
        for variant in (v for v in study.variants if not v.is_control and factor in v.factors):
            found.setdefault((factor, variant.factors[factor]), _key_style(look[variant.name], factor, column, row))
    return found


def _key_style(look: Look, factor: str, column: str, row: str) -> dict[str, Any]:
    if factor == column:
        return {"color": look.color, "marker": "o"}
    if factor == row:
        return {"color": MUTED, "marker": look.marker}
    return {"color": MUTED, "marker": "o", "markerfacecolor": MUTED if look.is_filled else CARD}


def draw_dot(ax: Any, value: float, y: float, ci: tuple[float, float] | None, look: Look) -> None:
    """A value with its interval, lying."""
    low, high = ci or (value, value)
    # One line with one marker: an error bar is several artists, and a report has thousands.
    ax.plot([low, value, high], [y] * 3, markevery=[1], linewidth=1.8, **look.marked())
