"""The differences that a study's contrasts ask for, on the same prompts, seeds and draws (inference.py)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from reports import inference
from reports.inference import Inference, Part, Side
from reports.records.cell import Cell
from reports.records.record import Metric, is_geneval, split_and_task
from reports.records.study import Contrast, Study
from reports.scores import version
from reports.words import OVERALL

Arms = Sequence[Sequence[Sequence[Cell]]]  # side -> seed -> draw
NORMAL_95 = 1.959964


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A paired difference; `inference` is None where it could not be measured, and `obstacle` says why."""

    inference: Inference | None = None
    obstacle: str = ""
    prompts: int = 0
    seeds: tuple[int, ...] = ()
    parts: Mapping[tuple[str, str], "Difference"] = field(default_factory=dict)  # (split or "", task or "overall")

    @property
    def effect(self) -> float | None:
        return self.inference.effect if self.inference else None

    def has_part(self, name: str) -> bool:
        """Whether that source of variance is in the interval."""
        return self.inference is not None and any(part.name == name for part in self.inference.parts)

    @property
    def ci(self) -> tuple[float, float] | None:
        """At 95 %."""
        return self.inference.interval() if self.inference else None


def difference(study: Study, contrast: Contrast) -> Difference:
    """What the study's records say, on the seeds that all of the contrast's variants have."""
    names = [name for side in contrast.sides for name in side]
    cells = {name: {cell.seed: cell for cell in study.complete(name)} for name in names}
    seeds = tuple(sorted(set.intersection(*(set(found) for found in cells.values()))))
    if not seeds:
        lacking = [name for name, found in cells.items() if not found]
        why = f"no complete cell of {', '.join(lacking)}" if lacking else "no seed is complete in all of its variants"
        broken = [cell for cell in study.incomplete() if cell.variant in lacking and cell.state == "unreadable"]
        return Difference(obstacle=f"Not answered yet: {why}{f' ({broken[0].reason})' if broken else ''}.")
    order = [_in_order_of_draws(study, side) for side in contrast.sides]
    arms = [[[cells[name][seed] for name in side] for seed in seeds] for side in order]
    try:
        return _measured(study, contrast, arms, seeds)
    except ValueError as error:
        return Difference(obstacle=f"Not answered: {error}.")


def _in_order_of_draws(study: Study, side: Sequence[str]) -> list[str]:
    return sorted(side, key=lambda name: study.variant(name).factors.get("draw", ""))


def _measured(study: Study, contrast: Contrast, arms: Arms, seeds: tuple[int, ...]) -> Difference:
    found = of_arms(contrast.metric, arms)
    keys = _keys(study, arms[0][0][0]) if is_geneval(contrast.metric) else []
    parts = {key: _of_verdicts(arms, *key) for key in keys}
    return replace(found, seeds=seeds, parts=parts)


def of_arms(metric: str, arms: Arms) -> Difference:
    """The difference of these cells in a metric; ValueError where they may not be compared."""
    if not is_geneval(metric):
        return Difference(inference=_of_records(metric, arms))
    if len({version(cell) for side in arms for draws in side for cell in draws}) > 1:
        raise ValueError("the variants were judged by different versions of the metric")
    return _of_verdicts(arms, *split_and_task(metric))


def _keys(study: Study, cell: Cell) -> list[tuple[str, str]]:
    """All prompts, each split and each task."""
    splits = [name for name, _ in study.splits if any(split == name for _, split, _ in cell.prompts.values())]
    tasks = list(dict.fromkeys(task for task, *_ in cell.prompts.values()))
    return [("", OVERALL), *((split, OVERALL) for split in splits), *(("", task) for task in tasks)]


def _of_verdicts(arms: Arms, split: str, task: str) -> Difference:
    first = arms[0][0][0].prompts
    chosen: dict[str, list[str]] = {}
    for prompt, (tag, part, _) in first.items():
        if task in (OVERALL, tag) and split in ("", part):
            chosen.setdefault(tag, []).append(prompt)
    if not chosen:
        tasks = ", ".join(dict.fromkeys(tag for tag, *_ in first.values()))
        raise ValueError(f"no prompts of task {task!r} in split {split!r}; tasks are {OVERALL}, {tasks}")
    for cell in (cell for side in arms for draws in side for cell in draws):
        if cell.prompts.keys() != first.keys():
            raise ValueError(f"{cell.name} has other prompts: {len(cell.prompts.keys() ^ first.keys())} differ")
    found = inference.contrast([_shares(side, chosen) for side in arms])
    return Difference(inference=found, prompts=sum(map(len, chosen.values())))


def _shares(side: Sequence[Sequence[Cell]], chosen: Mapping[str, Sequence[str]]) -> Side:
    """{task: (seeds, draws, prompts)}."""
    return {
        task: np.array([[[cell.prompts[prompt][2] for prompt in prompts] for cell in draws] for draws in side])
        for task, prompts in chosen.items()
    }


def _of_records(name: str, arms: Arms) -> Inference:
    """A metric that has no verdicts: its seeds and draws, and what the record's own intervals say of the prompts."""
    found = [[[_metric(cell, name) for cell in draws] for draws in side] for side in arms]
    metrics = [metric for side in found for draws in side for metric in draws]
    if len({metric.version for metric in metrics}) > 1:
        raise ValueError("the variants were judged by different versions of the metric")
    sides = [{"": np.array([[[metric.value] for metric in draws] for draws in side])} for side in found]
    whole = inference.contrast(sides)
    return Inference(effect=whole.effect, parts=[*whole.parts, *_recorded(found)])


def _recorded(found: Sequence[Sequence[Sequence[Metric]]]) -> list[Part]:
    """The prompts' part from the records' intervals: the seeds share the prompts, so their mean varies as one does.

    The sides' intervals are taken as independent, which errs on the careful side where they share prompts.
    """
    variances = [
        [((m.ci[1] - m.ci[0]) / 2 / NORMAL_95) ** 2 for draws in side for m in draws if m.ci] for side in found
    ]
    variance = sum(float(np.mean(side)) for side in variances if side)
    return [Part("prompts", np.asarray(variance), np.asarray(1000.0))] if variance else []


def _metric(cell: Cell, name: str) -> Metric:
    """The cell's metric of that name, which may leave out the brackets with extractor, N and reference."""
    named = [metric for full, metric in cell.metrics.items() if full == name or full.startswith(f"{name}[")]
    if len(named) != 1 or named[0].value is None:
        raise ValueError(f"{name} was not measured in all of its cells")
    return named[0]
