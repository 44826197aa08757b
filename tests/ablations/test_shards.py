"""A step whose work processes share is the step that one makes: the same files, byte for byte, and the same facts."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ablations.recipes import pairs, prompts, trained, tuned, untrained, verdicts
from ablations.runner.step import in_order
from ablations.runner.store import Store
from ablations.steps import Generate
from ablations.studies import load_study

SMOKE = load_study("dpo_sweep").setting("smoke")
BASE, MODEL = trained(SMOKE, 0), untrained(SMOKE, 0)
HOW = ("step.json", "generation.json", "features.safetensors")
CHEAP = replace(SMOKE.runtime, device="cpu", generate_batch=4)


def latents():
    return BASE.latents


def teacher_pairs():
    return pairs(SMOKE, BASE, MODEL, 0, "teacher")


def tuned_guidance():
    return replace(tuned(SMOKE, BASE, 0), model=MODEL, scales=(2.0, 3.0))


def quality():
    images = Generate(model=MODEL, prompts=prompts(SMOKE), sampling=SMOKE.sampling, copies=1, seed=0)
    return verdicts(SMOKE, images)[1]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("one"))


def shared(step, work):
    """What the worker of a cell of three processes does, with the processes one after another."""
    for part in step.parts:
        for place in (2, 0, 1):
            getattr(step, part)(replace(work, shard=(place, 3)))
    return step.run(work)


def files(folder):
    found = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    # These say how it was made: seconds, processes, and when the pictures were written.
    return {name: data for name, data in found.items() if Path(name).name not in HOW}


@pytest.mark.parametrize("make", [latents, teacher_pairs, tuned_guidance, quality])
def test_three_processes_make_what_one_makes(make, one, tmp_path, monkeypatch):
    from benchmarks.quality import extraction

    monkeypatch.setattr(extraction, "_PART", 2)  # so that four pictures are several processes' work
    step = make()
    assert step.parts
    for needed in in_order([step]):
        one.make(needed, CHEAP)
    shutil.copytree(one.root, tmp_path, dirs_exist_ok=True, symlinks=True)
    three = Store(tmp_path)
    shutil.rmtree(three.folder(step))
    three.make(step, CHEAP, run=shared)
    assert files(three.folder(step)) == files(one.folder(step))
    assert three.facts(step) == one.facts(step)
