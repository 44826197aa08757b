"""Human verdicts and agreement on annotation files made here in GenEval's format."""

import csv
import io

import pytest

from geneval.detections import ImageDetections
from geneval.prompts import official_prompts
from geneval.validate import (
    MODELS,
    AnnotationError,
    JudgedImage,
    agreement,
    human_verdict,
    read_annotations,
    validate_folder,
    validation_text,
)

PROMPTS = official_prompts()
COLUMNS = ["HITId", "Input.index", "Input.prompt_id", "Input.image_id", "Input.caption", "Answer.task-objects"]
COLUMNS += [f"Answer.task-{kind}-{k}" for kind in ("count", "color") for k in (0, 1)]
COLUMNS += ["Answer.task-position-x", "Answer.task-position-y"]


def _first(tag):
    return next(i for i, prompt in enumerate(PROMPTS) if prompt.tag == tag)


def _answers(index, *, is_right=True, copy=0):
    """An annotator's row that does (or does not) find what the prompt asks for."""
    prompt = PROMPTS[index]
    row = dict.fromkeys(COLUMNS, "")
    row |= {"Input.prompt_id": str(index), "Input.image_id": str(copy), "Input.caption": prompt.prompt}
    for k, clause in enumerate(prompt.include):
        row[f"Answer.task-count-{k}"] = str(clause.count if is_right else clause.count - 1)
        row[f"Answer.task-color-{k}"] = f"gray|{clause.color}" if clause.color else "gray"
        if clause.position:
            word = clause.position[0].removesuffix(" of")
            row["Answer.task-position-x"] = word if word in ("left", "right") else "neither_x"
            row["Answer.task-position-y"] = word if word in ("above", "below") else "neither_y"
    row["Answer.task-objects"] = 'a cat\rand a "dog", perhaps'
    return row


def _write(path, rows):
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(text.getvalue().encode())


@pytest.mark.parametrize("tag", ["single_object", "two_object", "counting", "colors", "position", "color_attr"])
def test_human_verdicts_follow_the_clauses(tag):
    index = _first(tag)
    assert human_verdict(PROMPTS[index], _answers(index))
    assert not human_verdict(PROMPTS[index], _answers(index, is_right=False))


def test_more_objects_fail_only_the_counting_task():
    for tag, expected in (("counting", False), ("single_object", True)):
        row = _answers(_first(tag)) | {"Answer.task-count-0": "5"}
        assert human_verdict(PROMPTS[_first(tag)], row) is expected


def test_wrong_color_and_wrong_relation_fail():
    color, position = _first("colors"), _first("position")
    assert not human_verdict(PROMPTS[color], _answers(color) | {"Answer.task-color-0": "gray|gold"})
    neither = {"Answer.task-position-x": "neither_x", "Answer.task-position-y": "neither_y"}
    assert not human_verdict(PROMPTS[position], _answers(position) | neither)


def test_rows_end_at_newlines_only(tmp_path):
    _write(tmp_path / "a.csv", [_answers(0), _answers(0, is_right=False), _answers(1)])
    judged = read_annotations(tmp_path / "a.csv", "clip")
    assert [image.verdicts for image in judged] == [(True, False), (True,)]


def test_agreement_of_a_folder(tmp_path):
    """Our score is right on prompt 0 in all models and wrong on prompt 1; people find both right."""
    for model in MODELS:
        rows = [_answers(i, copy=copy) for i in (0, 1) for copy in (0, 1) for _ in range(5)]
        rows[-1] = _answers(1, copy=1, is_right=False)
        _write(tmp_path / f"annotations_{model}.csv", rows)
        (tmp_path / model).mkdir()
        with open(tmp_path / model / "detections.jsonl", "w") as file:
            for i in (0, 1):
                found = {PROMPTS[0].include[0].class_name: [[0, 0, 9, 9, 0.95]]}
                for copy in (0, 1):
                    file.write(ImageDetections(f"{i:05}/samples/{copy:05}.png", (9, 9), found, {}, {}).line() + "\n")
    result = validate_folder(tmp_path, tmp_path)
    assert result["overall"]["majority"] == 0.5 and result["overall"]["n"] == 12
    assert result["unanimous"]["n"] == 9 and result["overall"]["annotators"] == pytest.approx((30 + 3) / 60)
    assert result["annotators"] == pytest.approx((9 * 10 + 3 * 6) / 120)
    assert "83%" in validation_text(result) and "860" in validation_text(result)


def test_kappa_is_cohens():
    judged = [JudgedImage("clip", i, 0, "colors", (i < 5,)) for i in range(10)]
    assert agreement(judged, [i < 5 for i in range(10)])["overall"]["kappa"] == 1
    assert agreement(judged, [i % 2 == 0 for i in range(10)])["overall"]["kappa"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    "change",
    [
        {"Input.prompt_id": "x"},
        {"Input.prompt_id": "9999"},
        {"Input.caption": "other"},
        {"Answer.task-count-0": "many"},
    ],
)
def test_damaged_annotations_name_the_row(tmp_path, change):
    _write(tmp_path / "a.csv", [_answers(0), _answers(0) | change])
    with pytest.raises(AnnotationError, match="row 3"):
        read_annotations(tmp_path / "a.csv", "clip")


def test_missing_files_and_columns_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"annotations_clip\.csv"):
        validate_folder(tmp_path, tmp_path)
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(AnnotationError, match=r"Input\.prompt_id"):
        read_annotations(tmp_path / "a.csv", "clip")
