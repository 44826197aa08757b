"""The top of the report: what a reader must know before any number, the answer, the headline in numbers."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from reports.records.study import Study
from reports.scores import Score, Scores, by_version
from reports.tables.contrasts import claimed
from reports.verdict import MIN_SEEDS, Verdict, primary
from reports.words import OVERALL, flat, interval, metric_name, number

MARKS = {"supported": "✓", "refuted": "✗", "inconclusive": "?", "unsettled": "·"}
SMOKE = "Smoke run: this proves nothing. It only shows that the path from data to report works."
VERSIONS = "The cells were judged by different versions of GenEval; they are in separate tables."


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The primary contrast as the reader meets it first."""

    verdict: Verdict
    mark: str
    role: str
    numbers: str  # effect, interval, what was claimed
    facts: Sequence[str]  # of the design
    command: str  # that would give a verdict; empty where there is one


def answer(study: Study, verdicts: Sequence[Verdict]) -> Answer | None:
    """None of a study without contrasts."""
    verdict = primary(verdicts)
    if verdict is None:
        return None
    found, contrast = verdict.difference, verdict.contrast
    spread = interval(found.ci, "{:+.3f}")
    said = "" if contrast.published_effect is None else f"; claimed {claimed(contrast)}"
    return Answer(
        verdict=verdict,
        mark=MARKS[verdict.kind],
        role="primary" if study.names_primary else "primary (the first: the study names none)",
        numbers="" if found.effect is None else f"{found.effect:+.3f} {spread}".strip() + said,
        facts=_design(verdict),
        command=_command(study) if len(found.seeds) < MIN_SEEDS else "",
    )


def _command(study: Study) -> str:
    """What runs the missing seeds; what is made is not made again."""
    seeds = [*study.seeds, *(seed for seed in range(MIN_SEEDS) if seed not in study.seeds)][:MIN_SEEDS]
    changes = (
        [f"{name}={value}" for name, value in flat(study.setting_changes).items()] if study.setting_changes else []
    )
    given = ["--set", *changes] if changes else []
    return shlex.join(["python", "-m", "ablations.run", study.name, "--scale", study.scale, "--seeds",
                       *map(str, sorted(seeds)), *given])  # fmt: skip


def reasons(verdicts: Sequence[Verdict]) -> list[tuple[str, str, str, list[str]]]:
    """(kind, outcome, why, the contrasts) of each reason, said once."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for verdict in verdicts:
        found.setdefault((verdict.kind, verdict.outcome, verdict.reason), []).append(verdict.contrast.label)
    return [(*key, labels) for key, labels in found.items()]


def _design(verdict: Verdict) -> list[str]:
    found, contrast = verdict.difference, verdict.contrast
    power = "" if verdict.detectable is None else f"{number(verdict.detectable)} would be supported four times in five"
    texts = [
        metric_name(contrast.metric)[0],
        f"smallest effect of interest {contrast.smallest_effect:g}",
        "" if verdict.p_zero is None else f"p {verdict.p_zero:.2g}",
        power,
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


def facts(study: Study, scores: Scores) -> list[tuple[str, str, str]]:
    """(name, number, detail): the study in numbers."""
    main = next(iter(by_version(scores)), {})
    whole = {name: score for (name, split, task), score in main.items() if split == "" and task == OVERALL}
    found: list[tuple[str, str, str]] = []
    for variant in study.variants:
        if variant.is_control and variant.name in whole:
            found.append((f"control: {variant.label}", *_value(whole[variant.name])))
    found.append(("complete cells", f"{len(study.complete())} of {len(study.cells)}", f"scale {study.scale}"))
    found.append(("training seeds", study.seed_counts, "seed " + ", ".join(map(str, study.seeds))))
    if whole:
        score = next(iter(whole.values()))
        found.append(("prompts", str(score.prompts), f"{score.n // score.seeds} images a cell"))
    return found


def _value(score: Score) -> tuple[str, str]:
    return f"{score.value:.3f}", interval(score.ci, "{:.3f}")
