"""The top of the report: what a reader must know before any number, the headline in numbers, the verdicts as cards."""

from collections.abc import Mapping
from dataclasses import dataclass

from reports.contrasts import Verdict
from reports.records.study import Study
from reports.scores import Score, Scores, by_version
from reports.words import OVERALL, flat, interval, number

MARKS = {"supported": "✓", "refuted": "✗", "inconclusive": "?"}
SMOKE = "Smoke run: this proves nothing. It only shows that the path from data to report works."
VERSIONS = "The cells were judged by different versions of GenEval; they are in separate tables."


@dataclass(frozen=True, kw_only=True)
class Card:
    """A contrast as the reader meets it: its verdict and a small drawing of its interval."""

    verdict: Verdict
    mark: str
    effect: str
    interval: str
    detectable: str
    bar: Mapping[str, float]  # places on a line of 0 to 100


def card(verdict: Verdict) -> Card:
    """The card of a verdict."""
    smallest = verdict.contrast.smallest_effect
    low, high = verdict.ci or (0.0, 0.0)
    reach = 1.15 * max(abs(low), abs(high), smallest, 1e-9)
    places = {"zero": 0.0, "low": low, "high": high, "effect": verdict.effect or 0.0, "smallest": smallest}
    return Card(
        verdict=verdict,
        mark=MARKS[verdict.outcome],
        effect="–" if verdict.effect is None else f"{verdict.effect:+.3f}",
        interval=interval(verdict.ci, "{:+.3f}"),
        detectable="–" if verdict.detectable is None else number(verdict.detectable),
        bar={name: round(50 + 50 * place / reach, 2) for name, place in places.items()} if verdict.ci else {},
    )


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


def facts(study: Study, scores: Scores) -> list[tuple[str, str, str]]:
    """(name, number, detail): the headline in numbers."""
    main = next(iter(by_version(scores)), {})
    whole = {name: score for (name, split, task), score in main.items() if split == "" and task == OVERALL}
    tested = [variant for variant in study.variants if not variant.is_control and variant.name in whole]
    found = []
    if tested:
        best = max(tested, key=lambda variant: whole[variant.name].value)
        found.append((f"best variant: {best.label}", *_value(whole[best.name])))
    for variant in study.variants:
        if variant.is_control and variant.name in whole:
            found.append((f"control: {variant.label}", *_value(whole[variant.name])))
    found.append(("complete cells", f"{len(study.complete())} of {len(study.cells)}", f"scale {study.scale}"))
    found.append(("training seeds", str(len(study.seeds)), "seed " + ", ".join(map(str, study.seeds))))
    if whole:
        first = next(iter(whole.values()))
        found.append(("prompts", str(first.prompts), f"{first.n // first.seeds} images a cell"))
    return found


def _value(score: Score) -> tuple[str, str]:
    return f"{score.value:.3f}", interval(score.ci, "{:.3f}")
