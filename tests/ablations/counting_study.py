"""A study whose steps count: the runner's tests give it as a file of the user's own."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ablations.runner.step import Facts, Step, Stopped, Work
from ablations.runner.store import Store
from ablations.runner.study import Cell, Contrast, Study, Variant
from lightgen.disk.config import override
from lightgen.disk.json_files import write_json


@dataclass(frozen=True, kw_only=True)
class Teach(Step):
    images: int

    def run(self, work: Work) -> Facts:
        (work.out / "numbers.txt").write_text("".join(f"{i}\n" for i in range(self.images)))
        return {"count": self.images}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    steps: int = 4
    fails: bool = False
    diverges: bool = False


@dataclass(frozen=True, kw_only=True)
class Train(Step):
    """Sums the numbers one at a time; every sum is on disk before the next. Of several processes the first sums."""

    resumable: ClassVar[bool] = True
    is_slow: ClassVar[bool] = True
    together: ClassVar[bool] = True
    dataset: Teach
    config: TrainConfig
    seed: int

    def run(self, work: Work) -> Facts:
        numbers = [int(line) for line in (work.made(self.dataset) / "numbers.txt").read_text().split()]
        state, steps = work.out / "sum.json", work.out / "steps.txt"
        while int(os.environ.get("RANK", 0)):
            if work.stop():
                raise Stopped
            if state.exists() and json.loads(state.read_text())[0] == self.config.steps:
                return {}
            time.sleep(0.02)
        done, total = json.loads(state.read_text()) if state.exists() else (0, 0)
        for step in range(done, self.config.steps):
            if work.stop():
                raise Stopped
            total += numbers[step % len(numbers)] + self.seed
            time.sleep(work.runtime.step_seconds)
            write_json(state, [step + 1, total])
            with steps.open("a") as file:
                file.write(f"{step}\n")
            work.progress((step + 1) / self.config.steps)
        if self.config.fails:
            raise ValueError("the sum is not to be had")
        return {"total": total, "status": "diverged" if self.config.diverges else "complete"}


@dataclass(frozen=True, kw_only=True)
class Prefer(Step):
    base: Train
    more: int

    def run(self, work: Work) -> Facts:
        _, total = json.loads((work.made(self.base) / "sum.json").read_text())
        write_json(work.out / "sum.json", [0, total + self.more])
        return {}


@dataclass(frozen=True, kw_only=True)
class Judge(Step):
    parts: ClassVar[tuple[str, ...]] = ("look",)
    model: Train | Prefer

    def look(self, work: Work) -> None:
        (work.out / "seen-{}-of-{}.txt".format(*work.shard)).touch()

    def run(self, work: Work) -> Facts:
        _, total = json.loads((work.made(self.model) / "sum.json").read_text())
        write_json(work.out / "score.json", total / 1000)
        return {}


@dataclass(frozen=True, kw_only=True)
class Runtime:
    step_seconds: float = 0.0
    cells_per_gpu: int = 1
    processes: int = 1
    threads: int = 0


@dataclass(frozen=True, kw_only=True)
class Setting:
    images: int = 10
    train: TrainConfig = TrainConfig()
    runtime: Runtime = field(default_factory=Runtime)


def record(folder: Path, cell: Cell, store: Store) -> None:
    step = cell.step("judge")
    assert step is not None
    value = json.loads((store.folder(step) / "score.json").read_text()) if store.has(step) else None
    metric = {"value": value, "ci": None, "n": 1, "higher_is_better": True, "version": "1"}
    names = {"study": cell.study, "variant": cell.variant, "seed": cell.seed, "scale": cell.scale}
    empty: dict[str, Any] = {"config": {}, "inputs": {}, "env": {}, "cost": {}, "items": {}}
    status = "complete" if store.has(step) else "diverged"
    result = {"schema": 1, **names, **empty, "metrics": {"geneval/overall": metric}, "status": status}
    write_json(folder / "result.json", result)


def variants(setting: Setting, seed: int) -> list[Variant]:
    def train(changes: dict[str, Any]) -> Train:
        changed = override(setting, changes)
        return Train(dataset=Teach(images=changed.images), config=changed.train, seed=seed)

    def arm(name: str, label: str, factors: dict[str, str], changes: dict[str, Any]) -> Variant:
        return Variant(name=name, label=label, factors=factors, ends=(Judge(model=train(changes)),))

    more = Prefer(base=train({}), more=5)
    return [
        Variant(name="few-dpo", label="few, then more", factors={"size": "few"}, ends=(Judge(model=more),)),
        arm("few", "few", {"size": "few"}, {}),
        arm("many", "many", {"size": "many"}, {"images": 20}),
        arm("broken", "broken", {"size": "few"}, {"train.fails": True}),
        arm("lost", "diverging", {"size": "few"}, {"train.diverges": True}),
        arm("alone", "a control", {"control": "alone"}, {"train.steps": 1}),
        Variant(name="never", label="not here", factors={"size": "few"}, why_not="there is nothing to count"),
    ]


STUDY = Study(
    name="counting",
    title="Counting",
    question="Does more to count give a larger sum?",
    claim="It does.",
    source="arithmetic",
    variants=variants,
    contrasts=[Contrast(name="size", label="many minus few", a="many", b="few", claim="more is more")],
    settings={"smoke": Setting(), "cpu": override(Setting(), {"train.steps": 20, "runtime.step_seconds": 0.05})},
    notes={"smoke": "It proves nothing."},
    steps={step.__name__: step for step in (Teach, Train, Prefer, Judge)},
    record=record,
)
