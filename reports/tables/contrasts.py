"""The contrasts: their verdicts, and where each effect comes from."""

from collections.abc import Sequence

from reports.contrasts import Verdict
from reports.tables.table import Entry, Table, bounds, estimated
from reports.words import number, part_label

SIGNED = "{:+.3f}"


def contrasts(verdicts: Sequence[Verdict]) -> Table:
    """The contrasts and their verdicts, one a row."""
    header = ["contrast", "verdict", "effect", "smallest effect of interest", "detectable effect", "prompts", "seeds"]
    return Table(
        name="contrasts",
        title="What the contrasts say",
        header=header,
        rows=[_row(verdict) for verdict in verdicts],
        data=[_data(verdict) for verdict in verdicts],
        text_columns=2,
    )


def _row(verdict: Verdict) -> list[Entry]:
    return [
        Entry(verdict.contrast.label),
        Entry(verdict.outcome),
        estimated(verdict.effect, verdict.ci, SIGNED),
        Entry(f"{verdict.contrast.smallest_effect:g}"),
        Entry("–" if verdict.detectable is None else number(verdict.detectable)),
        Entry(str(verdict.prompts)),
        Entry(str(len(verdict.seeds))),
    ]


def _data(verdict: Verdict) -> dict:
    contrast = verdict.contrast
    return {
        "contrast": contrast.name,
        "metric": contrast.metric,
        "a": contrast.a,
        "b": contrast.b,
        "minus": " - ".join(contrast.minus or ()),
        "verdict": verdict.outcome,
        "effect": verdict.effect,
        **bounds(verdict.ci),
        "smallest_effect": contrast.smallest_effect,
        "detectable": verdict.detectable,
        "prompts": verdict.prompts,
        "seeds": len(verdict.seeds),
    }


def effects(verdicts: Sequence[Verdict]) -> Table:
    """Each contrast within each split and each task: where an effect comes from."""
    parts = list(dict.fromkeys(key for verdict in verdicts for key in verdict.parts))
    rows, data = [], []
    for verdict in verdicts:
        found = [verdict.parts.get(key) for key in parts]
        entries = [estimated(part.effect, part.ci, SIGNED) if part else Entry("–") for part in found]
        rows.append([Entry(verdict.contrast.label), *entries])
        for (split, task), part in verdict.parts.items():
            row = {"contrast": verdict.contrast.name, "split": split or "all", "task": task, "effect": part.effect}
            data.append({**row, **bounds(part.ci), "prompts": part.prompts})
    return Table(
        name="effects",
        title="Where the effects come from",
        note="Paired differences on the same prompts and seeds, 95 % intervals",
        header=["contrast", *(part_label(*key) for key in parts)],
        rows=rows,
        data=data,
    )
