"""A record's GenEval numbers, made again from its verdicts: no number is shown that its own rows do not give."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from geneval.statistics import summarize

if TYPE_CHECKING:
    from reports.records.record import Metric, Record

TOLERANCE = 1e-9
_FEW = 2  # resamples where the intervals are not looked at


def disagreements(
    rows: Sequence[Mapping[str, Any]], metrics: "Mapping[str, Metric]", *, intervals: bool = False
) -> list[str]:
    """One sentence for each GenEval metric that is not what the rows give: its value and its counts, and with
    `intervals` its interval too, which takes as long as scoring did."""
    given = {name: metric for name, metric in metrics.items() if name.startswith(("geneval/", "geneval@"))}
    found: list[str] = []
    for part in dict.fromkeys(name.split("/")[0] for name in given):
        kept = [row for row in rows if part == "geneval" or f"geneval@{row.get('split')}" == part]
        made = dict(_numbers(kept, part, intervals)) if kept else {}
        for name in (name for name in given if name.split("/")[0] == part):
            found += _differences(name, given[name], made.get(name), intervals)
        found += [
            f"{name}: missing, its verdicts give {made[name]['value']:.6g}" for name in made.keys() - given.keys()
        ]
    return found


def wrong_numbers(name: str, rows: Sequence[Mapping[str, Any]], record: "Record | None") -> list[str]:
    """The disagreements of a cell's record; of one that says its files' hashes, intervals among them. (Records without
    are of older versions, which drew intervals otherwise.)"""
    if record is None or not rows:
        return []
    return [f"wrong: {name}: {line}" for line in disagreements(rows, record.metrics, intervals=bool(record.files))]


def _numbers(rows: Sequence[Mapping[str, Any]], part: str, intervals: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    summary = summarize(rows) if intervals else summarize(rows, resamples=_FEW)
    yield f"{part}/overall", summary["overall"]
    yield from ((f"{part}/{task}", estimate) for task, estimate in summary["tasks"].items())


def _differences(name: str, said: "Metric", made: Mapping[str, Any] | None, intervals: bool) -> Iterator[str]:
    if made is None:
        yield f"{name}: {said.value}, and no verdicts of it"
        return
    if said.value is None or abs(said.value - made["value"]) > TOLERANCE:
        yield f"{name}: {said.value}, its verdicts give {made['value']:.6g}"
    for count in ("n", "clusters"):
        if (number := getattr(said, count)) not in (None, made[count]):
            yield f"{name}: {count} {number}, its verdicts give {made[count]}"
    if intervals and said.ci and max(abs(a - b) for a, b in zip(said.ci, made["ci"])) > TOLERANCE:
        yield f"{name}: interval {list(said.ci)}, its verdicts give {list(made['ci'])}"
