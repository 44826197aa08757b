"""Cells of several processes: what they make is what one makes, and a killed one costs nothing but time."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from ablations.runner.plan import plan_cells, write_plan
from ablations.studies import load_study
from lightgen.disk.config import override

FILE = str(Path(__file__).parent / "counting_study.py")


def planned(out, study, scale, changes, variant):
    loaded = load_study(study)
    cells = plan_cells(loaded, scale, override(loaded.setting(scale), changes), [0], [variant])
    write_plan(out / "plan.json", loaded, scale, cells)
    return cells[0]


def start(out, cell, *more, processes=2):
    command = [sys.executable, "-m", "ablations.worker", str(out), cell, "--processes", str(processes), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def ranks(worker):
    return [child for child in psutil.Process(worker.pid).children() if "ablations.rank" in child.cmdline()]


def score(out):
    return json.loads((out / "cells/few-s0/result.json").read_text())["metrics"]["geneval/overall"]["value"]


def made(out):
    return list((out / "store/.work").glob("train-*/steps.txt"))


def test_shards_are_handed_out_and_training_runs_in_all_processes(tmp_path):
    planned(tmp_path, FILE, "smoke", {}, "few")
    worker = start(tmp_path, "few-s0", "--study", FILE)
    assert finished(worker) == 0
    names = {path.name for path in next((tmp_path / "store").glob("judge-*")).iterdir()}
    assert names == {"seen-0-of-2.txt", "seen-1-of-2.txt", "score.json", "step.json"}
    assert score(tmp_path) == 0.006 and not (tmp_path / "cells/few-s0/.processes/failure.json").exists()


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_is_started_again_and_goes_on(victim, tmp_path):
    planned(tmp_path, FILE, "cpu", {}, "few")
    worker = start(tmp_path, "few-s0", "--study", FILE)
    wait_for(lambda: made(tmp_path) and len(ranks(worker)) == 2)
    sorted(ranks(worker), key=lambda process: process.pid)[victim].kill()
    told, _ = worker.communicate(timeout=60)
    assert worker.returncode == 0 and "train: a process was ended by signal 9; start 1 of 3" in told
    assert score(tmp_path) == 0.09
    assert len(next((tmp_path / "store").glob("train-*/steps.txt")).read_text().split()) in (20, 21)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_worker_leaves_no_process_behind_and_resumes(number, tmp_path):
    planned(tmp_path, FILE, "cpu", {}, "few")
    worker = start(tmp_path, "few-s0", "--study", FILE)
    wait_for(lambda: made(tmp_path) and len(ranks(worker)) == 2)
    others = ranks(worker)
    worker.send_signal(number)
    worker.communicate(timeout=60)
    assert worker.returncode == (75 if number == signal.SIGTERM else -number)
    _, alive = psutil.wait_procs(others, timeout=10)
    assert not alive
    worker = start(tmp_path, "few-s0", "--study", FILE)
    worker.communicate(timeout=60)
    assert worker.returncode == 0 and score(tmp_path) == 0.09


def test_a_failure_of_a_process_is_the_cell_s(tmp_path):
    planned(tmp_path, FILE, "smoke", {}, "broken")
    worker = start(tmp_path, "broken-s0", "--study", FILE)
    worker.communicate(timeout=60)
    assert worker.returncode == 42
    assert (tmp_path / "cells/broken-s0/error.txt").read_text().startswith("ValueError: the sum is not to be had\n")


@pytest.mark.slow
def test_two_processes_train_and_draw_as_one_does_though_one_is_killed(tmp_path, monkeypatch):
    """Measured on gloo: weights of about 1 differ by 6e-6 after 20 steps."""
    import torch
    from safetensors.torch import load_file

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    one, two = tmp_path / "one", tmp_path / "two"
    cell = planned(one, "dpo_sweep", "smoke", {"runtime.save_every_seconds": 0.0}, "base")
    folders = {step.name: step.folder for step in cell.steps}
    assert finished(start(one, "base-s0", "--until", folders["train"], processes=1)) == 0
    two.mkdir()
    shutil.copy(one / "plan.json", two)
    worker = start(two, "base-s0", "--until", folders["generate"])
    wait_for(lambda: list((two / "store/.work").glob("train-*/resume*")) and len(ranks(worker)) == 2, 120)
    ranks(worker)[1].kill()
    told, _ = worker.communicate(timeout=600)
    assert worker.returncode == 0 and "start 1 of 3" in told, told
    for path in (one / "store" / folders["encode"] / "latents").iterdir():
        assert path.read_bytes() == (two / "store" / folders["encode"] / "latents" / path.name).read_bytes()
    saved = [out / "store" / folders["train"] / "model/diffusion_pytorch_model.safetensors" for out in (one, two)]
    first, second = map(load_file, saved)
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=0, atol=1e-4)
    drawn = (two / "store" / folders["generate"]).glob("images/*/samples/*.png")
    names = sorted("/".join(path.parts[-3:]) for path in drawn)
    assert names == [f"{number:05}/samples/00000.png" for number in range(cell.num_judged)]


def finished(worker):
    worker.communicate(timeout=600)
    return worker.returncode
