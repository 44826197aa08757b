"""GenEval scores with intervals, and what the study's contrasts say.

The verdict of a contrast follows from its 95 % interval and its smallest effect of interest alone:

    supported      the whole interval lies at or above the smallest effect of interest
    refuted        the whole interval lies below it: an effect that matters is ruled out
    inconclusive   anything else, a smoke run, or numbers that may not be compared
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import stdev

from geneval import statistics
from reports.records import Cell, Contrast, Metric, Study

OVERALL = "overall"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A variant's score on some prompts: the mean over its seeds."""

    value: float
    ci: tuple[float, float] | None  # 95 %
    n: int  # images
    prompts: int
    seeds: int
    version: str


Scores = Mapping[tuple[str, str, str], Estimate]  # (variant, split or "" for all prompts, task or "overall")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A paired difference on the same prompts and seeds."""

    effect: float
    ci: tuple[float, float] | None  # 95 %
    prompts: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A contrast with its verdict; without `effect` where the numbers are not there or may not be compared."""

    contrast: Contrast
    verdict: str
    sentence: str
    effect: float | None = None
    ci: tuple[float, float] | None = None
    prompts: int = 0
    seeds: tuple[int, ...] = ()
    detectable: float | None = None  # smallest effect seen with 80 % power
    parts: Mapping[tuple[str, str], Difference] = field(default_factory=dict)  # (split or "", task or "overall")


def scores(study: Study) -> Scores:
    """GenEval of each variant with a complete cell, overall and by task, on all prompts and on each split."""
    found: dict[tuple[str, str, str], Estimate] = {}
    for variant in study.variants:
        cells = _comparable(study.complete(variant.name))
        for split in ("", *(name for name, _ in study.splits)):
            runs = [[row for row in cell.rows if not split or row["split"] == split] for cell in cells]
            if runs and all(runs):
                for task, estimate in _summary(runs, cells[0]).items():
                    found[variant.name, split, task] = estimate
    return found


def by_version(found: Scores) -> list[Scores]:
    """The scores apart by the version of the metric, the version with most scores first."""
    versions: dict[str, dict[tuple[str, str, str], Estimate]] = {}
    for key, estimate in found.items():
        versions.setdefault(estimate.version, {})[key] = estimate
    return sorted(versions.values(), key=len, reverse=True)


def answers(study: Study) -> list[Answer]:
    """The study's contrasts, in its order."""
    return [answer(study, contrast) for contrast in study.contrasts]


def _comparable(cells: Sequence[Cell]) -> list[Cell]:
    """The cells with verdicts of the first one's version: another judge's scores are not averaged in."""
    judged = [cell for cell in cells if cell.rows and _version(cell)]
    return [cell for cell in judged if _version(cell) == _version(judged[0])]


def _version(cell: Cell) -> str:
    metric = cell.record.metrics.get("geneval/overall") if cell.record else None
    return metric.version if metric else ""


def _summary(runs: Sequence[Sequence[dict]], cell: Cell) -> dict[str, Estimate]:
    summary = statistics.summarize_runs(runs)
    entries = {OVERALL: summary["overall"], **summary["tasks"]}
    return {
        task: Estimate(
            value=entry["value"],
            ci=(entry["ci"][0], entry["ci"][1]),
            n=entry["n"],
            prompts=entry["clusters"],
            seeds=len(runs),
            version=_version(cell),
        )
        for task, entry in entries.items()
    }


def answer(study: Study, contrast: Contrast) -> Answer:
    """What the study's records say of any contrast of its variants, on the seeds that all of them have."""
    sides = [{cell.seed: cell for cell in study.complete(name)} for name in contrast.variants]
    seeds = tuple(sorted(set(sides[0]).intersection(*sides[1:])))
    if not seeds:
        lacking = [name for name, side in zip(contrast.variants, sides) if not side]
        why = f"no complete cell of {', '.join(lacking)}" if lacking else "no seed is complete in all of its variants"
        return _unanswered(contrast, f"Not answered yet: {why}.")
    cells = [[side[seed] for seed in seeds] for side in sides]
    if not contrast.metric.startswith(("geneval/", "geneval@")):
        return _from_records(study, contrast, cells, seeds)
    split, task = _split_and_task(contrast.metric)
    versions = {_version(cell) for side in cells for cell in side}
    if len(versions) > 1:
        return _unanswered(contrast, "Not answered: the variants were judged by different versions of the metric.")
    try:
        found = _contrast(cells, split, task)
        parts = _parts(study, cells)
    except ValueError as error:
        return _unanswered(contrast, f"Not answered: {error}.")
    return _judged(
        study,
        contrast,
        effect=found["value"],
        ci=(found["ci"][0], found["ci"][1]),
        prompts=found["clusters"],
        seeds=seeds,
        detectable=found["detectable"],
        parts=parts,
    )


def _split_and_task(metric: str) -> tuple[str, str]:
    """("unseen", "colors") of "geneval@unseen/colors"; ("", "overall") of "geneval/overall"."""
    place, task = metric.split("/", 1)
    return place.removeprefix("geneval").removeprefix("@"), task


def _contrast(cells: Sequence[Sequence[Cell]], split: str, task: str) -> dict:
    runs = [[cell.rows for cell in side] for side in cells]
    where = (lambda row: row["split"] == split) if split else None
    minus = (runs[2], runs[3]) if len(runs) == 4 else None
    return statistics.contrast(runs[0], runs[1], task, where, minus=minus)


def _parts(study: Study, cells: Sequence[Sequence[Cell]]) -> dict[tuple[str, str], Difference]:
    """The same contrast on all prompts, within each split and within each task."""
    rows = cells[0][0].rows
    splits = [name for name, _ in study.splits if any(row["split"] == name for row in rows)]
    tasks = list(dict.fromkeys(row["tag"] for row in rows))
    keys = [("", OVERALL), *((split, OVERALL) for split in splits), *(("", task) for task in tasks)]
    found = {key: _contrast(cells, *key) for key in keys}
    return {
        key: Difference(effect=part["value"], ci=_width(part["ci"]), prompts=part["clusters"])
        for key, part in found.items()
    }


def _width(ci: Sequence[float]) -> tuple[float, float] | None:
    """The interval, or none where too few or too equal prompts left nothing to resample."""
    return (ci[0], ci[1]) if ci[0] < ci[1] else None


def _from_records(study: Study, contrast: Contrast, cells: Sequence[Sequence[Cell]], seeds: tuple[int, ...]) -> Answer:
    """A metric that has no verdicts to resample: the difference of each seed, and from three seeds on an interval of
    their mean (Student's t, the seed as the unit)."""
    found = [[_metric(cell, contrast.metric) for cell in side] for side in cells]
    metrics = [metric for side in found for metric in side]
    if any(metric is None or metric.value is None for metric in metrics):
        return _unanswered(contrast, f"Not answered: {contrast.metric} was not measured in all of its cells.")
    if len({metric.version for metric in metrics if metric}) > 1:
        return _unanswered(contrast, "Not answered: the variants were judged by different versions of the metric.")
    values = [[metric.value for metric in side if metric and metric.value is not None] for side in found]
    differences = [sum(sign * value for sign, value in zip((1, -1, -1, 1), row)) for row in zip(*values)]
    effect = sum(differences) / len(differences)
    ci = detectable = None
    if len(differences) >= 3:
        from scipy.stats import norm, t

        error = stdev(differences) / len(differences) ** 0.5
        reach = float(t.ppf(0.975, len(differences) - 1))
        ci = (effect - reach * error, effect + reach * error)
        detectable = (reach + float(norm.ppf(0.8))) * error
    return _judged(study, contrast, effect=effect, ci=ci, prompts=0, seeds=seeds, detectable=detectable, parts={})


def _metric(cell: Cell, name: str) -> Metric | None:
    """The cell's metric of that name, which may leave out the brackets with extractor, N and reference."""
    metrics = cell.record.metrics if cell.record else {}
    named = [metric for full, metric in metrics.items() if full == name or full.startswith(f"{name}[")]
    return named[0] if len(named) == 1 else None


def _unanswered(contrast: Contrast, sentence: str) -> Answer:
    return Answer(contrast=contrast, verdict="inconclusive", sentence=sentence)


def _judged(study: Study, contrast: Contrast, *, effect: float, ci: tuple[float, float] | None, **rest) -> Answer:
    """The answer with its verdict and the sentence that says why."""
    smallest, claim = contrast.smallest_effect, contrast.claim.rstrip(".")
    if ci is None:
        verdict, why = "inconclusive", "This metric has no interval here, so it settles nothing."
    elif study.scale == "smoke":
        verdict, why = "inconclusive", "A smoke run proves nothing; only the path was exercised."
    elif ci[0] == ci[1]:
        verdict, why = "inconclusive", "All prompts agree, so there is no variation to judge the difference by."
    elif ci[0] >= smallest:
        verdict, why = "supported", f"The whole interval is at or above {smallest:g}: {claim}."
    elif ci[1] < smallest:
        verdict, why = "refuted", f"The whole interval is below {smallest:g}, which speaks against: {claim}."
        why = why if ci[1] >= 0 else f"{why} The difference even points the other way."
    else:
        verdict, why = "inconclusive", _open_question(ci, smallest)
    sentence = f"{why} {_caveat(rest['seeds'], rest['detectable'])}".strip()
    return Answer(contrast=contrast, verdict=verdict, sentence=sentence, effect=effect, ci=ci, **rest)


def _open_question(ci: tuple[float, float], smallest: float) -> str:
    if ci[0] > 0:
        return f"The difference is clear of 0, but it may be smaller than the {smallest:g} that would matter."
    if ci[1] < 0:
        return f"The difference is below 0, but the interval does not rule out {smallest:g}."
    return f"The interval holds both 0 and {smallest:g}: these data cannot tell."


def _caveat(seeds: Sequence[int], detectable: float | None) -> str:
    power = (
        ""
        if detectable is None
        else f"This design would find a true difference of {detectable:.3f} four times in five."
    )
    luck = "With one training seed the interval covers the choice of prompts, not the luck of training."
    return f"{power} {luck if len(seeds) == 1 else ''}".strip()
