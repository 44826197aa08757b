import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from ablations import run
from ablations.runner.attempt import PERMANENT, RESUMABLE
from ablations.runner.devices import default_workers
from ablations.runner.engines import slurm
from ablations.runner.engines.local import LocalEngine
from ablations.runner.engines.resources import Resources, Shape, minutes
from ablations.runner.engines.slurm import End, Slurm
from ablations.runner.engines.warm import WarmJob, WarmProcess
from ablations.runner.plan import plan_cells
from ablations.runner.stages import Task, stages
from ablations.studies import load_study

STUDY = load_study(str(Path(__file__).parent / "counting_study.py"))


def runtime(**changes):
    return SimpleNamespace(**{"processes": 1, "threads": 0, "cells_per_gpu": 1, **changes})


def shape(processes=1, threads=0, **resources):
    return Shape.of(Resources(**resources), runtime(processes=processes, threads=threads), "slurm")


def steps(*variants, seeds=(0,)):
    return plan_cells(STUDY, "smoke", STUDY.setting("smoke"), seeds, variants)


def test_what_several_cells_need_is_made_before_them_and_nothing_waits_for_more():
    cells = steps("few", "many", "few-dpo")
    train = next(step.folder for step in cells[0].steps if step.name == "train")
    first, second = stages(cells, lambda step: False)
    assert first == [Task("few-s0", train), Task("many-s0")]
    assert second == [Task("few-s0"), Task("few-dpo-s0")]
    assert stages(cells, lambda step: step.name == "train") == [[Task(cell.name) for cell in cells]]
    assert stages([], lambda step: False) == []


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"processes": 3, "nodes": 2}, "runtime.processes=3 cannot be shared out evenly to 2 nodes"),
        ({"nodes": 2, "gpus_per_node": 8, "processes": 2}, "--set runtime.processes=16, or --gpus-per-node 1"),
        ({"nodes": 0}, "--nodes and runtime.processes are 1 or more"),
    ],
)
def test_resources_that_do_not_fit_the_cell_are_refused(asked, says):
    with pytest.raises(ValueError, match=says):
        shape(**asked)


def test_threads_are_the_setting_s_or_the_cores_of_a_process():
    assert shape().threads == 1 and shape(cpus=6).threads == 6 and shape(cpus=6, threads=2).threads == 2
    wide = shape(nodes=2, gpus_per_node=8, processes=16)
    assert (wide.processes_per_node, wide.threads, wide.resources.cpus) == (8, 4, 32)


def test_the_script_asks_for_what_the_command_and_the_setting_say(tmp_path):
    wide = shape(
        nodes=2, gpus_per_node=4, processes=8, memory="64G", time="12:00:00", slurm=("partition=gpu", "exclusive")
    )
    script = Slurm(tmp_path, wide).script("name", [Task("a-s0"), Task("b-s0", "train-1")], limit=3, after=["7", "8"])
    for line in (
        "--array=0-1%3", "--nodes=2", "--ntasks-per-node=4", "--cpus-per-task=4", "--gpus-per-node=4", "--mem=64G",
        "--time=12:00:00", "--partition=gpu", "--exclusive", "--dependency=afterany:7:8", "--requeue",
    ):  # fmt: skip
        assert f"#SBATCH {line}\n" in script
    assert "--processes 8 --nodes 2" in script and "'b-s0 --until train-1'" in script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    with pytest.raises(ValueError, match="is not NAME=VALUE, as partition=gpu"):
        Slurm(tmp_path, shape(slurm=("partition' gpu",)))


def test_the_plan_shows_what_would_be_submitted_for_two_nodes_of_eight_gpus(tmp_path, capsys):
    study = str(Path(__file__).parent / "counting_study.py")
    asked = ["--engine", "slurm", "--nodes", "2", "--gpus-per-node", "8", "--only", "few", "many", "few-dpo"]
    assert run.main([study, "--scale", "cpu", *asked, "--out", str(tmp_path / "out"), "--plan"]) == 0
    told = capsys.readouterr().out
    first, second = told.split("# stage ")[1:]
    for line in ("--nodes=2", "--ntasks-per-node=8", "--gpus-per-node=8", "--cpus-per-task=4", "--array=0-1"):
        assert f"#SBATCH {line}\n" in first and f"#SBATCH {line}\n" in second
    assert "--processes 16 --nodes 2" in first and "#SBATCH --dependency=afterany:STAGE_1\n" in second
    assert not (tmp_path / "out").exists()


def test_a_stage_that_is_too_long_for_one_array_is_several(tmp_path, monkeypatch):
    monkeypatch.setattr(slurm, "max_array_size", lambda: 2)
    tasks = [Task(f"a-s{seed}") for seed in range(5)]
    assert Slurm(tmp_path, shape()).arrays(tasks) == [tasks[:2], tasks[2:4], tasks[4:]]


def test_slurm_s_times_and_ends_are_read():
    assert [minutes(text) for text in ("90", "1:30", "1:00:00", "2-0", "1-1:30")] == [90, 1.5, 60, 2880, 1530]
    with pytest.raises(ValueError, match="a time is"):
        minutes("soon")
    assert End("CANCELLED", -15).words == "cancelled" and End("NODE_FAIL", 0).words == "its node was lost"
    assert End("FAILED", -9).words == "ended by SIGKILL (out of memory?)" and End("FAILED", 3).words == "exit code 3"


@pytest.mark.parametrize(("given", "found"), [("", "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_of_a_worker_sleep_while_they_wait_unless_told_otherwise(tmp_path, monkeypatch, given, found):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if given:
        monkeypatch.setenv("OMP_WAIT_POLICY", given)
    engine = LocalEngine(1, ["0"], Shape.of(Resources(), runtime(), "local"))
    engine.submit(["-c", "import os; print(os.environ['OMP_WAIT_POLICY'])"], tmp_path / "log.txt", 0).wait()
    assert (tmp_path / "log.txt").read_text().split() == [found]


def test_a_local_cell_of_several_processes_gets_devices_of_its_own(tmp_path):
    engine = LocalEngine(2, ["0", "1", "2", "3"], Shape.of(Resources(), runtime(processes=2, threads=3), "local"))
    code = "import os, sys; print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['OMP_NUM_THREADS'], sys.argv[1:5])"
    for slot in range(2):
        engine.submit(["-c", code], tmp_path / "log.txt", slot).wait()
    told = (tmp_path / "log.txt").read_text().splitlines()
    assert told == [f"{own} 3 ['--processes', '2', '--nodes', '1']" for own in ("0,1", "2,3")]
    assert default_workers(runtime(processes=2), 9, ["0", "1", "2", "3"]) == 2
    assert default_workers(runtime(), 9, ["0", "1"]) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")
def test_a_warm_process_forks_workers_and_tells_how_they_end(tmp_path):
    engine = LocalEngine(2, [], Shape.of(Resources(), runtime(threads=1), "local"))
    missing = engine.submit(["-m", "ablations.worker", str(tmp_path / "nowhere"), "a-s0"], tmp_path / "a.txt", 0)
    unknown = engine.submit(["-m", "ablations.worker", "--nope"], tmp_path / "b.txt", 1)
    assert isinstance(missing, WarmJob) and missing.pid != unknown.pid
    assert missing.wait(60) == PERMANENT and engine.poll(missing) == PERMANENT
    assert unknown.wait(60) == 2
    assert (tmp_path / "a.txt").read_text().startswith("error: ") and "OUT" in (tmp_path / "b.txt").read_text().upper()
    warm = engine.warm
    os.kill(warm._process.pid, signal.SIGKILL)
    lost = WarmJob(pid=1, process=warm)
    assert lost.wait(60) == RESUMABLE, "its worker saves and leaves with nobody to tell"
    with pytest.raises(OSError, match="gone"):
        warm.submit(["-m", "ablations.worker"], tmp_path / "c.txt")
    again = engine.submit(["-m", "ablations.worker", str(tmp_path / "nowhere"), "a-s0"], tmp_path / "a.txt", 0)
    assert again.wait(60) == PERMANENT
    engine.stop([again])
    assert engine.warm is None
    other = engine.submit(["-c", "pass"], tmp_path / "d.txt", 0)
    assert isinstance(other, subprocess.Popen) and other.wait(60) == 0


def test_a_number_that_is_given_again_is_another_worker():
    process = object.__new__(WarmProcess)
    process._changed, process._started, process._codes, process._is_open = threading.Condition(), [], {}, True
    process._lines = ['{"pid": 7}\n', '{"pid": 7, "code": 1}\n', '{"pid": 7}\n']
    process._listen()
    assert process._codes == {} and process._started == [7, 7]


@pytest.mark.parametrize("code", [0, 42, 75])
def test_the_job_leaves_with_the_worker_s_code_after_a_signal_too(code, tmp_path):
    """The script alone, without Slurm: its worker is another command."""
    script = Slurm(tmp_path, shape()).script("name", [Task("a-s0")])
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import signal, sys, time\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), sys.exit({code})))\n"
        "print('ready', flush=True)\ntime.sleep(60)\n".replace("\\\n", "\n")
    )
    script = script.replace("-m ablations.worker", str(worker))
    environment = os.environ | {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_JOB_ID": "1", "SLURM_RESTART_COUNT": "20"}
    job = subprocess.Popen(["bash", "-c", script], env=environment)
    log = tmp_path / "cells/a-s0/log.txt"
    while not (log.is_file() and "ready" in log.read_text()):
        assert job.poll() is None
    job.terminate()
    assert job.wait(timeout=20) == code
    assert sys.executable in script
