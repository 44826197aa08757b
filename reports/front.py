"""What a score costs: variants by the time of an image, and those that nothing cheaper reaches.

`speed.json` beside study.json has the time (`python -m ablations time DIR`), measured in one run.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from lightgen.disk.json_files import read_object
from reports.records.fields import are_numbers
from reports.records.study import Study, Variant
from reports.scores import Score, Scores
from reports.words import OVERALL

SPEED = "speed.json"


@dataclass(frozen=True, kw_only=True)
class Priced:
    """A variant with the seconds of an image in each repetition and its score."""

    variant: Variant
    seconds: tuple[float, ...]
    score: Score
    is_on_front: bool

    @property
    def middle(self) -> float:
        return median(self.seconds)

    @property
    def data(self) -> dict[str, Any]:
        """For machines."""
        return {
            "variant": self.variant.name, "seconds_per_image": self.middle, "least": min(self.seconds),
            "most": max(self.seconds), "geneval_overall": self.score.value, "on_front": self.is_on_front,
        }  # fmt: skip


def priced(study: Study, scores: Scores) -> list[Priced]:
    """The variants under test that were timed and scored, cheapest first; none where nothing was timed.

    On the front is what no other variant beats: a higher mean score in a time that is not longer, where ranges of
    repetitions that overlap are the same time.
    """
    timed, rows = read_speed(study.folder), []
    for variant in study.variants:
        if not variant.is_control and variant.name in timed and (variant.name, "", OVERALL) in scores:
            rows.append((variant, timed[variant.name], scores[variant.name, "", OVERALL]))
    found = [
        Priced(variant=variant, seconds=seconds, score=score, is_on_front=not any(
            other.value > score.value and min(its) <= max(seconds) for _, its, other in rows
        ))
        for variant, seconds, score in rows
    ]  # fmt: skip
    return sorted(found, key=lambda row: row.middle)


def read_speed(folder: Path) -> Mapping[str, tuple[float, ...]]:
    """{variant: seconds of an image, one a repetition}; empty where nobody measured. ValueError for damaged ones."""
    path = folder / SPEED
    if not os.path.lexists(path):
        return {}
    found = read_object(path, seconds=dict)["seconds"]
    for name, values in found.items():
        if not (are_numbers(values) and values and min(values) > 0):
            raise ValueError(f"{path}: seconds: {name}: expected times above 0, found {values!r}")
    return {str(name): tuple(float(value) for value in values) for name, values in found.items()}


def worth_showing(rows: Sequence[Priced]) -> bool:
    """Whether the variants cost differently at all."""
    return len(rows) > 1 and max(row.middle for row in rows) > 1.2 * min(row.middle for row in rows)


def front_line(study: Study, scores: Scores) -> str:
    """The front in words, with the most expensive variant; "" where nothing was timed or all cost alike."""
    rows = priced(study, scores)
    if not worth_showing(rows):
        return ""
    cheapest, most = rows[0].middle, rows[-1]
    on_front = "; ".join(_told(row, cheapest) for row in rows if row.is_on_front)
    told = f"score at the time of an image that nothing cheaper reaches: {on_front}"
    return f"{told}. The most expensive: {_told(most, cheapest)}"


def _told(row: Priced, cheapest: float) -> str:
    return f"{row.variant.label} {row.score.value:.3f} at {row.middle / cheapest:.1f} times the cheapest"
