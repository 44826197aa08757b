"""The verbs as a user types them: files, texts, exit codes, and one line for a mistake."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from geneval.comparability import NOT_COMPARABLE
from geneval.prompts import OFFICIAL_SHA256, prompt_suite, write_prompts

HEAVY = {"torch", "transformers", "diffusers", "open_clip"}
ICONS = Path(__file__).parents[2] / "ablations" / "icons" / "components"


def _run(*arguments, cwd=None, importtime=False):
    environment = os.environ | {"COLUMNS": "100"}
    command = [sys.executable, *(("-X", "importtime") if importtime else ()), "-m", "geneval", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment)


def _imported(done):
    return {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


def test_prompts(tmp_path):
    done = _run("prompts", "--out", tmp_path)
    assert done.returncode == 0 and OFFICIAL_SHA256 in done.stdout
    assert hashlib.sha256((tmp_path / "evaluation_metadata.jsonl").read_bytes()).hexdigest() == OFFICIAL_SHA256
    (tmp_path / "objects.txt").write_text("cat\ndog\n")
    arguments = ("--objects", tmp_path / "objects.txt", "--colors", "red,blue", "--num-prompts", 3)
    assert _run("prompts", "--out", tmp_path / "small", *arguments).returncode == 0
    assert "cat" in (tmp_path / "small" / "generation_prompts.txt").read_text()


def test_summary_and_compare(geneval_golden, tmp_path):
    results = geneval_golden / "summary" / "long_tag.jsonl"
    assert _run("summary", results).stdout == results.with_suffix(".txt").read_text()
    found = json.loads(_run("summary", results, "--json").stdout)
    assert found["status"] == "complete" and found["overall"]["ci"][0] < found["overall"]["value"]
    table = _run("compare", results, results).stdout
    assert "overall" in table and "+0.0000" in table
    assert json.loads(_run("compare", results, results, "--json").stdout)["overall"]["p"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("summary", "nowhere.jsonl"), "no such results file"),
        (("score", "nowhere"), "detections.jsonl"),
        (("score", ".", "--options", "treshold=1"), "unknown option"),
        (("score", ".", "--options", "threshold"), "KEY=VALUE"),
        (("detect", "nowhere", "--detector", "x"), "no such folder of images"),
        (("detect", ".", "--detector", "x", "--shard", "2/2"), "--shard"),
        (("convert", "nowhere.pth", "--out", "x"), "no such checkpoint"),
        (("score", ".", "--options", "model=x"), "--detector"),
        (("validate", ".", "."), "annotations_clip.csv"),
        (("prompts", "--out", "x", "--colors", "mauve"), "GenEval's colors"),
    ],
)
def test_a_mistake_is_one_clear_line(arguments, said, tmp_path):
    done = _run(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and said in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_names_what_is_missing(tmp_path):
    done = _run("doctor", cwd=tmp_path, importtime=True)
    assert done.returncode == 1 and "MISSING" in done.stdout and "open-clip-torch" in done.stdout
    assert not _imported(done) & HEAVY


def test_doctor_says_that_other_weights_are_not_comparable(tmp_path):
    done = _run("doctor", "--detector", ICONS / "detector", "--clip", ICONS / "clip")
    assert done.returncode == 0 and done.stdout.count("not comparable with published GenEval") == 3


@pytest.mark.slow
def test_three_commands_score_pictures_of_the_icon_world(tmp_path):
    """As a user would: exact pictures of a few prompts, detected, scored, compared; every output says what it is."""
    from ablations.icons.teacher import IconTeacher
    from ablations.icons.world import WORLDS
    from geneval.layout import sample_path, write_prompt_folder

    world = WORLDS["cpu"]
    prompts = prompt_suite(world.classes, colors=world.colors, num_prompts=2)
    write_prompts(prompts, tmp_path)
    images, teacher = tmp_path / "images", IconTeacher(world)
    for index, prompt in enumerate(prompts):
        write_prompt_folder(images, index, prompt)
        for copy, picture in enumerate(teacher([prompt.prompt] * 2, [2 * index, 2 * index + 1])):
            picture.save(sample_path(images, index, copy))
    weights = ("--detector", ICONS / "detector", "--clip", ICONS / "clip", "--device", "cpu")
    assert _run("detect", images, *weights).returncode == 0
    score = ("score", images, "--out", tmp_path / "r.jsonl", "--prompts", tmp_path)
    done = _run(*score, importtime=True)
    assert done.returncode == 0 and NOT_COMPARABLE in done.stderr and not _imported(done) & HEAVY
    found = json.loads(_run("summary", tmp_path / "r.jsonl", "--json").stdout)
    assert found["overall"]["value"] > 0.9 and found["status"] == "complete" and found["note"] == NOT_COMPARABLE
    assert _run(*score, "--grades", tmp_path / "grades.jsonl").returncode == 0
    grades = [json.loads(line) for line in (tmp_path / "grades.jsonl").read_text().splitlines()]
    verdicts = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [(g["prompt"], g["tag"], g["score"] == 1) for g in grades] == [
        (v["prompt"], v["tag"], v["correct"]) for v in verdicts
    ]
    assert (images / grades[0]["filename"]).is_file()
    sample_path(images, 0, 1).unlink()
    refused = _run(*score)
    assert refused.returncode == 2 and "00000/samples: 1 images, expected 2" in refused.stderr
    done = _run("score", images, "--out", tmp_path / "p.jsonl", "--prompts", tmp_path, "--allow-partial", "--options",
                "threshold=0.5")  # fmt: skip
    assert done.returncode == 0 and "PARTIAL" in done.stdout
    table = _run("compare", tmp_path / "r.jsonl", tmp_path / "p.jsonl").stdout
    assert "PARTIAL" in table and "different options" in table
    found = json.loads(_run("compare", tmp_path / "r.jsonl", tmp_path / "p.jsonl", "--json").stdout)
    assert found["status"] == ["complete", "partial"] and found["scored_differently"] == ["options"]


def test_a_reader_that_stops_is_no_error(geneval_golden):
    command = [sys.executable, "-m", "geneval", "summary", str(geneval_golden / "summary" / "long_tag.jsonl")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 141
