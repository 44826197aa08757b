"""GenEval scores of the variants, with intervals: prompts resampled within task, training seeds as a second level."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from geneval import statistics
from reports import inference
from reports.records.cell import Cell
from reports.records.study import Study
from reports.words import OVERALL


@dataclass(frozen=True, kw_only=True)
class Score:
    """A variant's score on some prompts: the mean over its seeds."""

    value: float
    ci: tuple[float, float] | None  # 95 %
    n: int  # images
    prompts: int
    seeds: int
    version: str


Scores = Mapping[tuple[str, str, str], Score]  # (variant, split or "" for all prompts, task or "overall")


def scores(study: Study) -> Scores:
    """GenEval of each variant with a complete cell, overall and by task, on all prompts and on each split."""
    found: dict[tuple[str, str, str], Score] = {}
    for variant in study.variants:
        cells = _comparable(study.complete(variant.name))
        for split in ("", *(name for name, _ in study.splits)):
            runs = [[row for row in cell.rows if not split or row["split"] == split] for cell in cells]
            if runs and all(runs):
                for task, score in _by_task(runs, version(cells[0])).items():
                    found[variant.name, split, task] = score
    return found


def by_version(found: Scores) -> list[Scores]:
    """The scores apart by the version of the metric, the version with most scores first."""
    versions: dict[str, dict[tuple[str, str, str], Score]] = {}
    for key, score in found.items():
        versions.setdefault(score.version, {})[key] = score
    return sorted(versions.values(), key=len, reverse=True)


def version(cell: Cell) -> str:
    """The version of the cell's verdicts: judge, prompts and protocol."""
    metric = cell.metrics.get(f"geneval/{OVERALL}")
    return metric.version if metric else ""


def _comparable(cells: Sequence[Cell]) -> list[Cell]:
    """The cells with verdicts of the first one's version: another judge's scores are not averaged in."""
    judged = [cell for cell in cells if cell.rows and version(cell)]
    return [cell for cell in judged if version(cell) == version(judged[0])]


def _by_task(runs: Sequence[Sequence[dict]], version: str) -> dict[str, Score]:
    if len({frozenset(row["metadata"] for row in rows) for rows in runs}) > 1:
        return _by_task_of_own_prompts(runs, version)
    summary = statistics.summarize_runs(runs)
    return {
        task: Score(
            value=entry["value"],
            ci=(entry["ci"][0], entry["ci"][1]),
            n=entry["n"],
            prompts=entry["clusters"],
            seeds=len(runs),
            version=version,
        )
        for task, entry in {OVERALL: summary["overall"], **summary["tasks"]}.items()
    }


def _by_task_of_own_prompts(runs: Sequence[Sequence[dict]], version: str) -> dict[str, Score]:
    """Where each seed has a split of its own: a task that no seed lacks, a prompt at the seeds that have it."""
    values: dict[str, dict[str, dict[int, list[bool]]]] = {}  # {task: {prompt: {run: verdicts}}}
    for run, rows in enumerate(runs):
        for row in rows:
            values.setdefault(row["tag"], {}).setdefault(row["metadata"], {}).setdefault(run, []).append(row["correct"])
    side, images = {}, {}
    for task, prompts in values.items():
        shares = np.array([[[_share(at.get(run, ())) for at in prompts.values()]] for run in range(len(runs))])
        if not np.isnan(shares).all(-1).any():
            side[task] = shares
            images[task] = sum(len(verdicts) for at in prompts.values() for verdicts in at.values())
    parts = {OVERALL: side, **{task: {task: shares} for task, shares in side.items()}} if side else {}
    return {
        name: Score(
            value=(found := inference.contrast([part])).effect,
            ci=_inside(found.interval()),
            n=sum(images[task] for task in part),
            prompts=sum(shares.shape[-1] for shares in part.values()),
            seeds=len(runs),
            version=version,
        )
        for name, part in parts.items()
    }


def _share(verdicts: Sequence[bool]) -> float:
    return sum(verdicts) / len(verdicts) if verdicts else float("nan")


def _inside(ci: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if ci is None else (max(ci[0], 0.0), min(ci[1], 1.0))
