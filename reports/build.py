"""From a study to its report: index.html (one file, no scripts, nothing fetched), report.md, tables and figures.

The report is made beside the old one and takes its place at the end; the same records give the same bytes.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports import contrasts, curves, figures, quality, tables
from reports.contrasts import OVERALL, Answer, Scores
from reports.figures import CARD, GRID, INK, MUTED, PALETTE, Figure
from reports.formats import Table, interval, markdown_text, number, to_markdown, write
from reports.gallery import gallery, sheet
from reports.records import Study, read_study

CONTENT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
XLINK = 'xmlns:xlink="http://www.w3.org/1999/xlink"'
MARKS = {"supported": "✓", "refuted": "✗", "inconclusive": "?"}


@dataclass(frozen=True, kw_only=True)
class Card:
    """A contrast as the reader meets it: its answer and a small drawing of its interval."""

    answer: Answer
    mark: str
    effect: str
    interval: str
    detectable: str
    bar: Mapping[str, float]  # places on a line of 0 to 100


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading, what to know before looking, and what there is to see."""

    anchor: str
    title: str
    text: str
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    is_folded: bool = False


def build_report(folder: Path, out: Path | None = None) -> Path:
    """The path of index.html, after writing the report on `folder` to `out` (`folder`/report if not given)."""
    folder = Path(folder)
    out = Path(out) if out else folder / "report"
    study = read_study(folder)
    _check_out(out, folder)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Names of their own, not random ones, so that what a killed build left is cleared by the next.
    new = out.parent / f".{out.name}.building"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    try:
        _write(study, new)
        _exchange(new, out)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return out / "index.html"


def problems(study: Study) -> list[str]:
    """What keeps the study from being finished, a line each."""
    found = [f"{cell.state}: {cell.name}: {cell.reason}" for cell in study.incomplete()]
    for cell in study.cells:
        if cell.is_complete and not cell.rows:
            found.append(f"no verdicts: {cell.name}: its record names no GenEval results")
    return found


def _write(study: Study, out: Path) -> None:
    scores = contrasts.scores(study)
    answers = contrasts.answers(study)
    shown = gallery(study)
    sections = _sections(study, scores, answers)
    view = {
        "study": study,
        "banners": _banners(study, scores),
        "facts": _facts(study, scores),
        "cards": [_card(answer) for answer in answers],
        "sections": sections,
        "gallery": shown,
        # The pictures come before the curves, or before the small print where there are none.
        "samples_before": next(s.anchor for s in sections if s.anchor in ("training", "preference") or s.is_folded),
        "policy": CONTENT_POLICY,
    }
    drawn = [figure for section in sections for figure in section.figures]
    samples = sheet(shown) if shown else None
    for name in ("tables", "figures"):
        (out / name).mkdir()
    for section in sections:
        for table in section.tables:
            write(table, out / "tables")
    for figure in [*drawn, *([samples] if samples else [])]:
        figure.write(out / "figures")
    for template, name in (("report.html.j2", "index.html"), ("report.md.j2", "report.md")):
        text = _environment(name).get_template(template).render(**view, samples=samples)
        (out / name).write_text(text, encoding="utf-8", newline="\n")


def _sections(study: Study, scores: Scores, answers: Sequence[Answer]) -> list[Section]:
    """The report's parts in reading order; parts without data are left out."""
    versions = contrasts.by_version(scores)
    main: Scores = versions[0] if versions else {}
    by_task = [_numbered(tables.geneval(study, part), i) for i, part in enumerate(versions)]
    has_splits = any(split for _, split, _ in scores)
    by_split = [_numbered(tables.splits(study, part), i) for i, part in enumerate(versions)] if has_splits else []
    drawn = {
        "geneval": figures.geneval(study, main) if main else None,
        "splits": figures.splits(study, main) if has_splits else None,
        "effects": figures.effects(study, answers),
        "interaction": figures.interaction(study, main) if main else None,
        "quality": quality.measures(study),
        "fid_by_n": quality.fid_by_size(study),
        "detail": quality.detail(study),
        "training": curves.training(study),
        "preference": curves.preference(study),
        "drift": curves.drift(study, main) if main else None,
    }
    have = {name: [figure] if figure else [] for name, figure in drawn.items()}
    parts = [
        Section(
            anchor="geneval",
            title="GenEval by task and variant",
            text="Share of images judged right. Dots are means, lines 95 % intervals with prompts resampled within "
            "task (the images of a prompt share it) and training seeds as a second level. Overall is the mean of the "
            "task means. Controls stand below the line.",
            figures=have["geneval"],
            tables=by_task,
        ),
        Section(
            anchor="splits",
            title="Where the effects come from",
            text="The prompts fall into splits by what the training sets held, and each split is reported apart. "
            "Below, each contrast within each split and each task, paired on the same prompts and seeds; only the "
            "verdicts above are tests, these parts explain them.",
            figures=have["splits"] + have["effects"],
            tables=by_split + ([tables.effects(answers)] if have["effects"] else []),
        ),
        Section(
            anchor="interaction",
            title="Interaction",
            text="Parallel lines: the two factors add up. Lines that open or cross: the effect of one depends on the "
            "other. Bars are 95 % intervals.",
            figures=have["interaction"],
        ),
        Section(
            anchor="quality",
            title="FID, KID, CLIP score and other measures",
            text="Features are those of the extractor in each name, and so are the numbers: only equal names and "
            "versions compare. FID is biased by the number of images, so N stands in its name, and the second plot "
            "shows it falling with N towards the line's end. The last plot and the gaps compare fine detail with the "
            "reference pictures: 0 is equal, 1 twice or half of it. Intervals of KID and CLIP score are over prompts.",
            figures=have["quality"] + have["fid_by_n"] + have["detail"],
            tables=tables.measured(study),
        ),
        Section(
            anchor="training",
            title="Training",
            text="The smoothed loss over training samples seen, raw values behind it. Cells that share a base model "
            "share its curve. Losses on different data sets rank nothing by themselves.",
            figures=have["training"],
        ),
        Section(
            anchor="preference",
            title="Preference training",
            text="Drift of the squared error against the reference on chosen (winner) and rejected (loser) images, "
            "and how often the implied preference is the right one. The last plot sets the score against the drift "
            "measured at the end, on draws that training did not choose: a gain at the right was paid for by a worse "
            "likelihood of the preferred images, one at the left was not.",
            figures=have["preference"] + have["drift"],
        ),
        Section(
            anchor="protocol",
            title="Protocol, versions, cost",
            text="All that is needed to judge the numbers, or to get them again.",
            tables=[tables.answers(answers), tables.protocol(study), tables.versions(study), tables.inputs(study),
                    tables.cost(study), tables.cells(study)],
            is_folded=True,
        ),
        Section(
            anchor="published",
            title="Published numbers",
            text="What the paper reports, for orientation. Not measured here and not comparable with the tables "
            "above: another world, judge, resolution and budget.",
            tables=[tables.published()],
            is_folded=True,
        ),
    ]  # fmt: skip
    return [part for part in parts if part.figures or part.tables]


def _numbered(table: Table, place: int) -> Table:
    """The table of the second and later version of a metric, under a name of its own."""
    if place == 0:
        return table
    title = f"{table.title} (version {place + 1} of the metric, not comparable)"
    return Table(**{**vars(table), "name": f"{table.name}-version{place + 1}", "title": title})


def _banners(study: Study, scores: Scores) -> list[tuple[str, str]]:
    """(kind, text): what a reader must know before any number."""
    found = []
    if study.scale == "smoke":
        found.append(
            ("warning", "Smoke run: this proves nothing. It only shows that the path from data to report works.")
        )
    if study.note:
        found.append(("note", study.note))
    if lacking := study.incomplete():
        complete = len(study.cells) - len(lacking)
        text = f"{complete} of {len(study.cells)} cells are complete. Not shown as scores: "
        found.append(("warning", text + "; ".join(f"{cell.name} ({cell.state}: {cell.reason})" for cell in lacking)))
    if len(contrasts.by_version(scores)) > 1:
        found.append(
            ("warning", "The cells were judged by different versions of GenEval; they are in separate tables.")
        )
    records = [cell.record for cell in study.cells if cell.record and cell.is_complete]
    if any(record.env.get("dirty") for record in records):
        found.append(("note", "Some cells ran from a working tree with uncommitted changes."))
    return found


def _facts(study: Study, scores: Scores) -> list[tuple[str, str, str]]:
    """(name, number, detail): the headline in numbers."""
    main = next(iter(contrasts.by_version(scores)), {})
    whole = {name: estimate for (name, split, task), estimate in main.items() if split == "" and task == OVERALL}
    tested = [variant for variant in study.variants if not variant.is_control and variant.name in whole]
    found = []
    if tested:
        best = max(tested, key=lambda variant: whole[variant.name].value)
        found.append((f"best variant: {best.label}", *_value(whole[best.name])))
    for variant in study.variants:
        if variant.is_control and variant.name in whole:
            found.append((f"control: {variant.label}", *_value(whole[variant.name])))
    cells = [cell for cell in study.cells if cell.is_complete]
    found.append(("complete cells", f"{len(cells)} of {len(study.cells)}", f"scale {study.scale}"))
    found.append(("training seeds", str(len(study.seeds)), "seed " + ", ".join(map(str, study.seeds))))
    if whole:
        first = next(iter(whole.values()))
        found.append(("prompts", str(first.prompts), f"{first.n // first.seeds} images a cell"))
    return found


def _value(estimate: contrasts.Estimate) -> tuple[str, str]:
    return f"{estimate.value:.3f}", interval(estimate.ci, "{:.3f}") if estimate.ci else ""


def _card(answer: Answer) -> Card:
    smallest = answer.contrast.smallest_effect
    low, high = answer.ci or (0.0, 0.0)
    reach = 1.15 * max(abs(low), abs(high), smallest, 1e-9)
    places = {"zero": 0.0, "low": low, "high": high, "effect": answer.effect or 0.0, "smallest": smallest}
    return Card(
        answer=answer,
        mark=MARKS[answer.verdict],
        effect="–" if answer.effect is None else f"{answer.effect:+.3f}",
        interval=interval(answer.ci, "{:+.3f}") if answer.ci else "",
        detectable="–" if answer.detectable is None else number(answer.detectable),
        bar={name: round(50 + 50 * place / reach, 2) for name, place in places.items()} if answer.ci else {},
    )


def _environment(name: str) -> Any:
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        # Prompts, labels and reasons are other people's text. Markdown is escaped by its own filter.
        autoescape=name.endswith(".html"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["inline"] = lambda figure: Markup(_inline(figure))
    environment.filters["md"] = markdown_text
    environment.filters["md_table"] = to_markdown
    return environment


def _inline(figure: Figure) -> str:
    """The figure's SVG as an element of the page: own identifiers, the page's colors, a text for who cannot see it."""
    from markupsafe import escape

    svg = figure.svg[figure.svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{figure.name}-", svg)
    label = f'role="img" aria-label="{escape(figure.alt)}"'
    svg = re.sub(r'<svg [^>]*?(viewBox="[^"]+")[^>]*>', lambda m: f"<svg {m[1]} {XLINK} {label}>", svg, count=1)
    colors = {INK: "currentColor", MUTED: "var(--muted)", GRID: "var(--rule)", CARD: "var(--card)"}
    colors.update({color: f"var(--series-{i})" for i, color in enumerate(PALETTE)})
    return re.sub(r"(fill|stroke): (#[0-9a-f]{6})", lambda m: f"{m[1]}: {colors.get(m[2], m[2])}", svg)


def _check_out(out: Path, folder: Path) -> None:
    """Refuse to replace anything but an older report."""
    if out.resolve() in (folder.resolve(), *folder.resolve().parents):
        raise ValueError(f"{out}: holds the study itself; give --out a folder of its own")
    if out.exists() and not (out.is_dir() and ((out / "index.html").is_file() or not any(out.iterdir()))):
        raise ValueError(f"{out}: is there already and is not a report; move it away or give another --out")


def _exchange(new: Path, out: Path) -> None:
    """Put the folder `new` in the place of `out`."""
    old = out.parent / f".{out.name}.old"
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    new.rename(out)
    shutil.rmtree(old, ignore_errors=True)
