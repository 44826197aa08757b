"""GenEval by variant: of each task, and of each split of the prompts."""

from collections.abc import Mapping, Sequence

from reports.records.study import Study
from reports.scores import Score, Scores
from reports.tables.table import Entry, Table, bounds, estimated
from reports.words import OVERALL, pretty

Columns = Mapping[tuple[str, str], str]  # {(split, task): heading}


def geneval(study: Study, scores: Scores) -> Table:
    """GenEval by variant (rows) and task (columns), with 95 % intervals."""
    columns = {("", task): pretty(task) for _, split, task in scores if split == ""}
    note = "Mean of the task means, 95 % intervals from prompts resampled within task"
    return _by_variant(study, scores, columns, ("geneval", "GenEval by variant and task", note))


def splits(study: Study, scores: Scores) -> Table:
    """GenEval overall by variant (rows) and prompt split (columns)."""
    columns = {("", OVERALL): "all prompts"}
    for name, label in study.splits:
        if any(split == name for _, split, _ in scores):
            columns[name, OVERALL] = f"{name}: {label}" if label != name else name
    title = "GenEval overall by prompt split"
    return _by_variant(study, scores, columns, ("splits", title, "95 % intervals"))


def _by_variant(
    study: Study, scores: Scores, columns: Mapping[tuple[str, str], str], words: tuple[str, str, str]
) -> Table:
    shown = [v for v in study.variants_in_order() if any((v.name, *key) in scores for key in columns)]
    found = [{key: scores.get((variant.name, *key)) for key in columns} for variant in shown]
    name, title, note = words
    return Table(
        name=name,
        title=title,
        note=note,
        header=["variant", *columns.values(), "images", "prompts", "seeds"],
        rows=[[Entry(variant.label), *_row(list(row.values()))] for variant, row in zip(shown, found)],
        data=[_data(v.name, *key, score) for v, row in zip(shown, found) for key, score in row.items() if score],
        controls=frozenset(i for i, variant in enumerate(shown) if variant.is_control),
    )


def _row(found: Sequence[Score | None]) -> list[Entry]:
    first = next(score for score in found if score)
    entries = [estimated(score.value, score.ci, "{:.3f}") if score else Entry("–") for score in found]
    return [*entries, *(Entry(str(count)) for count in (first.n, first.prompts, first.seeds))]


def _data(variant: str, split: str, task: str, score: Score) -> dict:
    counts = {"images": score.n, "prompts": score.prompts, "seeds": score.seeds, "version": score.version}
    row = {"variant": variant, "split": split or "all", "task": task, "value": score.value}
    return {**row, **bounds(score.ci), **counts}
