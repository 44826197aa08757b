"""The contrasts: their verdicts beside what was claimed, and where each effect comes from."""

from collections.abc import Sequence

from reports.records.study import Contrast
from reports.tables.table import Entry, Table, bounds, estimated
from reports.verdicts import Verdict
from reports.words import number, part_label

SIGNED = "{:+.3f}"
HEADER = ("contrast", "verdict", "measured", "claimed", "smallest effect of interest", "p (it is 0)",
          "p (it is the smallest effect)", "detectable effect", "prompts", "seeds")  # fmt: skip
NOTE = (
    "Differences with 95 % intervals, which are not corrected; p values need three seeds, and those of all contrasts "
    "but the primary one (marked *) are adjusted together (Holm). Detectable: the true difference that this design "
    "would call supported four times in five"
)


def contrasts(verdicts: Sequence[Verdict]) -> Table:
    """The contrasts and their verdicts, one a row."""
    return Table(
        name="contrasts",
        title="What the contrasts say",
        note=NOTE,
        header=HEADER,
        rows=[_row(verdict) for verdict in verdicts],
        data=[_data(verdict) for verdict in verdicts],
        text_columns=2,
    )


def claimed(contrast: Contrast) -> Entry:
    """The published effect with its source."""
    if contrast.published_effect is None:
        return Entry("–")
    source = f"({contrast.published_source})" if contrast.published_source else ""
    return Entry(f"{contrast.published_effect:+g}", source)


def _row(verdict: Verdict) -> list[Entry]:
    found, contrast = verdict.difference, verdict.contrast
    numbers = (contrast.smallest_effect, verdict.p_zero, verdict.p_smallest, verdict.detectable)
    smallest, *rest = (Entry("–" if value is None else number(value)) for value in numbers)
    return [
        Entry(contrast.label + (" *" if contrast.is_primary else "")),
        Entry(verdict.outcome),
        estimated(found.effect, found.ci, SIGNED),
        claimed(contrast),
        smallest,
        *rest,
        Entry(str(found.prompts)),
        Entry(str(len(found.seeds))),
    ]


def _data(verdict: Verdict) -> dict:
    found, contrast = verdict.difference, verdict.contrast
    sides = [*contrast.side_names, "", ""]
    return {
        "contrast": contrast.name,
        "metric": contrast.metric,
        "a": sides[0],
        "b": sides[1],
        "minus": " - ".join(contrast.side_names[2:]),
        "is_primary": contrast.is_primary,
        "verdict": verdict.outcome,
        "effect": found.effect,
        **bounds(found.ci),
        "published_effect": contrast.published_effect,
        "published_source": contrast.published_source,
        "smallest_effect": contrast.smallest_effect,
        "p_zero": verdict.p_zero,
        "p_smallest": verdict.p_smallest,
        "detectable": verdict.detectable,
        "prompts": found.prompts,
        "seeds": len(found.seeds),
    }


def effects(verdicts: Sequence[Verdict]) -> Table:
    """Each contrast within each split and each task: where an effect comes from."""
    parts = list(dict.fromkeys(key for verdict in verdicts for key in verdict.difference.parts))
    rows, data = [], []
    for contrast, found in ((verdict.contrast, verdict.difference) for verdict in verdicts):
        shown = [found.parts.get(key) for key in parts]
        entries = [estimated(part.effect, part.ci, SIGNED) if part else Entry("–") for part in shown]
        rows.append([Entry(contrast.label), claimed(contrast), *entries])
        for (split, task), part in found.parts.items():
            row = {"contrast": contrast.name, "split": split or "all", "task": task, "effect": part.effect}
            data.append({**row, **bounds(part.ci), "prompts": part.prompts})
    return Table(
        name="effects",
        title="Where the effects come from",
        note="Paired differences on the same prompts and seeds, 95 % intervals",
        header=["contrast", "claimed", *(part_label(*key) for key in parts)],
        rows=rows,
        data=data,
    )
