"""`python -m ablations time`: each variant's sampling is timed, equal ones once, and a report can read it."""

import json
import shutil
from pathlib import Path

import pytest

from ablations.timing import main
from benchmarks.speed import choices
from reports.front import read_speed

REFERENCE = Path(__file__).parents[2] / "reports/reference"


def test_every_variant_that_samples_has_its_time_and_equal_ones_share_it(tmp_path, monkeypatch, capsys):
    shutil.copyfile(REFERENCE / "sampling_sweep-cpu/study.json", tmp_path / "study.json")
    made = []
    generate = choices._generate
    monkeypatch.setattr(choices, "_generate", lambda *given: (made.append(given[1]), generate(*given)))
    assert main([str(tmp_path), "--images", "2", "--repetitions", "1"]) == 0
    found = read_speed(tmp_path)
    study = json.loads((tmp_path / "study.json").read_text())
    assert found.keys() == {variant["name"] for variant in study["variants"]}
    assert found["base"] == found["raw"] and len(set(found.values())) == len(found) - 1
    assert len(made) == 2 * len(set(made)) and len(set(made)) == len(found) - 1  # one unmeasured, one measured
    assert {choice.sampling.num_head_steps for choice in made} >= {5, 10, 20, 50, 100}
    assert {choice.grid for choice in made} == {2}
    assert "head-100: " in capsys.readouterr().out


@pytest.mark.parametrize(("options", "said"), [(["--images", "0"], "images"), (["--repetitions", "0"], "repetitions")])
def test_what_measures_nothing_is_refused(tmp_path, options, said, capsys):
    shutil.copyfile(REFERENCE / "sampling_sweep-cpu/study.json", tmp_path / "study.json")
    assert main([str(tmp_path), *options]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "speed.json").exists()
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "study.json" in capsys.readouterr().err
