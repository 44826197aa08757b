"""The top of the report: what a reader must know before any number, the headline in numbers, the verdicts as cards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.records.study import Study
from reports.scores import Score, Scores, by_version
from reports.tables.contrasts import claimed
from reports.verdicts import Verdict, primary
from reports.words import OVERALL, flat, interval, number

MARKS = {"supported": "✓", "refuted": "✗", "inconclusive": "?", "unsettled": "·"}
SMOKE = "Smoke run: this proves nothing. It only shows that the path from data to report works."
VERSIONS = "The cells were judged by different versions of GenEval; they are in separate tables."


@dataclass(frozen=True, kw_only=True)
class Card:
    """A contrast as the reader meets it: its verdict and a small drawing of its interval."""

    verdict: Verdict
    mark: str
    role: str  # among the study's contrasts
    effect: str
    interval: str
    claimed: str
    facts: Sequence[str]  # of the design
    bar: Mapping[str, float]  # places on a line of 0 to 100


def card(study: Study, verdict: Verdict) -> Card:
    """The card of a verdict."""
    contrast, found = verdict.contrast, verdict.difference
    low, high = found.ci or (0.0, 0.0)
    places = {"zero": 0.0, "low": low, "high": high, "effect": found.effect or 0.0}
    places["smallest"] = contrast.smallest_effect
    reach = 1.15 * max(1e-9, *map(abs, places.values()))
    first = "primary" if study.names_primary else "primary (the first: the study names none)"
    return Card(
        verdict=verdict,
        mark=MARKS[verdict.kind],
        role=first if contrast.is_primary else "",
        effect="–" if found.effect is None else f"{found.effect:+.3f}",
        interval=interval(found.ci, "{:+.3f}"),
        claimed="" if contrast.published_effect is None else str(claimed(contrast)),
        facts=_design(verdict),
        bar={name: round(50 + 50 * place / reach, 2) for name, place in places.items()} if found.ci else {},
    )


def _design(verdict: Verdict) -> list[str]:
    found, contrast = verdict.difference, verdict.contrast
    p = "" if verdict.p_zero is None else f"p {verdict.p_zero:.2g}" + ("" if contrast.is_primary else " (Holm)")
    texts = [
        contrast.metric,
        f"smallest effect of interest {contrast.smallest_effect:g}",
        p,
        "" if verdict.detectable is None else f"detectable {number(verdict.detectable)}",
        f"{found.prompts} prompts" if found.prompts else "",
        f"{len(found.seeds)} seed{'s' if len(found.seeds) != 1 else ''}",
    ]
    return [text for text in texts if text]


def banners(study: Study, scores: Scores) -> list[tuple[str, str]]:
    """(kind, text) of each warning and note."""
    records = [cell.record for cell in study.complete() if cell.record]
    found = [
        ("warning", SMOKE if study.scale == "smoke" else ""),
        ("note", study.note),
        ("note", _changes(study)),
        ("warning", _lacking(study)),
        ("warning", VERSIONS if len(by_version(scores)) > 1 else ""),
        (
            "note",
            "Some cells ran from a working tree with uncommitted changes." * any(r.env.get("dirty") for r in records),
        ),
    ]
    return [(kind, text) for kind, text in found if text]


def _changes(study: Study) -> str:
    if not study.setting_changes:
        return ""
    changes = "; ".join(f"{name} = {value}" for name, value in flat(study.setting_changes).items())
    return f"Settings changed on the command line: {changes}."


def _lacking(study: Study) -> str:
    lacking = study.incomplete()
    if not lacking:
        return ""
    cells = "; ".join(f"{cell.name} ({cell.state}: {cell.reason})" for cell in lacking)
    return f"{len(study.complete())} of {len(study.cells)} cells are complete. Not shown as scores: {cells}"


def facts(study: Study, scores: Scores, verdicts: Sequence[Verdict]) -> list[tuple[str, str, str]]:
    """(name, number, detail): the headline in numbers, the primary contrast first."""
    main = next(iter(by_version(scores)), {})
    whole = {name: score for (name, split, task), score in main.items() if split == "" and task == OVERALL}
    found = []
    if (first := primary(verdicts)) and first.difference.effect is not None:
        spread = interval(first.difference.ci, "{:+.3f}")
        found.append((first.contrast.label, f"{first.difference.effect:+.3f}", f"{spread} {first.outcome}".strip()))
    for variant in study.variants:
        if variant.is_control and variant.name in whole:
            found.append((f"control: {variant.label}", *_value(whole[variant.name])))
    found.append(("complete cells", f"{len(study.complete())} of {len(study.cells)}", f"scale {study.scale}"))
    found.append(("training seeds", str(len(study.seeds)), "seed " + ", ".join(map(str, study.seeds))))
    if whole:
        score = next(iter(whole.values()))
        found.append(("prompts", str(score.prompts), f"{score.n // score.seeds} images a cell"))
    return found


def _value(score: Score) -> tuple[str, str]:
    return f"{score.value:.3f}", interval(score.ci, "{:.3f}")
