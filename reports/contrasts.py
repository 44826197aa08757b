"""What the study's contrasts say.

The verdict of a contrast follows from its 95 % interval and its smallest effect of interest alone:

    supported      the whole interval lies at or above the smallest effect of interest
    refuted        the whole interval lies below it: an effect that matters is ruled out
    inconclusive   anything else, a smoke run, or numbers that may not be compared
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import stdev

from geneval import statistics
from reports.records.cell import Cell
from reports.records.record import Metric, is_geneval, split_and_task
from reports.records.study import Contrast, Study
from reports.scores import version
from reports.words import OVERALL, interval


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A paired difference on the same prompts and seeds."""

    effect: float
    ci: tuple[float, float] | None  # 95 %
    prompts: int = 0
    detectable: float | None = None  # smallest effect seen with 80 % power


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A contrast with its outcome; without `effect` where the numbers are not there or may not be compared."""

    contrast: Contrast
    outcome: str
    sentence: str
    effect: float | None = None
    ci: tuple[float, float] | None = None
    prompts: int = 0
    seeds: tuple[int, ...] = ()
    detectable: float | None = None
    parts: Mapping[tuple[str, str], Difference] = field(default_factory=dict)  # (split or "", task or "overall")

    def line(self) -> str:
        """The numbers alone, in one line."""
        contrast = self.contrast
        prompts = f"{self.prompts} prompts, " if self.prompts else ""
        spread = interval(self.ci, "{:+.3f}") or "no interval"
        numbers = f"{self.effect:+.3f} {spread}, {prompts}seeds {', '.join(map(str, self.seeds))}"
        return f"{contrast.a} minus {contrast.b}, {contrast.metric}: {numbers}"


def verdicts(study: Study) -> list[Verdict]:
    """Those of the study's contrasts, in its order."""
    return [judge(study, contrast) for contrast in study.contrasts]


def judge(study: Study, contrast: Contrast) -> Verdict:
    """What the study's records say of any contrast of its variants, on the seeds that all of them have."""
    sides = [{cell.seed: cell for cell in study.complete(name)} for name in contrast.variants]
    seeds = tuple(sorted(set(sides[0]).intersection(*sides[1:])))
    if not seeds:
        lacking = [name for name, side in zip(contrast.variants, sides) if not side]
        why = f"no complete cell of {', '.join(lacking)}" if lacking else "no seed is complete in all of its variants"
        return _unanswered(contrast, f"Not answered yet: {why}.")
    cells = [[side[seed] for seed in seeds] for side in sides]
    try:
        if is_geneval(contrast.metric):
            difference, parts = _by_prompts(contrast, cells), _parts(study, cells)
        else:
            difference, parts = _by_seeds(contrast, cells), {}
    except ValueError as error:
        return _unanswered(contrast, f"Not answered: {error}.")
    return _judged(study, contrast, difference, seeds, parts)


def between(study: Study, a: str, b: str, metric: str) -> Verdict:
    """Variant `a` minus variant `b`, asked by a reader and not by the study; ValueError where there is no number."""
    known = [variant.name for variant in study.variants]
    for name in (a, b):
        if name not in known:
            raise ValueError(f"{name!r} is no variant of {study.name}; valid: {', '.join(known)}")
    claim = f"{a} is above {b}"
    found = judge(study, Contrast(name="", label="", a=a, b=b, metric=metric, smallest_effect=0.0, claim=claim))
    if found.effect is None:
        raise ValueError(found.sentence)
    return found


def _by_prompts(contrast: Contrast, cells: Sequence[Sequence[Cell]]) -> Difference:
    """A metric of verdicts: prompts and seeds are resampled."""
    if len({version(cell) for side in cells for cell in side}) > 1:
        raise ValueError("the variants were judged by different versions of the metric")
    return _difference(cells, *split_and_task(contrast.metric))


def _difference(cells: Sequence[Sequence[Cell]], split: str, task: str) -> Difference:
    runs = [[cell.rows for cell in side] for side in cells]
    where = (lambda row: row["split"] == split) if split else None
    minus = (runs[2], runs[3]) if len(runs) == 4 else None
    found = statistics.contrast(runs[0], runs[1], task, where, minus=minus)
    ci = (found["ci"][0], found["ci"][1])
    return Difference(effect=found["value"], ci=ci, prompts=found["clusters"], detectable=found["detectable"])


def _parts(study: Study, cells: Sequence[Sequence[Cell]]) -> dict[tuple[str, str], Difference]:
    """The same contrast on all prompts, within each split and within each task."""
    rows = cells[0][0].rows
    splits = [name for name, _ in study.splits if any(row["split"] == name for row in rows)]
    tasks = list(dict.fromkeys(row["tag"] for row in rows))
    keys = [("", OVERALL), *((split, OVERALL) for split in splits), *(("", task) for task in tasks)]
    return {key: _with_width(_difference(cells, *key)) for key in keys}


def _with_width(part: Difference) -> Difference:
    """Without the interval where too few or too equal prompts left nothing to resample."""
    is_wide = part.ci is not None and part.ci[0] < part.ci[1]
    return Difference(effect=part.effect, ci=part.ci if is_wide else None, prompts=part.prompts)


def _by_seeds(contrast: Contrast, cells: Sequence[Sequence[Cell]]) -> Difference:
    """A metric that has no verdicts to resample: the difference of each seed, and from three seeds on an interval of
    their mean (Student's t, the seed as the unit)."""
    found = [[_metric(cell, contrast.metric) for cell in side] for side in cells]
    if len({metric.version for side in found for metric in side}) > 1:
        raise ValueError("the variants were judged by different versions of the metric")
    values = [[metric.value for metric in side if metric.value is not None] for side in found]
    differences = [sum(sign * value for sign, value in zip((1, -1, -1, 1), row)) for row in zip(*values)]
    effect = sum(differences) / len(differences)
    if len(differences) < 3:
        return Difference(effect=effect, ci=None)
    from scipy.stats import norm, t

    error = stdev(differences) / len(differences) ** 0.5
    reach = float(t.ppf(0.975, len(differences) - 1))
    ci = (effect - reach * error, effect + reach * error)
    return Difference(effect=effect, ci=ci, detectable=(reach + float(norm.ppf(0.8))) * error)


def _metric(cell: Cell, name: str) -> Metric:
    """The cell's metric of that name, which may leave out the brackets with extractor, N and reference."""
    named = [metric for full, metric in cell.metrics.items() if full == name or full.startswith(f"{name}[")]
    if len(named) != 1 or named[0].value is None:
        raise ValueError(f"{name} was not measured in all of its cells")
    return named[0]


def _unanswered(contrast: Contrast, sentence: str) -> Verdict:
    return Verdict(contrast=contrast, outcome="inconclusive", sentence=sentence)


def _judged(
    study: Study,
    contrast: Contrast,
    difference: Difference,
    seeds: tuple[int, ...],
    parts: Mapping[tuple[str, str], Difference],
) -> Verdict:
    """The verdict with the sentence that says why."""
    outcome, why = _outcome(contrast, difference.ci, is_smoke=study.scale == "smoke")
    sentence = f"{why} {_caveat(seeds, difference.detectable)}".strip()
    return Verdict(
        contrast=contrast, outcome=outcome, sentence=sentence, seeds=seeds, **{**vars(difference), "parts": parts}
    )


def _outcome(contrast: Contrast, ci: tuple[float, float] | None, *, is_smoke: bool) -> tuple[str, str]:
    smallest, claim = contrast.smallest_effect, contrast.claim.rstrip(".")
    if ci is None:
        return "inconclusive", "This metric has no interval here, so it settles nothing."
    if is_smoke:
        return "inconclusive", "A smoke run proves nothing; only the path was exercised."
    if ci[0] == ci[1]:
        return "inconclusive", "All prompts agree, so there is no variation to judge the difference by."
    if ci[0] >= smallest:
        return "supported", f"The whole interval is at or above {smallest:g}: {claim}."
    if ci[1] < smallest:
        why = f"The whole interval is below {smallest:g}, which speaks against: {claim}."
        return "refuted", why if ci[1] >= 0 else f"{why} The difference even points the other way."
    return "inconclusive", _open_question(ci, smallest)


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
