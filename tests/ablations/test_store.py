import importlib.metadata
import json
import os
import socket
import subprocess
import sys
import threading
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from ablations.runner import lease
from ablations.runner.lease import DEAD_AFTER_SECONDS
from ablations.runner.step import Step, Stopped
from ablations.runner.store import Store
from lightgen.disk.json_files import write_json


@dataclass(frozen=True, kw_only=True)
class Teach(Step):
    """A step whose work a test gives."""

    count: int = 3


STEP = Teach(count=1)


def make(store, function, *, resumable=False, stop=lambda: False, say=lambda line: None):
    kind = type("Teach", (Teach,), {"run": lambda self, work: function(work), "resumable": resumable})
    return store.make(kind(count=1), stop=stop, say=say)


def write_one(work):
    (work.out / "one.txt").write_text("1")
    return {"n": 1}


def refuse(work):
    raise AssertionError("a finished step is not made again")


def hold_lease(store, holder, age=0.0):
    path = store.root / ".leases" / STEP.folder
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(holder))
    os.utime(path, (time.time() - age, time.time() - age))


def test_a_step_is_made_once_and_remembers_what_it_was_made_of(tmp_path):
    store = Store(tmp_path)
    folder = make(store, write_one)
    assert make(store, refuse) == folder
    record = store.record(STEP)
    assert (folder / "one.txt").read_text() == "1"
    assert (record["facts"], record["key"], record["bytes"]) == ({"n": 1}, STEP.key, 1)
    assert record["settings"] == {"step": "Teach", "count": 1} and store.facts(STEP) == {"n": 1}
    assert store.measured()["teach"][1] == 1
    assert not list((tmp_path / ".leases").glob("teach*"))


def test_a_failed_step_leaves_no_folder_and_only_a_resumable_one_keeps_its_work(tmp_path):
    def fail(work):
        write_one(work)
        raise RuntimeError("no")

    def resumed(work):
        return {"found": (work.out / "one.txt").exists()}

    for resumable in (True, False):
        store = Store(tmp_path / str(resumable))
        with pytest.raises(RuntimeError):
            make(store, fail, resumable=resumable)
        assert not store.has(STEP) and not store.is_being_made(STEP)
        make(store, resumed, resumable=resumable)
        assert store.facts(STEP) == {"found": resumable}


def test_two_workers_make_a_step_once(tmp_path):
    made, results = [], []

    def slow(work):
        made.append(1)
        time.sleep(0.5)
        return write_one(work)

    threads = [threading.Thread(target=lambda: results.append(make(Store(tmp_path), slow))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and len(set(results)) == 1


def test_the_lease_of_a_dead_process_is_taken_over_and_of_a_living_one_respected(tmp_path):
    store = Store(tmp_path)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    hold_lease(store, {"pid": dead.pid, "started": 1.0, "host": socket.gethostname()})
    assert not store.is_being_made(STEP)
    hold_lease(store, {"pid": os.getpid(), "started": 1.0, "host": socket.gethostname()})
    assert not store.is_being_made(STEP)
    started = psutil.Process().create_time()
    hold_lease(store, {"pid": os.getpid(), "started": started, "host": socket.gethostname()})
    assert store.is_being_made(STEP)
    hold_lease(store, {"pid": 1, "started": 1.0, "host": "another-host"})
    assert store.is_being_made(STEP)
    with pytest.raises(Stopped):
        make(store, refuse, stop=lambda: True)
    hold_lease(store, {"pid": 1, "started": 1.0, "host": "another-host"}, age=DEAD_AFTER_SECONDS + 1)
    make(store, write_one)
    assert store.has(STEP)


def test_a_torn_lease_is_no_lease(tmp_path):
    store = Store(tmp_path)
    (tmp_path / ".leases").mkdir()
    (tmp_path / ".leases" / STEP.folder).write_text('{"pid": 1')
    make(store, write_one)
    assert store.has(STEP)


@pytest.mark.parametrize(
    ("layout", "says"),
    [
        ({"layout": 1}, r"written by lightgen-bench 0\.1 \(store layout 1.*another --out, or use that version"),
        ({"layout": 3, "written_by": "lightgen-bench 9"}, "written by lightgen-bench 9"),
        ([], "another version"),
    ],
)
def test_a_store_of_another_layout_is_refused_with_the_version_that_wrote_it(layout, says, tmp_path):
    write_json(tmp_path / "store.json", layout)
    with pytest.raises(ValueError, match=says):
        Store(tmp_path)


def test_a_folder_without_its_step_file_is_made_again(tmp_path):
    store = Store(tmp_path)
    (make(store, write_one) / "step.json").unlink()
    make(store, write_one)
    assert store.has(STEP)


FAR = {"attempt": 3, "pid": 7, "started": 1.0, "host": "another-host"}


@pytest.mark.parametrize("ahead", [0.0, 86400.0])
def test_a_holder_whose_clock_is_ahead_is_waited_for_as_long_as_it_gives_signs_and_no_longer(
    ahead, tmp_path, monkeypatch
):
    monkeypatch.setattr(lease, "DEAD_AFTER_SECONDS", 1.0)
    store, said = Store(tmp_path), []
    path = tmp_path / ".leases" / STEP.folder
    hold_lease(store, FAR, age=-ahead)

    def give_signs():
        for i in range(4):
            time.sleep(0.4)
            os.utime(path, (time.time() + ahead + i, time.time() + ahead + i))

    beats = threading.Thread(target=give_signs)
    beats.start()
    make(
        store,
        lambda work: {"attempt": json.loads(path.read_text())["attempt"], "beating": beats.is_alive()},
        say=said.append,
    )
    assert store.facts(STEP) == {"attempt": 4, "beating": False}
    assert said == [f"{STEP.folder} is being made by process 7 on another-host; waiting for it"]


def test_an_attempt_that_slept_too_long_keeps_its_hands_off_what_its_successor_makes(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.05)
    store, path = Store(tmp_path), tmp_path / ".leases" / STEP.folder

    def slept(work):
        write_one(work)
        hold_lease(store, FAR)  # another took it over meanwhile
        while not work.stop():
            time.sleep(0.02)
        (work.out / "one.txt").write_text("late")
        return {"by": "the one that slept"}

    with pytest.raises(Stopped):
        make(store, slept, resumable=True)
    assert json.loads(path.read_text()) == FAR and not store.has(STEP)
    old = next((tmp_path / ".work").iterdir())
    hold_lease(store, FAR, age=DEAD_AFTER_SECONDS + 1)

    def goes_on(work):
        assert work.out.name == f"{STEP.folder}.4" and (work.out / "one.txt").read_text() == "late"
        (old / "one.txt").write_text("later still")  # a copy: the one that slept may have it open
        return {"by": "the next", "one": (work.out / "one.txt").read_text()}

    make(store, goes_on, resumable=True)
    assert store.facts(STEP) == {"by": "the next", "one": "late"}
    assert not list((tmp_path / ".work").iterdir()) and not list((tmp_path / ".leases").glob("teach*"))


def test_an_attempt_whose_folder_was_cleared_away_is_no_failure(tmp_path):
    store = Store(tmp_path)

    def cleared(work):
        hold_lease(store, FAR)
        raise FileNotFoundError(work.out)

    with pytest.raises(Stopped):
        make(store, cleared)


def test_a_checkout_that_is_not_installed_says_its_version(tmp_path, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    Store(tmp_path)
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    written = json.loads((tmp_path / "store.json").read_text())["written_by"]
    assert written == f"lightgen-bench {project['version']}"
