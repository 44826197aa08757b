"""An image's verdict from its detections: what the command line, the judge in a process and the service all call."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from geneval.comparability import NOT_COMPARABLE
from geneval.detections import ImageDetections
from geneval.flow_grpo import strict_reward
from geneval.options import DEFAULTS, Options
from geneval.rules import check, grade, keep

GENEVAL, STRICT = "geneval", "flow_grpo strict"


@dataclass(frozen=True)
class Judged:
    """One image's verdict. By the rule "flow_grpo strict" the grade is that server's score, which can be negative."""

    rule: str  # GENEVAL or STRICT
    correct: bool
    reason: str  # one line a failed clause; "" when correct
    kept: dict[str, list[list[float]]]  # class -> rows [x0, y0, x1, y1, score] that count, most confident first
    note: str = ""  # why the verdict may not stand beside published ones
    _grade: Any = field(default=None, repr=False, compare=False)

    @cached_property
    def grade(self) -> float:
        """How much of the prompt the image shows, in [0, 1]; 1 exactly when correct. Made when it is asked for."""
        return float(self._grade())


def judge_line(
    metadata: Mapping[str, Any], line: ImageDetections, options: Options = DEFAULTS, *, strict: bool = False
) -> Judged:
    """The verdict on the image of a line of detections; `MissingColor` where the verdict needs more than it holds."""
    note = "" if line.detector.get("comparable") else NOT_COMPARABLE
    if strict:
        reward = strict_reward(metadata, line.detections, line.colors, options)
        kept = keep(line.detections, options, metadata["tag"])
        return Judged(STRICT, reward.correct, reward.reason, _rows(line, kept), note, lambda: reward.score)
    verdict = check(metadata, line.detections, line.colors, options)

    def graded() -> float:
        return 1.0 if verdict.correct else grade(metadata, line.detections, line.colors, options)

    return Judged(GENEVAL, verdict.correct, verdict.reason, _rows(line, verdict.kept), note, graded)


def _rows(line: ImageDetections, kept: Mapping[str, list[int]]) -> dict[str, list[list[float]]]:
    return {name: [line.detections[name][i] for i in indices] for name, indices in kept.items()}
