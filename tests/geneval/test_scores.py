"""A folder's verdicts: the original's bytes, and nothing dropped in silence."""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from geneval.completeness import IncompleteFolder
from geneval.detections import ImageDetections, read_lines
from geneval.layout import sample_path, write_prompt_folder
from geneval.prompts import OBJECTS, Prompt, prompt_suite
from geneval.protocol import differing
from geneval.scores import ResultsError, format_results, grade_folder, read_provenance, read_results, score_folder
from geneval.summary import summary_text


def _by_class_order(detections):
    return {name: detections[name] for name in sorted(detections, key=OBJECTS.index)}


@pytest.fixture
def layout(geneval_golden, tmp_path, monkeypatch):
    """The golden folder with its recorded answers as a detections.jsonl."""
    shutil.copytree(geneval_golden / "layout", tmp_path / "layout", copy_function=shutil.copyfile)
    for path in tmp_path.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    monkeypatch.chdir(tmp_path)
    recorded = json.loads(Path("layout/detections.json").read_text())
    with open("layout/images/detections.jsonl", "w") as file:
        for name, answer in recorded.items():
            filename = name.removeprefix("layout/images/")
            detections = _by_class_order(answer["detections"])
            file.write(ImageDetections(filename, (64, 64), detections, answer["colors"], {}).line() + "\n")
    return Path("layout/images")


def test_results_have_the_originals_bytes(layout, geneval_golden):
    rows = score_folder(layout, Path("out.jsonl"), allow_partial=True)
    complete = [{name: value for name, value in row.items() if name != "partial"} for row in rows]
    assert format_results(complete).encode() == (geneval_golden / "layout" / "results.jsonl").read_bytes()
    assert all(row["partial"] for row in read_results(Path("out.jsonl")))
    assert "PARTIAL" in summary_text(rows)
    assert json.loads(Path("out.jsonl.json").read_text())["status"] == "partial"


def test_results_of_the_original_are_read(geneval_golden):
    rows = read_results(geneval_golden / "layout" / "results.jsonl")
    assert format_results(rows).encode() == (geneval_golden / "layout" / "results.jsonl").read_bytes()


def test_summaries_are_the_originals_text(geneval_golden):
    paths = list((geneval_golden / "summary").glob("*.jsonl"))
    assert len(paths) >= 2
    for path in paths:
        assert summary_text(read_results(path)) == path.with_suffix(".txt").read_text(), path.name


# --- completeness ---------------------------------------------------------------------------------------------------

PROMPTS = prompt_suite(["cat", "dog", "bus"], num_prompts=2)


def _line(filename):
    rows = {name: [[0, 0, 9, 9, 0.95]] for name in ("cat", "dog", "bus")}
    return ImageDetections(filename, (32, 32), rows, {name: ["red"] for name in rows}, {"weights": "w"})


@pytest.fixture
def images(tmp_path):
    """A complete folder of two images a prompt."""
    with open(tmp_path / "detections.jsonl", "w") as file:
        for index, prompt in enumerate(PROMPTS):
            write_prompt_folder(tmp_path, index, prompt)
            for copy in range(2):
                path = sample_path(tmp_path, index, copy)
                path.write_bytes(b"png")
                file.write(_line(str(path.relative_to(tmp_path))).line() + "\n")
    return tmp_path


def test_a_complete_folder_is_scored(images, tmp_path):
    rows = score_folder(images, tmp_path / "r.jsonl", prompts=PROMPTS)
    assert len(rows) == 2 * len(PROMPTS) and "partial" not in rows[0]
    assert all(row["correct"] for row in rows if row["tag"] in ("single_object", "two_object"))
    provenance = json.loads((tmp_path / "r.jsonl.json").read_text())
    assert provenance["status"] == "complete" and provenance["detector"] == {"weights": "w"}


def test_grades_agree_with_verdicts(images):
    grades = grade_folder(images)
    rows = score_folder(images, prompts=PROMPTS)
    assert {os.path.join(images, name): value == 1 for name, value in grades.items()} == {
        row["filename"]: row["correct"] for row in rows
    }


def _remove_folder(images):
    shutil.rmtree(images / "00001")


def _remove_sample(images):
    sample_path(images, 1, 1).unlink()


def _add_sample(images):
    sample_path(images, 1, 2).write_bytes(b"png")


def _remove_metadata(images):
    (images / "00001" / "metadata.jsonl").unlink()


def _two_lines(images):
    path = images / "00001" / "metadata.jsonl"
    path.write_text(path.read_text() + "\n" + path.read_text())


def _foreign_prompt(images):
    foreign = Prompt("single_object", "a photo of a cow", ())
    (images / "00001" / "metadata.jsonl").write_text(foreign.line())


def _double_prompt(images):
    (images / "00001" / "metadata.jsonl").write_text(PROMPTS[0].line())


def _mangle(images):
    path = images / "00001" / "metadata.jsonl"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"tag": [record["tag"]], "prompt": [record["prompt"]]}))


def _remove_samples_folder(images):
    shutil.rmtree(images / "00001" / "samples")


def _lines(images):
    return list(read_lines(images / "detections.jsonl"))


def _write_lines(images, lines):
    (images / "detections.jsonl").write_text("".join(f"{line.line()}\n" for line in lines))


def _mix_detectors(images):
    first, *rest = _lines(images)
    _write_lines(images, [replace(first, detector={**first.detector, "weights": "other"}), *rest])


def _swap_metadata(images):
    """Detections know their prompt: the folder now says another."""
    lines = [replace(line, prompt=PROMPTS[int(line.filename[:5])].prompt) for line in _lines(images)]
    _write_lines(images, lines)
    for index, other in ((0, 1), (1, 0)):
        (images / f"{index:05}" / "metadata.jsonl").write_text(PROMPTS[other].line())


def _replace_pictures(images):
    _write_lines(images, [replace(line, sha256=hashlib.sha256(b"png").hexdigest()) for line in _lines(images)])
    sample_path(images, 1, 1).write_bytes(b"another")


def _remove_line(images):
    lines = (images / "detections.jsonl").read_text().splitlines(keepends=True)
    (images / "detections.jsonl").write_text("".join(lines[1:]))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_remove_folder, "no folder"),
        (_remove_sample, "1 images, expected 2"),
        (_add_sample, "2 images, expected 3"),
        (_remove_metadata, "metadata.jsonl: missing"),
        (_two_lines, "not one JSON document"),
        (_foreign_prompt, "not in the prompt set"),
        (_double_prompt, "occurs once more"),
        (_mangle, "batching loader"),
        (_remove_samples_folder, "samples: missing"),
        (_mix_detectors, "2 different detectors"),
        (_remove_line, "not in detections.jsonl"),
        (_swap_metadata, "was detected for"),
        (_replace_pictures, "00001/samples/00001.png: another picture"),
    ],
)
def test_an_incomplete_folder_is_refused_and_scored_as_partial_on_demand(images, damage, said):
    damage(images)
    with pytest.raises(IncompleteFolder, match=said):
        score_folder(images, prompts=PROMPTS)
    rows = score_folder(images, prompts=PROMPTS, allow_partial=True)
    assert all(row["partial"] for row in rows)


def test_the_official_prompts_are_expected_by_default(images):
    with pytest.raises(IncompleteFolder) as caught:
        score_folder(images)
    assert len(caught.value.problems) > 553 and "and " in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"tag":"a"', "not one JSON"),
        ("[1]", "must be a JSON object"),
        ('{"tag":"a","prompt":"p","metadata":"{}"}', "has no correct"),
        ('{"tag":"a","prompt":"p","metadata":"{}","correct":1}', "true or false"),
        ('{"tag":"a","prompt":"p","metadata":{},"correct":true}', "strings"),
        ("", "holds no rows"),
    ],
)
def test_wrong_results_are_refused(tmp_path, text, said):
    path = tmp_path / "r.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        read_results(path)
    assert issubclass(ResultsError, ValueError)


def test_stale_pictures_are_in_no_partial_score(images):
    _replace_pictures(images)
    rows = score_folder(images, prompts=PROMPTS, allow_partial=True)
    assert len(rows) == 2 * len(PROMPTS) - 1 and not any(
        row["filename"].endswith("00001/samples/00001.png") for row in rows
    )


def test_results_that_lost_rows_or_hold_them_twice_are_refused(images, tmp_path):
    out = tmp_path / "r.jsonl"
    rows = score_folder(images, out, prompts=PROMPTS)
    assert read_results(out) == rows
    lines = out.read_text().splitlines(keepends=True)
    out.write_text("".join(line for line in lines if '"correct":true' in line))
    with pytest.raises(ResultsError, match=f"not the {len(lines)} that r.jsonl.json"):
        read_results(out)
    out.write_text("".join([*lines, lines[0]]))
    with pytest.raises(ResultsError, match="occurs 2 times"):
        read_results(out)


def test_the_protocol_stands_beside_every_score(images, tmp_path):
    def scored(name, **protocol):
        made = {"pipeline": "/somewhere/model", "call": {}, "protocol": {"steps": 50, "dtype": "bfloat16", **protocol}}
        (images / "generation.json").write_text(json.dumps(made))
        score_folder(images, tmp_path / name, prompts=PROMPTS)
        return read_provenance(tmp_path / name)

    a, b = scored("a.jsonl"), scored("b.jsonl", steps=20)
    assert a["generation"]["protocol"]["steps"] == 50 and a["sizes"] == [[32, 32]]
    assert "somewhere" not in (tmp_path / "a.jsonl.json").read_text()
    assert differing(a, a) == [] and differing(a, b) == ["steps"]
    assert differing(a, {**a, "sizes": [[64, 64]]}) == ["image sizes"] and differing(a, {}) == []
