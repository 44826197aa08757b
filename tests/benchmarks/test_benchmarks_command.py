"""The command line: frozen verbs, one-line errors, and results from files."""

import json
import subprocess
import sys
import time

import pytest

from benchmarks.__main__ import main
from benchmarks.quality.features import load_features


def test_help_answers_without_heavy_imports():
    start = time.perf_counter()
    command = [sys.executable, "-X", "importtime", "-m", "benchmarks", "quality", "--help"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0 and "clip-score" in result.stdout
    assert " torch\n" not in result.stderr and " open_clip\n" not in result.stderr
    assert time.perf_counter() - start < 5


def test_features_then_fid_then_measure(pictures, clip_folder, tmp_path, capsys):
    out = tmp_path / "f.safetensors"
    statistics = tmp_path / "s.safetensors"
    common = ["--extractor", str(clip_folder), "--name", "icon-clip"]
    assert main(["quality", "features", str(pictures), *common, "--out", str(out)]) == 0
    assert main(["quality", "features", str(pictures), *common, "--out", str(statistics), "--statistics"]) == 0
    assert main(["quality", "fid", str(out), str(statistics)]) == 0
    label = load_features(out).meta["images"][:8]
    printed = capsys.readouterr().out.replace("-0.0", "0.0")
    assert f"fid[icon-clip,n=40,ref={label},ref_n=40] = 0.000000" in printed
    assert main(["quality", "measure", str(pictures), str(out), *common, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"][f"kid[icon-clip,n=40,ref={label}]"]["n"] == 40


def test_clip_score_keeps_a_row_an_image(geneval_folder, clip_folder, tmp_path, capsys):
    rows = tmp_path / "scores.jsonl"
    assert main(["quality", "clip-score", str(geneval_folder), "--clip", str(clip_folder), "--out", str(rows)]) == 0
    assert capsys.readouterr().out.startswith("clip_score[icon-clip,w=100] = ")
    assert len(rows.read_text().splitlines()) == 24


def test_doctor_lists_every_named_extractor_and_says_whether_all_are_here(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert main(["quality", "doctor"]) == 1
    printed = capsys.readouterr().out
    assert "dinov2-vitl14" in printed and "not ready: see MISSING above" in printed
    assert main(["quality", "doctor", "--extractors", "icon-clip"]) == 0
    assert "ready for these extractors" in capsys.readouterr().out
    assert main(["quality", "doctor", "--extractors", "nonsense"]) == 2


@pytest.mark.parametrize("arguments", [["fid", "missing.safetensors", "missing.safetensors"], ["measure", "no", "no"]])
def test_errors_are_one_line(arguments, clip_folder, capsys):
    extra = ["--extractor", str(clip_folder)] if arguments[0] == "measure" else []
    assert main(["quality", *arguments, *extra]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "does not exist" in error and error.count("\n") == 1


def test_an_unknown_part_shows_the_valid_ones(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["nonsense"])
    assert "quality" in capsys.readouterr().err
