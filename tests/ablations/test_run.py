import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from ablations.run import _share_store, main
from ablations.runner.engines import start_engine
from ablations.runner.engines.resources import Resources, Shape
from ablations.studies import study_names
from lightgen.disk.json_files import write_sealed

FILE = str(Path(__file__).parent / "counting_study.py")
COMMAND = [sys.executable, "-m", "ablations.run"]


def run(*arguments, **options):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=60, **options)


def score(out, cell):
    return json.loads((out / "cells" / cell / "result.json").read_text())["metrics"]["geneval/overall"]["value"]


def outcome(out):
    """Everything that a report reads, without times."""
    return {path.parent.name: path.read_text() for path in sorted(out.glob("cells/*/result.json"))}


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def workers_of(pid):
    """Process ids of everything that the run started: the warm process, and the workers that are forks of it."""
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def test_a_study_runs_resumes_and_grows(tmp_path):
    first = run(FILE, "--scale", "smoke", "--out", tmp_path, "--workers", 2, "--only", "few", "few-dpo")
    assert "2 of 2" in first.stdout or "few-dpo-s0: done" in first.stdout
    assert "It proves nothing." in first.stdout
    assert "GenEval overall:\n  few-dpo  0.011  (1 seeds)\n  few      0.006  (1 seeds)\n" in first.stdout
    assert (score(tmp_path, "few-s0"), score(tmp_path, "few-dpo-s0")) == (0.006, 0.011)
    study = json.loads((tmp_path / "study.json").read_text())
    assert ([v["name"] for v in study["variants"]], study["contrasts"]) == (["few-dpo", "few"], [])
    made = {path.parent.name: path.stat().st_mtime_ns for path in (tmp_path / "store").glob("*/step.json")}
    run(FILE, "--scale", "smoke", "--out", tmp_path, "--seeds", 1, "--only", "few", "many")
    now = {path.parent.name: path.stat().st_mtime_ns for path in (tmp_path / "store").glob("*/step.json")}
    assert len(made) == 5 and made.items() < now.items()
    study = json.loads((tmp_path / "study.json").read_text())
    assert (study["seeds"], [c["name"] for c in study["contrasts"]]) == ([0, 1], ["size"])
    assert {v["name"]: v.get("seeds") for v in study["variants"]} == {"few": None, "few-dpo": [0], "many": [1]}


def test_one_failed_cell_is_told_at_once_and_loses_no_other(tmp_path):
    result = run(FILE, "--scale", "smoke", "--out", tmp_path, "--workers", 2)
    assert result.returncode == 1
    assert "broken-s0 FAILED: ValueError: the sum is not to be had" in result.stdout
    assert f"-m ablations.worker {tmp_path} broken-s0 --study {FILE}" in result.stdout
    assert set(outcome(tmp_path)) == {"few-s0", "few-dpo-s0", "many-s0", "lost-s0", "alone-s0"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_killed_run_leaves_no_workers_and_the_same_command_ends_the_same(tmp_path, number):
    arguments = [FILE, "--scale", "cpu", "--workers", "2", "--only", "few", "many", "few-dpo"]
    reference = tmp_path / "reference"
    run(*arguments, "--out", reference)
    out = tmp_path / "killed"
    started = subprocess.Popen([*COMMAND, *arguments, "--out", str(out)], stdout=subprocess.DEVNULL)
    while not list((out / "store" / ".work").glob("train-*/steps.txt")):
        time.sleep(0.02)
    workers = workers_of(started.pid)
    assert len(workers) >= 2
    started.send_signal(number)
    started.wait(timeout=30)
    deadline = time.monotonic() + 20
    while any(is_alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_alive(pid) for pid in workers)
    run(*arguments, "--out", out)
    assert outcome(out) == outcome(reference)
    for steps in (out / "store").glob("train-*/steps.txt"):
        assert len(steps.read_text().split()) in (20, 21)  # a kill between the save and the line beside it


def test_the_plan_is_printed_and_nothing_is_written(tmp_path):
    out = tmp_path / "out"
    result = run(FILE, "--scale", "smoke", "--out", out, "--plan", "--only", "few", "few-dpo")
    assert "few-s0" in result.stdout and "2 shared with a cell above" in result.stdout
    assert "2 cells, 5 steps to make" in result.stdout
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["no_such_study"], "no study 'no_such_study'; there are"),
        ([FILE, "--scale", "huge"], "no scale 'huge' in counting; there are smoke, cpu"),
        ([FILE, "--scale", "smoke", "--only", "fewer"], "no variant 'fewer' in counting; there are few-dpo, few"),
        ([FILE, "--scale", "smoke", "--engine", "k8s"], "no engine 'k8s'; there are local, ray, slurm"),
        (
            [FILE, "--engine", "slurm"],
            "--scale auto looks for GPUs, and this machine's are not those of --engine slurm",
        ),
        ([FILE, "--scale", "smoke", "--detach"], "--detach is for --engine slurm"),
        ([FILE, "--scale", "smoke", "--nodes", "2"], "--nodes, --gpus-per-node, --cpus, --memory, --time and --slurm"),
    ],
)
def test_unknown_names_get_one_line_with_the_valid_ones(arguments, says, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_a_folder_of_another_study_scale_layout_or_of_other_things_is_refused(tmp_path, capsys):
    def refusal(out):
        assert main([FILE, "--scale", "smoke", "--out", str(out), "--plan"]) == 2
        return capsys.readouterr().err

    other = tmp_path / "other"
    (other / "store").mkdir(parents=True)
    (other / "study.json").write_text('{"name": "another", "scale": "smoke"}')
    assert "holds the study another" in refusal(other)
    (other / "study.json").write_text('{"name": "counting", "scale": "cpu"}')
    assert "at scale cpu" in refusal(other)
    (other / "study.json").write_text('{"name": "counting", "scale": "smoke"}')
    assert "was written by lightgen-bench 0.1" in refusal(other) and "give another --out" in refusal(other)
    run(FILE, "--scale", "smoke", "--out", other / "new", "--only", "few")
    (other / "new" / "store" / "store.json").write_text('{"layout": 0}')
    assert "store layout 0" in refusal(other / "new")
    (other / "study.json").write_text('{"name": "coun')
    assert "torn or no JSON" in refusal(other)
    (tmp_path / "home" / "letters").mkdir(parents=True)
    assert "holds no study" in refusal(tmp_path / "home")
    (tmp_path / "file").write_text("")
    assert "is a file" in refusal(tmp_path / "file")


def test_an_engine_whose_package_is_not_installed_says_what_to_install():
    if importlib.util.find_spec("ray"):
        pytest.skip("ray is installed")
    with pytest.raises(ValueError, match=r"pip install 'lightgen-bench\[ray\]'"):
        start_engine("ray", 1, [], Shape(resources=Resources()))


def test_a_setting_is_changed_by_name_and_a_folder_keeps_to_one(tmp_path):
    few = [FILE, "--scale", "smoke", "--only", "few", "--out", tmp_path]
    assert run(*few, "--set", "train.steps=2", "images=3").returncode == 0
    study = json.loads((tmp_path / "study.json").read_text())
    assert study["setting_changes"] == {"train.steps": 2, "images": 3}
    assert study["protocol"]["train"]["steps"] == 2 and score(tmp_path, "few-s0") == 0.001
    other = run(*few)
    assert (
        other.returncode == 2 and "begun with another setting (images 3, now 10, train.steps 2, now 4" in other.stderr
    )
    del study["protocol"]["train"]["steps"], study["seal"]  # as a version wrote it that did not have the field yet
    write_sealed(tmp_path / "study.json", study)
    refused = run(*few, "--set", "train.steps=2", "images=3")
    assert refused.returncode == 2 and "(train.steps 4, now 2)" in refused.stderr
    assert run(*few, "--set", "images=3").returncode == 0
    assert run(*few, "--set", "images=3", "train.steps=2", "--out", tmp_path / "new").returncode == 0
    few[-1] = tmp_path / "new"
    same = run(*few, "--set", "train.steps=2", "images=3", "runtime.step_seconds=0.5")
    assert same.returncode == 0 and "runtime settings change no result, so nothing is made again" in same.stdout


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("train.stepps=2", "unknown name stepps in Setting.train; valid names: steps, fails, diverges"),
        ("training.steps=2", "unknown name training in Setting; valid names: images, train, runtime"),
        ("images=many", "images in Setting is 'many', expected int"),
        ("train.fails=1", "expected bool"),
        ("images", "'images' is not NAME=VALUE"),
        (
            "runtime.speed=1",
            "unknown name speed in Setting.runtime; valid names: step_seconds, cells_per_gpu, processes",
        ),
    ],
)
def test_a_setting_that_does_not_fit_gets_one_line_with_the_valid_names(change, says, tmp_path, capsys):
    assert main([FILE, "--scale", "smoke", "--out", str(tmp_path / "out"), "--plan", "--set", change]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_is_refused(tmp_path):
    arguments = [FILE, "--scale", "cpu", "--only", "few", "--out", str(tmp_path)]
    started = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.DEVNULL)
    while not (tmp_path / "plan.json").exists():
        time.sleep(0.02)
    second = run(*arguments)
    assert (second.returncode, f"process {started.pid}" in second.stderr) == (2, True)
    started.terminate()
    assert started.wait(timeout=30) == 130


def test_help_and_a_finished_study_import_no_torch(tmp_path):
    run(FILE, "--scale", "smoke", "--only", "few", "--out", tmp_path)
    code = (
        "import sys; from ablations.run import main\n"
        f"main([{FILE!r}, '--scale', 'smoke', '--only', 'few', '--out', {str(tmp_path)!r}])\n"
        "assert not {'torch', 'transformers', 'diffusers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, env=dict(os.environ))


def test_all_studies_share_one_store(tmp_path, capsys):
    for name in study_names():
        _share_store(tmp_path, name)
        _share_store(tmp_path, name)  # as the command does when it is given again
    assert {(tmp_path / name / "store").resolve() for name in study_names()} == {(tmp_path / "store").resolve()}
    assert main(["all", "--plan", "--scale", "smoke", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("cells, ") == len(study_names())


def test_only_all_makes_the_optional_variants_too(tmp_path, capsys):
    assert main(["diversity_sweep", "--plan", "--scale", "smoke", "--only", "all", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "large-diverse-best" in out and "small-some" in out and "made only with" not in out
