"""The differences that a study's contrasts ask for, on the same prompts, seeds and draws (inference.py).

Each cell says which split a prompt is of: a seed that draws its own training sets has splits of its own. A prompt
counts in a split, at a seed, where all of the contrast's cells of that seed say so; and at all, where all of them have
it: a record leaves out prompts whose objects no training set of its seed names, and counts them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from reports import inference
from reports.inference import SIGNS, Inference, Part, Side
from reports.records.cell import Cell
from reports.records.record import Metric, is_geneval, split_and_task
from reports.records.study import Contrast, Study
from reports.scores import version
from reports.words import OVERALL

Arms = Sequence[Sequence[Sequence[Cell]]]  # side -> seed -> draw
NORMAL_95 = 1.959964
ABSENT = ("", "", float("nan"))  # what a cell says of a prompt that it has not


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A paired difference; `inference` is None where it could not be measured, and `obstacle` says why."""

    inference: Inference | None = None
    obstacle: str = ""
    prompts: int = 0
    seeds: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()  # of the sides, a mean of task means, where there are verdicts
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
        there = [cell for cell in study.incomplete() if cell.variant in lacking and cell.state != "partial"]
        first = min(there, key=lambda cell: cell.state != "unreadable", default=None)
        reason = f" ({first.name}: {first.reason})" if first else ""
        return Difference(obstacle=f"Not answered yet: {why}{reason}.")
    order = [_in_order_of_draws(study, side) for side in contrast.sides]
    arms = [[[cells[name][seed] for name in side] for seed in seeds] for side in order]
    try:
        return _measured(study, contrast, arms, seeds)
    except ValueError as error:
        return Difference(obstacle=f"Not answered: {error}.")


def _in_order_of_draws(study: Study, side: Sequence[str]) -> list[str]:
    return sorted(side, key=lambda name: study.variant(name).factors.get("draw", ""))


def _measured(study: Study, contrast: Contrast, arms: Arms, seeds: tuple[int, ...]) -> Difference:
    measure = Measure(weights=contrast.weights, is_nested=study.draws == "nested")
    found = of_arms(contrast.metric, arms, measure)
    if not is_geneval(contrast.metric):
        return replace(found, seeds=seeds)
    keys = [("", OVERALL), *((name, OVERALL) for name, _ in study.splits), *(("", task) for task in _tasks(arms))]
    parts = {key: part for key in keys if (part := _of_verdicts(arms, measure, *key))}
    return replace(found, seeds=seeds, parts=parts)


@dataclass(frozen=True, kw_only=True)
class Measure:
    """How the sides make a difference."""

    weights: Sequence[float] = SIGNS
    is_nested: bool = False  # each seed has draws of its own, whose luck is in the scatter of the seeds

    def of(self, sides: Sequence[Side]) -> Inference:
        if self.is_nested:
            sides = [{task: values.mean(-2, keepdims=True) for task, values in side.items()} for side in sides]
        return inference.contrast(sides, self.weights)


def of_arms(metric: str, arms: Arms, measure: Measure = Measure()) -> Difference:
    """The difference of these cells in a metric; ValueError where they may not be compared."""
    if not is_geneval(metric):
        return Difference(inference=_of_records(metric, arms, measure))
    if len({version(cell) for cell in _cells(arms)}) > 1:
        raise ValueError("the variants were judged by different versions of the metric")
    split, task = split_and_task(metric)
    found = _of_verdicts(arms, measure, split, task)
    if found is None:
        tasks = ", ".join([OVERALL, *_tasks(arms)])
        raise ValueError(f"no prompts of task {task!r} in split {split!r} at every seed; tasks are {tasks}")
    return found


def _cells(arms: Arms) -> list[Cell]:
    return [cell for side in arms for draws in side for cell in draws]


def _tasks(arms: Arms) -> list[str]:
    return list(dict.fromkeys(task for cell in _cells(arms) for task, *_ in cell.prompts.values()))


def _of_verdicts(arms: Arms, measure: Measure, split: str, task: str) -> Difference | None:
    """The difference on the prompts of that split and task; None where some seed has none."""
    first = arms[0][0][0]
    for cell in _cells(arms):
        if cell.prompts.keys() != first.prompts.keys() and not _left_out(cell) + _left_out(first):
            differ = cell.prompts.keys() ^ first.prompts.keys()
            raise ValueError(f"{cell.name} has other prompts: {len(differ)} differ")
    chosen = _chosen(arms, split, task)
    if not chosen:
        return None
    count = sum(len(prompts) for prompts, _ in chosen.values())
    sides = [_shares(side, chosen) for side in arms]
    scores = tuple(float(np.mean([np.nanmean(shares) for shares in side.values()])) for side in sides)
    return Difference(inference=measure.of(sides), prompts=count, scores=scores)


Chosen = Mapping[str, tuple[list[str], np.ndarray]]  # {task: (prompts, (seeds, prompts): whether each counts there)}


def _chosen(arms: Arms, split: str, task: str) -> Chosen:
    """The prompts of that split and task; a task that has none at some seed is left out."""
    found: dict[str, tuple[list[str], np.ndarray]] = {}
    all_prompts = {prompt: own for cell in _cells(arms) for prompt, (own, *_) in cell.prompts.items()}
    for tag in _tasks(arms) if task == OVERALL else [task]:
        prompts = [prompt for prompt, own in all_prompts.items() if own == tag]
        at = np.array([[_counts(arms, seed, prompt, split) for prompt in prompts] for seed in range(len(arms[0]))])
        if prompts and at.any(1).all():
            used = np.flatnonzero(at.any(0))
            found[tag] = [prompts[place] for place in used], at[:, used]
    return found


def _counts(arms: Arms, seed: int, prompt: str, split: str) -> bool:
    found = [cell.prompts.get(prompt) for side in arms for cell in side[seed]]
    return all(own is not None and (not split or own[1] == split) for own in found)


def _left_out(cell: Cell) -> float:
    """Prompts that the cell's record leaves out."""
    metric = cell.metrics.get("prompts/left_out")
    return metric.value or 0 if metric else 0


def _shares(side: Sequence[Sequence[Cell]], chosen: Chosen) -> Side:
    """{task: (seeds, draws, prompts)}; NaN where a prompt does not count."""
    return {
        task: np.where(
            at[:, None],
            [[[cell.prompts.get(prompt, ABSENT)[2] for prompt in prompts] for cell in draws] for draws in side],
            np.nan,
        )
        for task, (prompts, at) in chosen.items()
    }


def _of_records(name: str, arms: Arms, measure: Measure) -> Inference:
    """A metric that has no verdicts: its seeds and draws, and what the record's own intervals say of the prompts."""
    found = [[[_metric(cell, name) for cell in draws] for draws in side] for side in arms]
    metrics = [metric for side in found for draws in side for metric in draws]
    if len({metric.version for metric in metrics}) > 1:
        raise ValueError("the variants were judged by different versions of the metric")
    sides = [{"": np.array([[[metric.value] for metric in draws] for draws in side])} for side in found]
    whole = measure.of(sides)
    return Inference(effect=whole.effect, parts=[*whole.parts, *_recorded(found, measure.weights)])


def _recorded(found: Sequence[Sequence[Sequence[Metric]]], weights: Sequence[float]) -> list[Part]:
    """The prompts' part from the records' intervals: the seeds share the prompts, so their mean varies as one does.

    The sides' intervals are taken as independent, which errs on the careful side where they share prompts.
    """
    variances = [
        [(weight * (m.ci[1] - m.ci[0]) / 2 / NORMAL_95) ** 2 for draws in side for m in draws if m.ci]
        for side, weight in zip(found, weights)
    ]
    variance = sum(float(np.mean(side)) for side in variances if side)
    return [Part("prompts", np.asarray(variance), np.asarray(1000.0))] if variance else []


def _metric(cell: Cell, name: str) -> Metric:
    """The cell's metric of that name, which may leave out the brackets with extractor, N and reference."""
    named = {full: metric for full, metric in cell.metrics.items() if full == name or full.startswith(f"{name}[")}
    if len(named) > 1:
        raise ValueError(f"{name} was measured in several ways, the contrast must name one: {', '.join(named)}")
    if not named or (found := next(iter(named.values()))).value is None:
        raise ValueError(f"{name} was not measured in {cell.name}")
    return found
