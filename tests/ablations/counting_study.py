"""A study whose stages count: the runner's tests give it as a file of the user's own."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablations.cells import Cell, Stage, Step, Work
from ablations.store import Stopped, Store, write_json
from ablations.study import Contrast, Recipe, Split, Study, Variant


def teach(work: Work) -> Mapping[str, Any]:
    (work.out / "numbers.txt").write_text("".join(f"{i}\n" for i in range(work.recipe["data"]["images"])))
    return {"count": work.recipe["data"]["images"]}


def train(work: Work) -> Mapping[str, Any]:
    """Sum the numbers one step at a time; every step is on disk before the next."""
    numbers = [int(line) for line in (work.inputs["dataset"] / "numbers.txt").read_text().split()]
    state, steps = work.out / "sum.json", work.out / "steps.txt"
    done, total = json.loads(state.read_text()) if state.exists() else (0, 0)
    for step in range(done, work.recipe["train"]["steps"]):
        if work.stop():
            raise Stopped
        total += numbers[step % len(numbers)] + work.seed
        time.sleep(work.recipe["train"]["step_seconds"])
        write_json(state, [step + 1, total])
        with steps.open("a") as file:
            file.write(f"{step}\n")
        work.progress((step + 1) / work.recipe["train"]["steps"])
    if work.recipe["train"]["fails"]:
        raise ValueError("the sum is not to be had")
    return {"total": total, "status": "diverged" if work.recipe["train"]["diverges"] else "complete"}


def judge(work: Work) -> Mapping[str, Any]:
    _, total = json.loads((work.inputs["model"] / "sum.json").read_text())
    write_json(work.out / "score.json", total / 1000)
    return {}


def record(folder: Path, cell: Cell, store: Store, plan: Mapping[str, Any]) -> None:
    step = cell.step("judge")
    assert step is not None
    status = "complete" if store.has(step) else "diverged"
    value = json.loads((store.folder(step) / "score.json").read_text()) if store.has(step) else None
    metric = {"value": value, "ci": None, "n": 1, "higher_is_better": True, "version": "1"}
    names = {"study": plan["study"], "variant": cell.variant, "seed": cell.seed, "scale": plan["scale"]}
    empty: dict[str, dict[str, Any]] = {"config": {}, "inputs": {}, "env": {}, "cost": {}, "items": {}}
    write_json(
        folder / "result.json",
        {"schema": 1, **names, **empty, "metrics": {"geneval/overall": metric}, "status": status},
    )


def path(recipe: Recipe) -> Sequence[Step]:
    first = [Step("teach", {}), Step("train", {"dataset": "teach"})]
    if recipe["preference"]["steps"]:
        return [*first, Step("prefer", {"dataset": "teach", "base": "train"}), Step("judge", {"model": "prefer"})]
    return [*first, Step("judge", {"model": "train"})]


def prefer(work: Work) -> Mapping[str, Any]:
    _, total = json.loads((work.inputs["base"] / "sum.json").read_text())
    write_json(work.out / "sum.json", [0, total + work.recipe["preference"]["steps"]])
    return {}


STAGES = {
    "teach": Stage(function=teach, version=1, sections=("data",)),
    "train": Stage(function=train, version=1, sections=("train",), seeded=True, resumable=True, awaited=True),
    "prefer": Stage(function=prefer, version=1, sections=("preference",)),
    "judge": Stage(function=judge, version=1),
}

RECIPE = {
    "data": {"images": 10},
    "train": {"steps": 4, "step_seconds": 0.0, "fails": False, "diverges": False},
    "preference": {"steps": 0},
}
SLOW = {**RECIPE, "train": {**RECIPE["train"], "steps": 20, "step_seconds": 0.05}}

STUDY = Study(
    name="counting",
    title="Counting",
    question="Does more to count give a larger sum?",
    claim="It does.",
    source="arithmetic",
    variants=[
        Variant(name="few-dpo", label="few, then more", factors={"size": "few"}, overrides={"preference.steps": 5}),
        Variant(name="few", label="few", factors={"size": "few"}),
        Variant(name="many", label="many", factors={"size": "many"}, overrides={"data.images": 20}),
        Variant(name="broken", label="broken", factors={"size": "few"}, overrides={"train.fails": True}),
        Variant(name="lost", label="diverging", factors={"size": "few"}, overrides={"train.diverges": True}),
        Variant(name="alone", label="a control", factors={"control": "alone"}, overrides={"train.steps": 1}),
    ],
    contrasts=[Contrast(name="size", label="many minus few", a="many", b="few", claim="more is more")],
    splits=[Split(name="all", label="all")],
    interaction={},
    scales={"smoke": RECIPE, "cpu": SLOW},
    notes={"smoke": "It proves nothing."},
    stages=STAGES,
    path=path,
    record=record,
)
