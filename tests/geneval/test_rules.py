"""Verdicts against the original's, and the rules' edges one by one."""

import gzip
import json
import subprocess
import sys

import pytest

from geneval.options import Options
from geneval.prompts import OBJECTS
from geneval.rules import Detection, MissingColor, check, grade, overlap, relative_position, sort_relations
from geneval.ties import confidence_order

THRESHOLD = 0.30000001192092896  # float32(0.3)
ABOVE = 0.30000004172325134  # the next float32
CAT = {"tag": "single_object", "include": [{"class": "cat", "count": 1}], "prompt": "a photo of a cat"}


@pytest.fixture(scope="module")
def cases(geneval_golden):
    with gzip.open(geneval_golden / "cases.jsonl.gz", "rt", encoding="utf-8") as file:
        found = [json.loads(line) for line in file]
    assert len(found) >= 890 and {case["correct"] for case in found} == {True, False}
    return found


def recorded(path):
    """The rows of a recording, never none."""
    with gzip.open(path, "rt") as file:
        rows = [json.loads(line) for line in file]
    assert len(rows) >= 100
    return rows


def test_every_golden_case_is_equal_in_every_field(cases):
    for case in cases:
        verdict = check(case["metadata"], case["detections"], case["colors"], Options.parse(case["options"]))
        kept = {name: verdict.kept[name] for name in sorted(verdict.kept, key=OBJECTS.index)}
        queries = [[name, found] for name, found in verdict.color_queries]
        assert (verdict.correct, verdict.reason) == (case["correct"], case["reason_sorted"]), case["id"]
        assert (kept, queries) == (case["kept"], case["color_queries"]), case["id"]
        assert list(kept) == list(case["kept"])


def test_sorting_the_originals_relations_gives_our_reasons(cases):
    assert all(sort_relations(case["reason"]) == case["reason_sorted"] for case in cases)


def test_relations_are_equal(geneval_golden):
    for a, b, relations in recorded(geneval_golden / "relative_position.jsonl.gz"):
        assert relative_position(a, b) == relations


def test_overlaps_are_equal(geneval_golden):
    for a, b, expected in recorded(geneval_golden / "compute_iou.jsonl.gz"):
        assert overlap(a, b) == expected


def test_grade_is_one_exactly_for_correct_images(cases):
    for case in cases:
        value = grade(case["metadata"], case["detections"], case["colors"], Options.parse(case["options"]))
        assert 0 <= value <= 1 and (value == 1) == case["correct"]


def test_grade_rises_with_what_is_shown():
    def graded(*names, color="red"):
        detections = {name: [Detection(0, 0, 9, 9, 0.95)] * names.count(name) for name in names}
        colors = {name: [color] * len(rows) for name, rows in detections.items()}
        return grade(prompt, detections, colors)

    clauses = [{"class": "cat", "count": 2, "color": "red"}, {"class": "bus", "count": 1}]
    prompt = {"tag": "x", "include": clauses, "prompt": ""}
    grades = [
        graded(),
        graded("cat"),
        graded("cat", "bus"),
        graded("cat", "cat", "bus", color="blue"),
        graded("cat", "cat", "bus"),
    ]
    assert grades == sorted(set(grades)) and grades[0] == 0 and grades[-1] == 1


def test_grade_of_a_count_falls_with_every_extra_object():
    prompt = {
        "tag": "counting",
        "include": [{"class": "cat", "count": 2}],
        "exclude": [{"class": "cat", "count": 3}],
        "prompt": "a photo of two cats",
    }
    grades = [grade(prompt, {"cat": [[0, 0, 9, 9, 0.95]] * n}) for n in (2, 3, 4, 5)]
    assert grades == sorted(grades, reverse=True) and len(set(grades)) == 4


@pytest.mark.parametrize(("score", "correct"), [(THRESHOLD, False), (0.3, False), (ABOVE, True)])
def test_threshold_is_float32_and_strict(score, correct):
    assert check(CAT, {"cat": [[0, 0, 1, 1, score]]}).correct is correct


def test_counting_needs_higher_scores():
    detections = {"cat": [[0, 0, 1, 1, 0.8]]}
    assert check(CAT, detections).correct
    assert not check(CAT | {"tag": "counting"}, detections).correct


@pytest.mark.parametrize("size", [1, 2, 16, 17])
def test_of_equal_scores_the_later_comes_first(size):
    assert confidence_order([0.5] * size) == list(range(size))[::-1]


def test_long_lists_of_ties_follow_numpys_quicksort():
    assert confidence_order([0.5] * 20) == [19, 18, *range(1, 18), 0]


def test_a_color_that_was_not_classified_is_an_error_not_a_verdict():
    metadata = {"tag": "colors", "include": [{"class": "cat", "count": 1, "color": "red"}], "prompt": "p"}
    detections = {"cat": [[0, 0, 1, 1, 0.9]]}
    for colors in (None, {}, {"cat": [None]}):
        with pytest.raises(MissingColor, match="cat"):
            check(metadata, detections, colors)
    assert not check(metadata, {}, None).correct


@pytest.mark.parametrize(
    "given",
    [{"treshold": "0.3"}, {"threshold": "high"}, {"threshold": "nan"}, {"max_objects": "-1"}, {"max_objects": "2.5"}],
)
def test_wrong_options_are_refused(given):
    with pytest.raises(ValueError, match=next(iter(given))):
        Options.parse(given)


def test_the_rules_load_no_torch():
    code = "import sys, geneval.scores, geneval.statistics, geneval.summary; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
