"""The same study before and after a change of code: every variant and metric, paired by prompt and seed."""

from collections.abc import Sequence

import numpy as np

from reports.contrasts import Difference, of_arms
from reports.records.cell import Cell
from reports.records.record import is_geneval, is_quality
from reports.records.study import Study
from reports.tables.table import Entry, Table, bounds, estimated
from reports.words import OVERALL, number


def comparison(before: Study, after: Study) -> Table:
    """After minus before; ValueError where the folders hold different studies or share no complete cell."""
    for name in ("name", "scale"):
        if (old := getattr(before, name)) != (new := getattr(after, name)):
            raise ValueError(f"{before.folder} is of {name} {old!r}, {after.folder} of {new!r}: not the same study")
    pairs = _pairs(before, after)
    if not pairs:
        raise ValueError(f"{before.folder} and {after.folder} have no complete cell of one variant and seed in common")
    data = [row for variant, cells in pairs.items() for row in _rows(variant, cells)]
    return Table(
        name="comparison",
        title=f"{after.name}: after minus before",
        note="95 % intervals, paired by prompt and seed; changed: images whose verdict is another",
        header=["variant", "metric", "before", "after", "difference", "changed", "seeds", "note"],
        rows=[_shown(row) for row in data],
        data=data,
        text_columns=2,
    )


def _pairs(before: Study, after: Study) -> dict[str, list[tuple[Cell, Cell]]]:
    """{variant: [(before, after), ...]} of the seeds that both have complete."""
    old = {(cell.variant, cell.seed): cell for cell in before.complete()}
    found: dict[str, list[tuple[Cell, Cell]]] = {}
    for cell in after.complete():
        if (cell.variant, cell.seed) in old:
            found.setdefault(cell.variant, []).append((old[cell.variant, cell.seed], cell))
    return found


def _rows(variant: str, cells: Sequence[tuple[Cell, Cell]]) -> list[dict]:
    names = dict.fromkeys(name for pair in cells for cell in pair for name in cell.metrics)
    return [_row(variant, name, cells) for name in names if not is_geneval(name) or name == f"geneval/{OVERALL}"]


def _row(variant: str, name: str, cells: Sequence[tuple[Cell, Cell]]) -> dict:
    note, found = _other_protocol(cells) if is_geneval(name) or is_quality(name) else "", Difference()
    try:
        found = of_arms(name, [[[new] for _, new in cells], [[old] for old, _ in cells]])
    except ValueError as error:
        note = f"not compared: {error}"
    changed = sum(_changed(old, new) for old, new in cells) if is_geneval(name) and found.effect is not None else None
    row = {"variant": variant, "metric": name, "before": _mean(name, [old for old, _ in cells])}
    row |= {"after": _mean(name, [new for _, new in cells]), "difference": found.effect, **bounds(found.ci)}
    return {**row, "changed": changed, "seeds": len(cells), "note": note}


def _other_protocol(cells: Sequence[tuple[Cell, Cell]]) -> str:
    """In what the pictures were made otherwise, as far as both sides say; on how many processes is no difference."""
    names: dict[str, None] = {}
    for pair in cells:
        old, new = (cell.record.protocol if cell.record else {} for cell in pair)
        names |= {key: None for key in old if key in new and old[key] != new[key] and key != "processes"}
    return f"pictures made otherwise: {', '.join(names)}" if names else ""


def _mean(name: str, cells: Sequence[Cell]) -> float | None:
    values = [cell.metrics[name].value for cell in cells if name in cell.metrics]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(cells) else None


def _changed(old: Cell, new: Cell) -> int:
    verdicts = {row["filename"]: row["correct"] for row in old.rows}
    return sum(verdicts.get(row["filename"]) is not row["correct"] for row in new.rows)


def _shown(row: dict) -> list[Entry]:
    ci = None if row["low"] is None else (row["low"], row["high"])
    means = [Entry("–" if row[key] is None else number(row[key])) for key in ("before", "after")]
    counts = [Entry("–" if row[key] is None else str(row[key])) for key in ("changed", "seeds")]
    words = [Entry(row["variant"]), Entry(row["metric"])]
    return [*words, *means, estimated(row["difference"], ci, "{:+.4f}"), *counts, Entry(row["note"])]
