import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from ablations.cells import PlannedStep, Stage
from ablations.store import DEAD_AFTER_SECONDS, Stopped, Store, read_json, write_json

STEP = PlannedStep(stage="teach", version=1, key="0123456789abcdef" * 4, inputs={}, recipe={}, seed=0)


def make(store, function, *, resumable=False, stop=lambda: False):
    stage = Stage(function=function, version=1, resumable=resumable)
    return store.make(STEP, stage, {}, stop=stop, progress=lambda fraction: None)


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
    facts = store.facts(STEP)
    assert (folder / "one.txt").read_text() == "1"
    assert (facts["facts"], facts["key"], facts["bytes"]) == ({"n": 1}, STEP.key, 1)
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
        assert store.facts(STEP)["facts"] == {"found": resumable}


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
    hold_lease(store, {"pid": dead.pid, "started": "1", "host": socket.gethostname()})
    assert not store.is_being_made(STEP)
    hold_lease(store, {"pid": 1, "started": "1", "host": "another-host"})
    assert store.is_being_made(STEP)
    with pytest.raises(Stopped):
        make(store, refuse, stop=lambda: True)
    hold_lease(store, {"pid": 1, "started": "1", "host": "another-host"}, age=DEAD_AFTER_SECONDS + 1)
    make(store, write_one)
    assert store.has(STEP)


def test_a_torn_lease_is_no_lease(tmp_path):
    store = Store(tmp_path)
    (tmp_path / ".leases").mkdir()
    (tmp_path / ".leases" / STEP.folder).write_text('{"pid": 1')
    make(store, write_one)
    assert store.has(STEP)


def test_a_store_of_another_layout_is_refused(tmp_path):
    write_json(tmp_path / "store.json", {"layout": 99})
    with pytest.raises(ValueError, match=r"layout 99.*another --out"):
        Store(tmp_path)


def test_torn_json_is_named(tmp_path):
    (tmp_path / "a.json").write_text('{"x": ')
    with pytest.raises(ValueError, match=r"a\.json is not whole JSON"):
        read_json(tmp_path / "a.json")


def test_a_folder_without_its_stage_file_is_made_again(tmp_path):
    store = Store(tmp_path)
    (make(store, write_one) / "stage.json").unlink()
    make(store, write_one)
    assert store.has(STEP)
