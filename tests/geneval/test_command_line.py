"""The verbs as a user types them: files, texts, exit codes, and one line for a mistake."""

import hashlib
import json
import os
import subprocess
import sys

import pytest

from geneval.prompts import OFFICIAL_SHA256


def _run(*arguments, cwd=None):
    environment = os.environ | {"COLUMNS": "100"}
    command = [sys.executable, "-m", "geneval", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment)


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
        (("validate", ".", "."), "annotations_clip.csv"),
        (("prompts", "--out", "x", "--colors", "mauve"), "GenEval's colors"),
    ],
)
def test_a_mistake_is_one_clear_line(arguments, said, tmp_path):
    done = _run(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and said in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_names_what_is_missing(tmp_path):
    done = _run("doctor", cwd=tmp_path)
    assert done.returncode == 1 and "MISSING" in done.stdout and "open-clip-torch" in done.stdout
