"""Verdicts against the original's, and the rules' edges one by one."""

import gzip
import json
import subprocess
import sys

import pytest

from geneval.options import Options
from geneval.prompts import OBJECTS, RELATIONS
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


def objects(*lefts, score=0.95):
    """Rows of 10 px objects at these left edges."""
    return [[x, 0, x + 10, 10, score] for x in lefts]


RED_CATS_AND_A_BUS = {
    "tag": "x",
    "include": [
        {"class": "cat", "count": 3, "color": "red"},
        {"class": "bus", "count": 1, "position": ["right of", 0]},
    ],
    "exclude": [{"class": "dog", "count": 1}],
    "prompt": "",
}


@pytest.mark.parametrize(
    ("detections", "answers", "parts"),
    [
        # two of the cats red, the bus right of two; no dog
        ({"cat": objects(100, 20, 0), "bus": objects(50)}, ["red", "red", "blue"], [(1 + 2 / 3) / 2] * 2 + [1]),
        # a single cat earns nothing for its color; the bus is there, and right of it
        ({"cat": objects(0), "bus": objects(50)}, ["red"], [(1 / 3 + 0) / 2, 1, 1]),
        # nothing there earns nothing; a dog of none allowed neither
        ({"dog": objects(0)}, [], [0, 0, 0]),
        # without cats the bus is right of none
        ({"bus": objects(50)}, [], [0, (1 + 0) / 2, 1]),
    ],
)
def test_a_grade_is_the_mean_of_its_clauses_shares(detections, answers, parts):
    found = grade(RED_CATS_AND_A_BUS, detections, {"cat": answers})
    assert found == pytest.approx(0.99 * sum(parts) / 3)


def test_what_is_asked_none_of_is_there_in_full():
    none = {"class": "cat", "count": 0, "color": "red"}
    prompt = {"tag": "x", "include": [none, {"class": "bus", "count": 1}], "prompt": ""}
    assert grade(prompt, {}) == pytest.approx(0.99 * (1 + 0) / 2)


@pytest.mark.parametrize(("count", "share"), [(1, 0), (3, 2 / 4)])
def test_extra_objects_keep_the_share_that_was_allowed(count, share):
    prompt = {"tag": "x", "include": [], "exclude": [{"class": "cat", "count": count}], "prompt": ""}
    assert grade(prompt, {"cat": objects(0, 20, 40, 60)}) == pytest.approx(0.99 * share)


@pytest.mark.parametrize(("offset", "relations"), [(0.0009, []), (0.001, ["right of"]), (0.00105, ["right of"])])
def test_offsets_below_a_thousandth_of_a_pixel_are_none(offset, relations):
    assert relative_position([offset, 0, offset, 0], [0, 0, 0, 0], threshold=0.0) == relations


def test_only_lines_of_relations_are_sorted():
    line = "expected bus left of target, found "
    for tail in ("right of and above", "green and above target"):
        assert sort_relations(line + tail) == line + tail
    everything = "above and right of and below and left of target"
    assert sort_relations(line + everything) == f"{line}{' and '.join(RELATIONS)} target"


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
