"""GenEval's verdict from raw detections: float32 thresholds, order, cap, overlap, presence, color, position, exclude.

Pure Python and numpy. Numbers are float32 wherever the original's are: a score equal to float32(0.3) is rejected.
"""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from geneval.options import DEFAULTS, Options
from geneval.prompts import COLORS, RELATIONS
from geneval.ties import confidence_order

Box = Sequence[float]
Rows = Sequence[Sequence[float]]
ColorAnswer = str | None


class MissingColor(ValueError):
    """The verdict needs the color of an object that the classifier was not asked about."""


class Detection(NamedTuple):
    """One detected object of a class: box in pixels of the image, x1 and y1 exclusive, and its confidence."""

    x0: float
    y0: float
    x1: float
    y1: float
    score: float


@dataclass(frozen=True)
class Verdict:
    """What the rules say about one image."""

    correct: bool
    reason: str  # one line a failed clause; "" when correct
    kept: dict[str, list[int]]  # class -> indices of the detections that count, most confident first
    color_queries: list[tuple[str, list[int]]]  # the objects whose color was asked for, in order


def check(
    metadata: Mapping[str, Any],
    detections: Mapping[str, Rows],
    colors: Mapping[str, Sequence[ColorAnswer]] | None = None,
    options: Options = DEFAULTS,
) -> Verdict:
    """The original's verdict on one image.

    `detections`: class -> rows `[x0, y0, x1, y1, score]`, before any threshold, classes in the detector's order.
    `colors` runs parallel to them; None where the classifier was not asked (`MissingColor` if the verdict needs it).
    """
    kept = keep(detections, options, metadata["tag"])
    queries: list[tuple[str, list[int]]] = []
    reasons: list[str] = []
    matched: list[list[Box] | None] = []
    for clause in metadata.get("include", ()):
        name, count = clause["class"], clause["count"]
        found = kept.get(name, [])[:count]
        boxes: list[Box] = [float32_row(detections[name][i]) for i in found]
        reason = _presence(name, count, len(found))
        if not reason and "color" in clause:
            queries.append((name, found))
            reason = color_reason(clause, answers_of(name, found, colors))
        if not reason and "position" in clause:
            relation, index = clause["position"]
            reason = position_reason(name, relation, boxes, matched[index], options.position_threshold)
        matched.append(None if reason else boxes)
        if reason:
            reasons.append(reason)
    for clause in metadata.get("exclude", ()):
        num_found = len(kept.get(clause["class"], ()))
        if num_found >= clause["count"]:
            reasons.append(f"expected {clause['class']}<{clause['count']}, found {num_found}")
    return Verdict(not reasons, "\n".join(reasons), kept, queries)


def grade(
    metadata: Mapping[str, Any],
    detections: Mapping[str, Rows],
    colors: Mapping[str, Sequence[ColorAnswer]] | None = None,
    options: Options = DEFAULTS,
) -> float:
    """How much of the prompt the image shows, in [0, 1]: 1 exactly when `check` says correct.

    The mean over clauses of the share found, of the share with the color and of the share of pairs in the relation;
    a clause that fails an earlier step gets nothing for the later ones. For ranking a model's own samples.
    """
    verdict = check(metadata, detections, colors, options)
    if verdict.correct:
        return 1.0
    parts: list[float] = []
    matched: list[list[Box]] = []
    for clause in metadata.get("include", ()):
        name, count = clause["class"], clause["count"]
        found = verdict.kept.get(name, [])[:count]
        boxes: list[Box] = [float32_row(detections[name][i]) for i in found]
        steps = [len(found) / count if count else 1.0]
        if "color" in clause:
            is_complete = len(found) >= count
            answers = answers_of(name, found, colors) if is_complete else []
            steps.append(sum(a == clause["color"] for a in answers) / count if answers else float(not count))
        if "position" in clause:
            relation, index = clause["position"]
            pairs = [
                relation in relative_position(a, b, options.position_threshold) for a in boxes for b in matched[index]
            ]
            steps.append(sum(pairs) / len(pairs) if pairs else 0.0)
        matched.append(boxes)
        parts.append(sum(steps) / len(steps))
    for clause in metadata.get("exclude", ()):
        num_found = len(verdict.kept.get(clause["class"], ()))
        allowed = clause["count"] - 1
        parts.append(1.0 if num_found <= allowed else max(allowed, 0) / num_found)
    # A wrong image can have every share full (a group that failed its color is no target); keep it below 1.
    return 0.99 * sum(parts) / len(parts)


def keep(detections: Mapping[str, Rows], options: Options, tag: str) -> dict[str, list[int]]:
    """Class -> indices of the detections that count, most confident first; classes with none are left out."""
    threshold = float(np.float32(options.score_threshold(tag)))
    kept: dict[str, list[int]] = {}
    for name, rows in detections.items():
        scores = [row[4] for row in rows]
        # Rounding keeps order and the threshold is a float32: what is not above it now is not afterwards either.
        if scores and max(scores) > threshold:
            scores = array("f", scores).tolist()
            order = [i for i in confidence_order(scores) if scores[i] > threshold][: options.max_objects]
            if options.max_overlap != 1:
                order = _without_overlaps(order, [float32_row(row) for row in rows], options.max_overlap)
            if order:
                kept[name] = order
    return kept


def relative_position(a: Box, b: Box, threshold: float = 0.1) -> list[str]:
    """The relations of box `a` to box `b`, in the order of RELATIONS; none when they are too close (float32)."""
    boxes = np.array([a[:4], b[:4]], dtype=np.float32).reshape(2, 2, 2)  # box, corner, axis
    centers = boxes.mean(axis=1)
    sizes = np.abs(boxes[:, 1] - boxes[:, 0])
    offset = centers[0] - centers[1]
    margin = np.float32(threshold) * (sizes[0] + sizes[1])
    revised = np.maximum(np.abs(offset) - margin, np.float32(0)) * np.sign(offset)
    if np.all(np.abs(revised) < 1e-3):
        return []
    x, y = (revised / np.linalg.norm(offset)).tolist()
    return [name for name, is_so in zip(RELATIONS, (x < -0.5, x > 0.5, y < -0.5, y > 0.5)) if is_so]


def overlap(a: Box, b: Box) -> float:
    """IoU with the original's inclusive pixel areas; float32 differences, then double, as under numpy 1."""
    ax0, ay0, ax1, ay1 = array("f", a[:4]).tolist()
    bx0, by0, bx1, by1 = array("f", b[:4]).tolist()
    inner = _area(max(ax0, bx0), max(ay0, by0), min(ax1, bx1), min(ay1, by1))
    union = _area(ax0, ay0, ax1, ay1) + _area(bx0, by0, bx1, by1) - inner
    return inner / union if union else 0.0


def _area(x0: float, y0: float, x1: float, y1: float) -> float:
    width, height = array("f", (x1 - x0, y1 - y0)).tolist()
    return max(width + 1, 0) * max(height + 1, 0)


def _without_overlaps(order: list[int], rows: Rows, max_overlap: float) -> list[int]:
    """Greedy suppression: a box goes when a more confident survivor covers it by `max_overlap` or more."""
    survivors: list[int] = []
    for i in order:
        if all(overlap(rows[i], rows[j]) < max_overlap for j in survivors):
            survivors.append(i)
    return survivors


def float32_row(row: Sequence[float]) -> list[float]:
    """The row in the original's precision."""
    return array("f", row).tolist()


def answers_of(name: str, found: list[int], colors: Mapping[str, Sequence[ColorAnswer]] | None) -> list[str]:
    """The colors of these detections; `MissingColor` where one was not classified."""
    answers = [colors[name][i] if colors and name in colors else None for i in found]
    if None in answers:
        raise MissingColor(f"the color of {name!r} was not classified; run `python -m geneval detect` with --clip")
    return [answer for answer in answers if answer is not None]


def _presence(name: str, count: int, num_found: int) -> str:
    return "" if num_found >= count else f"expected {name}>={count}, found {num_found}"


def color_reason(clause: Mapping[str, Any], answers: list[str]) -> str:
    """Why the colors do not fit the clause; "" where they do."""
    wanted, name, count = clause["color"], clause["class"], clause["count"]
    num_wanted = answers.count(wanted)
    if num_wanted >= count:
        return ""
    seen = ", ".join(f"{answers.count(color)} {color}" for color in COLORS if color in answers)
    return f"expected {wanted} {name}>={count}, found {num_wanted} {wanted}; and {seen}"


def position_reason(name: str, relation: str, boxes: list[Box], targets: list[Box] | None, threshold: float) -> str:
    """Why an object is not in the relation to all targets; "" where every one is."""
    if targets is None:
        return f"no target for {name} to be {relation}"
    for box in boxes:
        for target in targets:
            relations = relative_position(box, target, threshold)
            if relation not in relations:
                return f"expected {name} {relation} target, found {' and '.join(relations)} target"
    return ""


def sort_relations(reason: str) -> str:
    """A reason with joined relations in fixed order: the original joins a set, whose order is arbitrary."""
    return "\n".join(_sorted_line(line) for line in reason.split("\n"))


def _sorted_line(line: str) -> str:
    head, separator, tail = line.rpartition(" target, found ")
    if not separator or not tail.endswith(" target"):
        return line
    found = tail.removesuffix(" target").split(" and ")
    if not set(found) <= set(RELATIONS):
        return line
    return f"{head}{separator}{' and '.join(sorted(found, key=RELATIONS.index))} target"
