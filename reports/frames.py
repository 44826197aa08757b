"""A study's records as pandas DataFrames, for one's own tables and plots."""

from pathlib import Path
from typing import TYPE_CHECKING

from reports.records.record import is_geneval, split_and_task
from reports.records.study import Study, readable_study
from reports.tables.contrasts import verdict_data
from reports.tables.table import bounds
from reports.verdict import verdicts as judged

if TYPE_CHECKING:
    import pandas

COLUMNS = ("study", "scale", "variant", "label", "seed", "metric", "split", "task", "value", "low", "high", "n",
           "clusters", "higher_is_better", "version", "is_control")  # fmt: skip


def frame(folder: Path) -> "pandas.DataFrame":
    """One row a metric, complete cell and split; a column for each factor ("factor.diversity")."""
    import pandas

    rows = _rows(readable_study(folder))
    factors = dict.fromkeys(key for row in rows for key in row if key.startswith("factor."))
    return pandas.DataFrame(rows, columns=[*COLUMNS, *factors])


def verdicts(folder: Path) -> "pandas.DataFrame":
    """One row a contrast: its sides, verdict, effect with interval, p values, what was claimed."""
    import pandas

    return pandas.DataFrame([verdict_data(verdict) for verdict in judged(readable_study(folder))])


def _rows(study: Study) -> list[dict]:
    rows = []
    for cell in study.complete():
        variant = study.variant(cell.variant)
        own = {"study": study.name, "scale": study.scale, "variant": variant.name, "label": variant.label,
               "seed": cell.seed, "is_control": variant.is_control,
               **{f"factor.{name}": level for name, level in variant.factors.items()}}  # fmt: skip
        for name, metric in cell.metrics.items():
            split, task = split_and_task(name) if is_geneval(name) else ("", "")
            numbers = {"value": metric.value, **bounds(metric.ci), "n": metric.n, "clusters": metric.clusters}
            kind = {"higher_is_better": metric.higher_is_better, "version": metric.version}
            rows.append({**own, "metric": name, "split": split or "all", "task": task, **numbers, **kind})
    return rows
