"""The reward of flow_grpo's GenEval server: GenEval's clauses with exact counts. A training reward, not GenEval.

Its rule, read from yifan123/reward-server (reward_server/gen_eval.py): an object clause wants its count exactly,
`exclude` is not looked at, and every answer, as it is given, goes into a mean. Two of its habits are kept, because
models were trained on them: a failed relation adds both a 0 and a 1, and many surplus objects make the mean negative.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from geneval.options import DEFAULTS, Options
from geneval.prompts import TASKS
from geneval.rules import Box, ColorAnswer, Rows, answers_of, color_reason, float32_row, keep, position_reason

_OTHER_TASK = -10.0  # in grouped rewards, for an image of another task


class Reward(NamedTuple):
    """`correct`: the strict reward; `score`: the graded one, at most 1; `reason`: one line a failed clause."""

    correct: bool
    score: float
    reason: str


def strict_reward(
    metadata: Mapping[str, Any],
    detections: Mapping[str, Rows],
    colors: Mapping[str, Sequence[ColorAnswer]] | None = None,
    options: Options = DEFAULTS,
) -> Reward:
    """The server's strict and graded reward of one image; arguments as in `geneval.check`."""
    kept = keep(detections, options, metadata["tag"])
    reasons: list[str] = []
    parts: list[float] = []
    matched: list[list[Box] | None] = []
    for clause in metadata.get("include", ()):
        found = kept.get(clause["class"], [])
        boxes: list[Box] = [float32_row(detections[clause["class"]][i]) for i in found]
        reason, scores = _clause(clause, found, boxes, colors, matched, options)
        parts += scores
        matched.append(None if reason else boxes)
        if reason:
            reasons.append(reason)
    return Reward(not reasons, sum(parts) / len(parts) if parts else 0.0, "\n".join(reasons))


def grouped(tags: Sequence[str], values: Sequence[float]) -> dict[str, list[float]]:
    """task -> the values of its images in order, -10 at the places of the others: what the server calls group rewards.

    Empty without images, as the server's.
    """
    tasks = TASKS if tags else ()
    return {task: [value if tag == task else _OTHER_TASK for tag, value in zip(tags, values)] for task in tasks}


def _clause(
    clause: Mapping[str, Any],
    found: list[int],
    boxes: list[Box],
    colors: Mapping[str, Sequence[ColorAnswer]] | None,
    matched: Sequence[list[Box] | None],
    options: Options,
) -> tuple[str, list[float]]:
    """The reason why a clause fails ("" where it holds) and what it adds to the mean."""
    name, count = clause["class"], clause["count"]
    if count < 1:
        raise ValueError(f"the strict reward needs a count of 1 or more for {name!r}, not {count}")
    scores = [1 - abs(count - len(found)) / count]
    if len(found) != count:
        more = [0.0] if "color" in clause or "position" in clause else []
        return f"expected {name}=={count}, found {len(found)}", scores + more
    if "color" in clause:
        answers = answers_of(name, found, colors)
        scores.append(1 - abs(count - answers.count(clause["color"])) / count)
        if reason := color_reason(clause, answers):
            return reason, scores
    if "position" in clause:
        relation, index = clause["position"]
        targets = matched[index]
        if reason := position_reason(name, relation, boxes, targets, options.position_threshold):
            return reason, [*scores, 0.0] if targets is None else [*scores, 0.0, 1.0]
        scores.append(1.0)
    return "", scores
