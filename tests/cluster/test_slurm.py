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


def start(slurm, out, *more, seconds=0.15, environment=None):
    """The command in the background."""
    command = [sys.executable, "-c", RUN, "run", FILE, "--scale", "cpu", "--out", str(out), "--engine", "slurm"]
    command += ["--only", *VARIANTS, "--set", f"runtime.step_seconds={seconds}", *map(str, more)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment or slurm.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    )  # fmt: skip


def finish(run, seconds=90):
    told, _ = run.communicate(timeout=seconds)
    return told


def verb(slurm, name, *arguments):
    command = [sys.executable, "-m", "ablations", name, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=slurm.environment, capture_output=True, text=True).stdout


def wait_for(condition, seconds=60.0):
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


def test_one_may_leave_and_the_report_comes_by_itself(slurm, expected, tmp_path):
    told = finish(run := start(slurm, tmp_path, "--detach"))
    assert run.returncode == 0 and f"python -m ablations status {tmp_path}" in told
    assert re.search(r"few-dpo-s0 +(queued|running)", verb(slurm, "status", tmp_path))
    wait_for((tmp_path / "report/index.html").exists)
    assert records(tmp_path) == expected
    assert "3 done" in verb(slurm, "status", tmp_path) and "train: " in verb(slurm, "logs", tmp_path, "few-s0")


def test_a_cell_spreads_over_two_nodes(slurm, expected, tmp_path):
    told = finish(run := start(slurm, tmp_path, "runtime.processes=4", "--nodes", "2"))
    assert run.returncode == 0, told
    assert records(tmp_path) == expected
    seen = sorted(path.name for path in next((tmp_path / "store").glob("judge-*")).glob("seen*"))
    assert seen == [f"seen-{number}-of-4.txt" for number in range(4)]
    how = json.loads(next((tmp_path / "store").glob("train-*/step.json")).read_text())["how"]
    assert how == {"processes": 4, "threads": 1}


def send_term(slurm, out):
    slurm.ask("scancel", "--signal=TERM", "--full", job_of(out, "many", slurm.running()))


def requeue(slurm, out):
    slurm.ask("scontrol", "requeue", job_of(out, "many", slurm.running()))


def preempt(slurm, out):
    slurm.ask("sbatch", "-p", "high", "-N2", "--exclusive", "--output=/dev/null", "--wrap", "sleep 1")


def kill_node(slurm, out):
    node = slurm.running()[job_of(out, "many", slurm.running())][1]
    slurm.kill_node(node)
    slurm.start_again = node


@pytest.mark.parametrize("happens", [send_term, requeue, preempt, kill_node], ids=lambda function: function.__name__)
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
    steps = next((tmp_path / "store").glob("train-*/steps.txt")).read_text().split()
    assert len(steps) in (20, 21)  # gone on, not begun anew


def test_a_cancelled_cell_stays_so_and_the_others_go_on(slurm, expected, tmp_path):
    run = start(slurm, tmp_path, seconds=0.2)
    wait_for(lambda: training(tmp_path, "many"))
    slurm.ask("scancel", job_of(tmp_path, "many", slurm.running()))
    told = finish(run)
    assert run.returncode == 1 and "failed: many-s0: cancelled" in told and told.count("FAILED") == 1
    assert set(records(tmp_path)) == {"few-s0", "few-dpo-s0"}
    assert re.search(r"many-s0 +stopped \(cancelled\)", verb(slurm, "status", tmp_path))
    told = finish(run := start(slurm, tmp_path))
    assert run.returncode == 0, told
    assert records(tmp_path) == expected


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_a_command_that_ends_leaves_the_cells_and_the_next_one_adopts_them(number, slurm, expected, tmp_path):
    run = start(slurm, tmp_path, seconds=0.2)
    wait_for(lambda: training(tmp_path))
    run.send_signal(number)
    told = finish(run)
    assert number == signal.SIGKILL or "left; the cells go on" in told
    assert len(slurm.running()) == 2
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


def test_a_dead_wrapper_is_noticed(slurm, expected, tmp_path):
    run = start(slurm, tmp_path, seconds=0.2)
    wait_for(lambda: training(tmp_path, "many"))
    script = wait_for(lambda: wrappers(f"{tmp_path} ", "many-s0"))
    os.kill(script, signal.SIGKILL)
    told = finish(run)
    assert run.returncode == 1 and "many-s0 FAILED: ended by SIGKILL" in told
    told = finish(run := start(slurm, tmp_path))
    assert run.returncode == 0, told
    assert records(tmp_path) == expected


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
        (["--slurm", "partition=nope"], "Slurm would not take the cells: .*artition"),
        (["--slurm", "partition=short", "--time", "2:00:00"], r"--time 2:00:00 is more than partition short allows"),
        (["--gpus-per-node", "1"], "Slurm would not take the cells: Invalid generic resource"),
        (["--memory", "1T"], "Slurm would not take the cells: "),
    ],
)
def test_what_the_cluster_cannot_give_is_refused_before_anything_is_submitted(asked, says, slurm, tmp_path):
    told = finish(run := start(slurm, tmp_path, *asked))
    assert run.returncode == 2 and re.search(says, told) and "Traceback" not in told
    assert not (tmp_path / "jobs").exists()
