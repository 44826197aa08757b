"""Numbers in a page of text, written from the records they come from.

A Markdown page marks what is quoted; everything between the two marks is written anew:

    <!-- quote FOLDER scores VARIANT ... -->          a table: overall with its interval, tasks, CLIP score
    <!-- quote FOLDER verdicts CONTRAST ... -->       a line for each contrast, its outcome first
    <!-- quote FOLDER against BASE METRIC ... : VARIANT ... -->   a table: overall, minus BASE, means of metrics
    <!-- end of quote -->

FOLDER is relative to the page.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from lightgen.disk.atomic import write_text
from lightgen.disk.json_files import read_text
from reports.records.study import Study, readable_study
from reports.scores import scores
from reports.verdict import between, verdicts
from reports.words import OVERALL, interval, metric_name, number

BLOCK = re.compile(r"(<!-- quote (\S+) (scores|verdicts|against) ([^>]*?) -->\n).*?(<!-- end of quote -->)", re.DOTALL)
TASKS = ("counting", "colors", "position")


def quoted(page: Path) -> str:
    """The page's text with every quotation as the records give it now; ValueError for names that they do not have."""

    def anew(match: re.Match[str]) -> str:
        opening, folder, kind, names, closing = match.groups()
        study = readable_study(page.parent / folder)
        lines = {"scores": _scores, "verdicts": _verdicts, "against": _against}[kind](study, names.split())
        return opening + "\n".join(lines) + "\n" + closing

    return BLOCK.sub(anew, read_text(page))


def write_quotes(page: Path) -> bool:
    """Write the quotations anew; whether anything changed."""
    text = quoted(page)
    changed = text != read_text(page)
    if changed:
        write_text(page, text)
    return changed


def _scores(study: Study, names: Sequence[str]) -> list[str]:
    found = scores(study)
    if unknown := [name for name in names if (name, "", OVERALL) not in found]:
        lacking = ", ".join(cell.name for cell in study.incomplete() if cell.variant in unknown)
        more = f": {lacking} not complete in {study.folder}" if lacking else ""
        raise ValueError(f"{study.name} has no scores of {', '.join(unknown)}{more}")
    lines = ["| variant | seeds | GenEval overall | counting | colors | position | CLIP score |",
             "|---|--:|--:|--:|--:|--:|--:|"]  # fmt: skip
    for name in names:
        whole = found[name, "", OVERALL]
        tasks = [f"{found[name, '', task].value:.2f}" if (name, "", task) in found else "–" for task in TASKS]
        clip = _mean(study, name, "clip_score")
        label = study.variant(name).label
        cells = [label, str(whole.seeds), f"{whole.value:.3f} {interval(whole.ci, '{:.3f}')}", *tasks, clip]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _against(study: Study, words: Sequence[str]) -> list[str]:
    base, metrics, variants = words[0], *_parted(words[1:])
    found = scores(study)
    heads = ["variant", "seeds", "GenEval overall", f"minus {base}", *(metric_name(name)[0] for name in metrics)]
    lines = [f"| {' | '.join(heads)} |", "|---" + "|--:" * (len(heads) - 1) + "|"]
    for name in variants:
        if (name, "", OVERALL) not in found:
            raise ValueError(f"{study.name} has no scores of {name}")
        whole = found[name, "", OVERALL]
        above = "" if study.variant(name).is_control or name == base else _above(study, name, base)
        means = [_mean(study, name, metric, number) for metric in metrics]
        cells = [study.variant(name).label, str(whole.seeds), f"{whole.value:.3f} {interval(whole.ci, '{:.3f}')}"]
        lines.append(f"| {' | '.join([*cells, above, *means])} |")
    return lines


def _parted(words: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    if ":" not in words:
        raise ValueError("quote FOLDER against BASE METRIC ... : VARIANT ...: the colon is missing")
    place = words.index(":")
    return words[:place], words[place + 1 :]


def _above(study: Study, variant: str, base: str) -> str:
    found = between(study, variant, base, "geneval/overall").difference
    return f"{found.effect:+.3f} {interval(found.ci, '{:+.3f}')}"


def _mean(study: Study, variant: str, metric: str, form: Callable[[float], str] = "{:.1f}".format) -> str:
    """The mean over the variant's cells of a metric, whatever its protocol; a dash where there is none."""
    values = [
        entry.value
        for cell in study.complete(variant)
        for name, entry in cell.metrics.items()
        if name.partition("[")[0] == metric and entry.value is not None
    ]
    return form(sum(values) / len(values)) if values else "–"


def _verdicts(study: Study, names: Sequence[str]) -> list[str]:
    found = {verdict.contrast.name: verdict for verdict in verdicts(study)}
    if unknown := [name for name in names if name not in found]:
        raise ValueError(f"{study.name} has no contrast {', '.join(unknown)}")
    lines = []
    for verdict in (found[name] for name in names):
        effect, contrast = verdict.difference, verdict.contrast
        if effect.effect is None:
            lines.append(f"* **Not compared**: {contrast.label}: {effect.obstacle}")
            continue
        claimed = "" if contrast.published_effect is None else f" (published: {contrast.published_effect:+.2f})"
        lines.append(
            f"* **{verdict.outcome.capitalize()}**: {contrast.label}: {effect.effect:+.3f}"
            f" {interval(effect.ci, '{:+.3f}')}, {len(effect.seeds)} seeds{claimed}."
        )
    return lines
