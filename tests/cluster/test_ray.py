"""Cells on a real Ray of two nodes: they may spread over both, and a lost node, or a stopped run, loses nothing."""

import os
import re
import secrets
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE = str(ROOT / "tests/ablations/counting_study.py")
STARTS = 3
VARIANTS = ("few", "many", "few-dpo")
# A cluster that only loopback reaches; told to end a node, or all, by lines on its standard input.
CLUSTER = """
import importlib.util, sys
from ray.cluster_utils import Cluster
has_jobs = importlib.util.find_spec("aiohttp_cors") is not None
args = {"node_ip_address": "127.0.0.1", "include_dashboard": has_jobs, "num_cpus": 1, "object_store_memory": 80 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args=args)
node = cluster.add_node(num_cpus=1, node_ip_address="127.0.0.1", object_store_memory=80 * 2**20)
print("address", cluster.address, flush=True)
for line in sys.stdin:
    if line.strip() == "lose a node":
        cluster.remove_node(node, allow_graceful=False)
        print("lost", flush=True)
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def ray(tmp_path_factory):
    pytest.importorskip("ray", reason="ray is not installed (pip install 'lightgen-bench[ray]')")
    folder = Path("/tmp") if len(str(tmp_path_factory.getbasetemp())) > 40 else tmp_path_factory.mktemp("ray")
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    environment |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": str(folder)}
    # Ray's own switch for machines whose nodes are all on loopback; else a driver looks for them at the host's address.
    environment |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    for _ in range(STARTS):
        process, address = start_cluster(environment, tmp_path_factory.mktemp("told") / "stderr.txt")
        if address:
            break
    else:
        pytest.fail(f"Ray did not start in {STARTS} times 30 s")
    yield process, environment | {"RAY_ADDRESS": address}
    end(process)


def start_cluster(environment, told):
    """The process that holds the cluster, and its address; none where Ray's own 30 s were too few on a busy machine."""
    with told.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", CLUSTER], env=environment, cwd=ROOT, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=errors,
        )  # fmt: skip
    address = next((line.split()[1] for line in process.stdout if line.startswith("address")), "")
    if not address:
        end(process)
        assert "timed out during startup" in told.read_text() or "TimeoutError" in told.read_text(), told.read_text()
    return process, address


def end(process):
    process.stdin.close()
    process.wait(timeout=120)
    process.stdout.close()


def records(out):
    return {path.parent.name: path.read_text() for path in sorted(out.glob("cells/*/result.json"))}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    out = tmp_path_factory.mktemp("local")
    arguments = [FILE, "--scale", "cpu", "--only", *VARIANTS, "--set", "runtime.step_seconds=0"]
    subprocess.run([sys.executable, "-m", "ablations.run", *arguments, "--out", str(out)], check=True, cwd=ROOT)
    return records(out)


def start(environment, out, *more, only=VARIANTS):
    command = [sys.executable, "-m", "ablations.run", FILE, "--scale", "cpu", "--out", str(out), "--engine", "ray"]
    command += ["--only", *only, "--set", "runtime.step_seconds=0.4", *more]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(condition, run=None, seconds=240.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert run is None or run.poll() is None, run.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def training(out):
    return list((out / "store/.work").glob("train*/steps.txt"))


def processes(out, module):
    """The ids of the processes that run the module for the run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if words[1:3] == [b"-m", module.encode()] and str(out).encode() in words:
                found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (
            ["--gpus-per-node", "1"],
            "no node of the Ray cluster has .* 1 GPUs on each of 1 nodes: 1 cores and 0 GPUs",
        ),
        (
            ["runtime.processes=3", "--nodes", "3"],
            "2 nodes of the Ray cluster have .* 0 GPUs on each of 3 nodes",
        ),
    ],
)
def test_a_cell_that_fits_on_no_nodes_is_refused(asked, says, ray, tmp_path):
    run = start(ray[1], tmp_path, *asked)
    told, _ = run.communicate(timeout=240)
    assert run.returncode == 2 and re.search(says, told), told


def test_a_cell_spreads_over_two_nodes_and_one_of_its_processes_is_killed(ray, expected, tmp_path):
    run = start(ray[1], tmp_path, "runtime.processes=2", "--nodes", "2", only=["few"])
    wait_for(lambda: training(tmp_path) and len(processes(tmp_path, "ablations.rank")) == 2, run)
    os.kill(max(processes(tmp_path, "ablations.rank")), signal.SIGKILL)
    told, _ = run.communicate(timeout=240)
    assert run.returncode == 0, told
    assert records(tmp_path) == {"few-s0": expected["few-s0"]}
    assert "train: a process was ended by signal 9; start 1 of 3" in (tmp_path / "cells/few-s0/log.txt").read_text()
    seen = sorted(path.name for path in next((tmp_path / "store").glob("judge-*")).glob("seen*"))
    assert seen == ["seen-0-of-2.txt", "seen-1-of-2.txt"]


def test_a_stopped_run_lets_its_workers_save(ray, expected, tmp_path):
    run = start(ray[1], tmp_path)
    wait_for(lambda: len(training(tmp_path)) == 2, run)
    run.send_signal(signal.SIGTERM)
    told, _ = run.communicate(timeout=240)
    assert run.returncode == 130, told
    assert not processes(tmp_path, "ablations.worker")
    assert "saved; the same command resumes it" in (tmp_path / "cells/few-s0/log.txt").read_text()


def test_one_may_leave_and_cancel_later(ray, expected, tmp_path):
    pytest.importorskip("aiohttp_cors", reason="Ray's job server is not installed (pip install 'ray[default]')")
    run = start(ray[1], tmp_path, "--detach")
    told, _ = run.communicate(timeout=240)
    assert run.returncode == 0 and "you may leave" in told, told
    wait_for(lambda: len(training(tmp_path)) == 2)
    cancel = [sys.executable, "-m", "ablations", "cancel", str(tmp_path)]
    told = subprocess.run(cancel, cwd=ROOT, env=ray[1], capture_output=True, text=True)
    assert "stopped Ray's job" in told.stdout, told
    run = start(ray[1], tmp_path, "--detach")
    told, _ = run.communicate(timeout=240)
    assert run.returncode == 0, told
    wait_for(lambda: len(records(tmp_path)) == len(expected))
    assert records(tmp_path) == expected


def test_a_lost_node_is_no_failure(ray, expected, tmp_path):
    cluster, environment = ray
    run = start(environment, tmp_path)
    wait_for(lambda: len(training(tmp_path)) == 2, run)
    cluster.stdin.write("lose a node\n")
    cluster.stdin.flush()
    told, _ = run.communicate(timeout=300)
    assert run.returncode == 0, told
    assert "was stopped from outside and is resumed" in told
    assert records(tmp_path) == expected
