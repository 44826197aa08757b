"""How a variant is drawn, the same in every figure of a report.

Color is the level of the interaction's column factor (diversity), marker and line style that of its row factor
(volume), a filled marker the first level of the remaining factors (no preference training).
"""

from dataclasses import dataclass
from typing import Any

from reports.figures.figure import CARD, MUTED, PALETTE
from reports.records.study import Study, Variant

MARKERS = ("o", "s", "^", "D", "v", "P")
LINES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Look:
    """Color, marker and line of a variant."""

    color: str
    marker: str = "o"
    line: str = "-"
    is_filled: bool = True

    def errorbar(self) -> dict[str, Any]:
        face = self.color if self.is_filled else CARD
        return {"color": self.color, "marker": self.marker, "markerfacecolor": face, "markeredgecolor": self.color,
                "markersize": 6, "markeredgewidth": 1.4, "elinewidth": 1.8, "capsize": 0}  # fmt: skip


def looks(study: Study) -> dict[str, Look]:
    """The look of each variant; without an interaction the first factor gives the color."""
    factors = tested_factors(study)
    column = study.interaction.get("columns") or (factors[0] if factors else "")
    row = study.interaction.get("rows", "")
    first = {factor: levels(study, factor)[0] for factor in factors if factor not in (column, row)}
    found = {}
    for variant in study.variants:
        color = PALETTE[_level(study, variant, column) % len(PALETTE)] if not variant.is_control else MUTED
        place = _level(study, variant, row)
        is_filled = all(variant.factors.get(factor, level) == level for factor, level in first.items())
        found[variant.name] = Look(color, MARKERS[place % len(MARKERS)], LINES[place % len(LINES)], is_filled)
    return found


def tested_factors(study: Study) -> list[str]:
    """The factors of the variants under test; random draws of an arm look alike."""
    tested = [variant for variant in study.variants if not variant.is_control]
    return list(dict.fromkeys(factor for variant in tested for factor in variant.factors if factor != "draw"))


def levels(study: Study, factor: str) -> list[str]:
    """A factor's levels in the order in which the variants name them."""
    return list(dict.fromkeys(variant.factors[factor] for variant in study.variants if factor in variant.factors))


def _level(study: Study, variant: Variant, factor: str) -> int:
    return levels(study, factor).index(variant.factors[factor]) if factor in variant.factors else 0


def draw_dot(ax: Any, value: float, y: float, ci: tuple[float, float] | None, look: Look) -> None:
    """A value with its interval, lying."""
    error = None if ci is None else [[max(value - ci[0], 0)], [max(ci[1] - value, 0)]]
    ax.errorbar([value], [y], xerr=error, linestyle="none", **look.errorbar())
