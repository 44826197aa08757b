import errno
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ablations.runner.attempt import DONE, FAILED, PERMANENT, RESUMABLE, is_recorded, run_cell
from ablations.runner.plan import plan_cells, write_plan
from ablations.runner.store import Store
from ablations.studies import load_study

FILE = Path(__file__).parent / "counting_study.py"
STUDY = load_study(str(FILE))


def planned(out, scale="smoke"):
    cells = {cell.name: cell for cell in plan_cells(STUDY, scale, STUDY.setting(scale), [0])}
    write_plan(out / "plan.json", STUDY, scale, list(cells.values()))
    return cells


def run(out, name):
    return run_cell(out, planned(out)[name], STUDY.record, STUDY.setting("smoke").runtime)


def score(out, name):
    return json.loads((out / "cells" / name / "result.json").read_text())["metrics"]["geneval/overall"]["value"]


def start(out, name):
    command = [sys.executable, "-m", "ablations.worker", str(out), name, "--study", str(FILE)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def training(out):
    return list((out / "store" / ".work").glob("train-*/steps.txt"))


def test_a_cell_is_made_and_recorded(tmp_path):
    assert run(tmp_path, "few-s0") == DONE
    cells = planned(tmp_path)
    assert is_recorded(tmp_path, cells["few-s0"])
    assert not is_recorded(tmp_path, cells["many-s0"])
    assert score(tmp_path, "few-s0") == 0.006
    assert not (tmp_path / "cells" / "few-s0" / "progress.json").exists()


def test_a_failure_says_why_and_keeps_what_was_finished(tmp_path):
    assert run(tmp_path, "broken-s0") == PERMANENT
    assert (tmp_path / "cells/broken-s0/error.txt").read_text().startswith("ValueError: the sum is not to be had\n")
    cells = planned(tmp_path)
    assert Store(tmp_path / "store").has(cells["broken-s0"].step("teach"))


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    def full(self, work):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(STUDY.steps["Judge"], "run", full)
    assert run(tmp_path, "few-s0") == FAILED
    assert "the disk is full" in (tmp_path / "cells/few-s0/error.txt").read_text()
    monkeypatch.undo()
    assert run(tmp_path, "few-s0") == DONE
    assert not (tmp_path / "cells/few-s0/error.txt").exists()


def test_divergence_is_an_outcome(tmp_path):
    assert run(tmp_path, "lost-s0") == DONE
    assert json.loads((tmp_path / "cells/lost-s0/result.json").read_text())["status"] == "diverged"


def test_a_plan_made_by_other_code_is_refused(tmp_path):
    planned(tmp_path)
    path = tmp_path / "plan.json"
    other = json.loads(path.read_text().replace('"images": 10', '"images": 11'))
    del other["seal"]  # changed on purpose
    path.write_text(json.dumps(other))
    worker = start(tmp_path, "few-s0")
    told, _ = worker.communicate(timeout=20)
    assert worker.returncode == PERMANENT and "plan again" in told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT])
def test_a_signal_saves_at_a_step_boundary_and_the_same_command_resumes(tmp_path, number):
    planned(tmp_path, "cpu")
    worker = start(tmp_path, "few-s0")
    wait_for(lambda: training(tmp_path))
    worker.send_signal(number)
    worker.communicate(timeout=20)
    assert worker.returncode == RESUMABLE
    begun = len(training(tmp_path)[0].read_text().split())
    assert 0 < begun < 20
    worker = start(tmp_path, "few-s0")
    assert (worker.communicate(timeout=20), worker.returncode)[1] == DONE
    steps = next((tmp_path / "store").glob("train-*/steps.txt")).read_text().split()
    assert steps == [str(i) for i in range(20)]


def test_a_killed_worker_resumes_and_its_lease_is_taken_over(tmp_path):
    planned(tmp_path, "cpu")
    worker = start(tmp_path, "few-s0")
    wait_for(lambda: training(tmp_path))
    worker.kill()
    worker.communicate()
    assert list((tmp_path / "store" / ".leases").glob("train-*"))
    worker = start(tmp_path, "few-s0")
    worker.communicate(timeout=20)
    assert worker.returncode == DONE
    assert (
        json.loads((tmp_path / "cells/few-s0/result.json").read_text())["metrics"]["geneval/overall"]["value"] == 0.09
    )


def test_bad_arguments_get_one_line(tmp_path):
    command = [sys.executable, "-m", "ablations.worker", str(tmp_path)]
    missing = subprocess.run([*command, "few-s0"], capture_output=True, text=True)
    assert missing.returncode == PERMANENT and "plan.json is not there" in missing.stderr
    planned(tmp_path)
    unknown = subprocess.run([*command, "fewer-s0", "--study", str(FILE)], capture_output=True, text=True)
    assert unknown.returncode == PERMANENT and "there are" in unknown.stderr
    foreign = subprocess.run([*command, "few-s0"], capture_output=True, text=True)
    assert foreign.returncode == PERMANENT and "--study" in foreign.stderr


def test_a_worker_under_torchrun_is_refused_instead_of_waiting_for_itself(tmp_path, monkeypatch):
    planned(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    worker = start(tmp_path, "few-s0")
    told, _ = worker.communicate(timeout=60)
    assert worker.returncode == PERMANENT and "run it alone, without torchrun, with --processes N" in told
