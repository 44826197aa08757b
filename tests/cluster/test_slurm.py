"""What happens to cells on a real Slurm: each fault ends in the records of an undisturbed local run."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster.slurm import Slurm, why_not

ROOT = Path(__file__).parents[2]
FILE = str(ROOT / "tests/ablations/counting_study.py")
VARIANTS = ("few", "many", "few-dpo")
# The product's pace is for clusters of people; the command is the same.
RUN = "from ablations.runner import queue; queue.LOOK_SECONDS = 0.5; queue.RETRY_SECONDS = 2.0\n"
RUN += "import sys; from ablations.__main__ import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    if reason := why_not():
        pytest.skip(reason)
    cluster = Slurm(tmp_path_factory.mktemp("slurm"))
    # Read by every Python that starts there: a lost node's lease need not be waited for a minute.
    shortened = "from ablations.runner import lease\nlease.HEARTBEAT_SECONDS, lease.DEAD_AFTER_SECONDS = 1.0, 6.0\n"
    (cluster.base / "sitecustomize.py").write_text(shortened)
    cluster.environment["PYTHONPATH"] = f"{cluster.base}:{ROOT}"
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    out = tmp_path_factory.mktemp("local")
    arguments = [FILE, "--scale", "cpu", "--only", *VARIANTS, "--set", "runtime.step_seconds=0"]
    subprocess.run([sys.executable, "-m", "ablations.run", *arguments, "--out", str(out)], check=True, cwd=ROOT)
    return records(out)


def records(out):
    return {path.parent.name: path.read_text() for path in sorted(out.glob("cells/*/result.json"))}


def start(slurm, out, *more, seconds=0.15, environment=None, only=VARIANTS):
    """The command in the background."""
    command = [sys.executable, "-c", RUN, "run", FILE, "--scale", "cpu", "--out", str(out), "--engine", "slurm"]
    command += ["--only", *only, "--set", f"runtime.step_seconds={seconds}", *map(str, more)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment or slurm.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    )  # fmt: skip


def finish(run, seconds=300):
    told, _ = run.communicate(timeout=seconds)
    return told


def verb(slurm, name, *arguments):
    command = [sys.executable, "-m", "ablations", name, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=slurm.environment, capture_output=True, text=True).stdout


def wait_for(condition, seconds=240.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def training(out, variant="few"):
    """Whether the variant's training has saved something and is not done."""
    cell = out / "cells" / f"{variant}-s0" / "progress.json"
    return cell.is_file() and '"train"' in cell.read_text() and bool(list((out / "store/.work").glob("train*/*.txt")))


def job_of(out, variant, running=None):
    """The id of the variant's last job that was submitted, or that runs."""
    jobs = json.loads((out / "cells" / f"{variant}-s0" / "job.json").read_text())["jobs"]
    return next(entry["job"] for entry in jobs if running is None or entry["job"] in running)


def scripts(out):
    return len(list((out / "jobs").glob("*.sh")))


def test_one_may_leave_a_study_of_cells_on_two_nodes_and_the_report_comes_by_itself(slurm, expected, tmp_path):
    wide = ("runtime.processes=4", "--nodes", "2", "--detach")
    told = finish(run := start(slurm, tmp_path, *wide, only=[*VARIANTS, "alone"]))
    assert run.returncode == 0 and f"python -m ablations status {tmp_path}" in told
    assert re.search(r"few-dpo-s0 +(queued|running)", verb(slurm, "status", tmp_path))
    assert scripts(tmp_path) == 3  # the cluster lets an array have two tasks, and the first stage has three
    wait_for((tmp_path / "report/index.html").exists)
    made = records(tmp_path)
    assert made.pop("alone-s0") and made == expected
    assert "4 done" in verb(slurm, "status", tmp_path) and "train: " in verb(slurm, "logs", tmp_path, "few-s0")
    seen = sorted(path.name for path in next((tmp_path / "store").glob("judge-*")).glob("seen*"))
    assert seen == [f"seen-{number}-of-4.txt" for number in range(4)]
    how = [json.loads(path.read_text())["how"] for path in (tmp_path / "store").glob("train-*/step.json")]
    assert how == [{"processes": 4, "threads": 1}] * 3


def told_to_stop(slurm, out):
    """One by a signal, another by Slurm."""
    slurm.ask("scancel", "--signal=TERM", "--full", job_of(out, "many", slurm.running()))
    slurm.ask("scontrol", "requeue", job_of(out, "few", slurm.running()))


def preempt(slurm, out):
    slurm.ask("sbatch", "-p", "high", "-N2", "--exclusive", "--output=/dev/null", "--wrap", "sleep 1")


def kill_node(slurm, out):
    node = slurm.running()[job_of(out, "many", slurm.running())][1]
    slurm.kill_node(node)
    slurm.start_again = node


@pytest.mark.parametrize("happens", [told_to_stop, preempt, kill_node], ids=lambda function: function.__name__)
def test_a_cell_that_is_stopped_from_outside_goes_on(happens, slurm, expected, tmp_path):
    run = start(slurm, tmp_path, seconds=0.2)
    wait_for(lambda: training(tmp_path, "few") and training(tmp_path, "many"))
    happens(slurm, tmp_path)
    told = finish(run)
    if happens is kill_node:
        slurm.start_node(slurm.start_again)
    assert run.returncode == 0, told
    assert records(tmp_path) == expected
    assert scripts(tmp_path) == 2  # the scheduler queued it again, nobody submitted it twice
    for path in (tmp_path / "store").glob("train-*/steps.txt"):
        assert len(path.read_text().split()) in (20, 21)  # gone on, not begun anew


def test_a_cell_that_was_cancelled_or_lost_its_shell_stays_so_until_the_command_is_given_again(
    slurm, expected, tmp_path
):
    run = start(slurm, tmp_path, seconds=0.3)
    wait_for(lambda: training(tmp_path, "many"))
    slurm.ask("scancel", job_of(tmp_path, "many", slurm.running()), job_of(tmp_path, "few-dpo"))
    told = finish(run)
    assert run.returncode == 1 and told.count("FAILED") == 2, told
    assert "failed: many-s0: cancelled" in told and "failed: few-dpo-s0: cancelled" in told
    assert set(records(tmp_path)) == {"few-s0"}
    assert re.search(r"many-s0 +stopped \(cancelled\)", verb(slurm, "status", tmp_path))
    run = start(slurm, tmp_path, seconds=0.4)
    os.kill(wait_for(lambda: wrappers(f"{tmp_path} ", "many-s0")), signal.SIGKILL)
    told = finish(run)
    assert run.returncode == 1 and "many-s0 FAILED: ended by SIGKILL" in told, told
    told = finish(run := start(slurm, tmp_path))
    assert run.returncode == 0, told
    assert records(tmp_path) == expected


def test_a_command_that_ends_leaves_the_cells_and_the_next_one_adopts_them(slurm, expected, tmp_path):
    run = start(slurm, tmp_path, seconds=0.5)
    wait_for(lambda: training(tmp_path))
    run.kill()
    finish(run)
    run = start(slurm, tmp_path, seconds=0.5)
    wait_for(lambda: (tmp_path / ".owner").read_text().startswith(f"{run.pid} "))
    run.send_signal(signal.SIGHUP)
    assert "left; the cells go on" in finish(run)
    assert slurm.running()
    told = finish(run := start(slurm, tmp_path))
    assert run.returncode == 0, told
    assert records(tmp_path) == expected
    assert scripts(tmp_path) == 2
    attempts = [json.loads(path.read_text())["attempt"] for path in tmp_path.glob("cells/*/job.json")]
    assert attempts == [1, 1, 1]


def test_a_refused_submission_leaves_the_others_alone_and_is_tried_again(slurm, expected, tmp_path):
    (tmp_path / "bin").mkdir()
    wrapper = tmp_path / "bin/sbatch"
    real = subprocess.run(["which", "sbatch"], capture_output=True, text=True).stdout.strip()
    wrapper.write_text(
        f'#!/bin/sh\ncase "$*" in *--test-only*) exec {real} "$@";; esac\necho x >>{tmp_path}/calls\n'
        f'[ $(wc -l <{tmp_path}/calls) = 2 ] && {{ echo "sbatch: error: Socket timed out" >&2; exit 1; }}\n'
        f'exec {real} "$@"\n'
    )
    wrapper.chmod(0o755)
    environment = slurm.environment | {"PATH": f"{tmp_path}/bin:{slurm.environment['PATH']}"}
    told = finish(run := start(slurm, tmp_path / "out", environment=environment))
    assert run.returncode == 0, told
    assert "Slurm refused few-s0 and 1 more: Socket timed out; what has a job goes on" in told
    assert records(tmp_path / "out") == expected


def wrappers(*words):
    """The process that started the worker whose command has the words."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode()
            if "ablations.worker" in command and all(word in command for word in words):
                return int(re.search(r"PPid:\s+(\d+)", (path.parent / "status").read_text())[1])
        except OSError:
            continue
    return None


def test_cancel_ends_all_and_they_save(slurm, expected, tmp_path):
    finish(start(slurm, tmp_path, "--detach", seconds=4.0))
    wait_for(lambda: training(tmp_path))
    assert "cancelled 4 jobs" in verb(slurm, "cancel", tmp_path)
    told = finish(run := start(slurm, tmp_path))  # at once: the workers still save
    assert run.returncode == 0, told
    assert records(tmp_path) == expected


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["--slurm", "partition=short", "--time", "2:00:00"], r"--time 2:00:00 is more than partition short allows"),
        (["--gpus-per-node", "1"], "Slurm would not take the cells: Invalid generic resource"),
    ],
)
def test_what_the_cluster_cannot_give_is_refused_before_anything_is_submitted(asked, says, slurm, tmp_path):
    told = finish(run := start(slurm, tmp_path, *asked))
    assert run.returncode == 2 and re.search(says, told) and "Traceback" not in told
    assert not (tmp_path / "jobs").exists()
