"""The report's parts below the verdicts: a heading, what to know before looking, and what there is to see."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reports.figures.by_variant import detail, fid_by_size
from reports.figures.curves import training
from reports.figures.drift import drift
from reports.figures.effects import contrasts as contrast_figure
from reports.figures.effects import effects
from reports.figures.figure import Figure
from reports.figures.front import front
from reports.figures.geneval import geneval, splits
from reports.figures.interaction import interaction
from reports.figures.preference import preference
from reports.figures.quality import quality
from reports.records.study import Study
from reports.scores import Scores, by_version
from reports.tables import contrasts as contrast_tables
from reports.tables import geneval as geneval_tables
from reports.tables import provenance
from reports.tables.front import front as front_table
from reports.tables.measures import measures
from reports.tables.published import published
from reports.tables.table import Table
from reports.verdict import Verdict

TEXTS = {
    "contrasts": (
        "What the contrasts say",
        "Paired differences on the same prompts and seeds, each against the smallest effect that would matter. Only "
        "these verdicts are tests, everything below explains them. One contrast is primary; the others are corrected "
        "together (Holm).",
    ),
    "geneval": (
        "GenEval by task and variant",
        "Share of images judged right. Dots are means, lines 95 % intervals with prompts resampled within task (the "
        "images of a prompt share it) and training seeds as a second level. Overall is the mean of the task means. "
        "Controls stand below the line. Colors, markers and fillings mean the same in all figures.",
    ),
    "splits": (
        "Where the effects come from",
        "The prompts fall into splits by what the training sets held, and each split is reported apart. Below, each "
        "contrast within each split and each task, paired on the same prompts and seeds; only the verdicts above are "
        "tests, these parts explain them.",
    ),
    "interaction": (
        "Interaction",
        "Parallel lines: the two factors add up. Lines that open or cross: the effect of one depends on the other. "
        "Bars are 95 % intervals.",
    ),
    "quality": (
        "FID, KID, CLIP score and other measures",
        "Features are those of the extractor in each name, and so are the numbers: only equal names and versions "
        "compare. FID is biased by the number of images, so N stands in its name, and the second plot shows it falling "
        "with N towards the line's end. The last plot and the gaps compare fine detail with the reference pictures: 0 "
        "is equal, 1 twice or half of it. Intervals of KID and CLIP score are over prompts.",
    ),
    "front": (
        "What a score costs",
        "The time of an image against the score. On the front is what no other variant beats by a higher mean in no "
        "longer a time; whether neighbors on it differ in score is for the contrasts to say.",
    ),
    "training": (
        "Training",
        "The smoothed loss over training samples seen, raw values behind it. Cells that share a base model share its "
        "curve. Losses on different data sets rank nothing by themselves.",
    ),
    "preference": (
        "Preference training",
        "Drift of the squared error against the reference on chosen (winner) and rejected (loser) images, and how "
        "often the implied preference is the right one. The last plot sets the score against the drift measured at the "
        "end, on draws that training did not choose: a gain at the right was paid for by a worse likelihood of the "
        "preferred images, one at the left was not.",
    ),
    "protocol": (
        "Protocol, versions, cost",
        "All that is needed to judge the numbers, or to get them again.",
    ),
    "published": (
        "Published numbers",
        "What the paper reports, for orientation. Not measured here and not comparable with the tables above: another "
        "world, judge, resolution and budget.",
    ),
}
FOLDED = ("protocol", "published")


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page."""

    anchor: str
    title: str
    text: str
    figures: Sequence[Figure]
    tables: Sequence[Table]

    @property
    def is_folded(self) -> bool:
        return self.anchor in FOLDED


def sections(study: Study, scores: Scores, verdicts: Sequence[Verdict]) -> list[Section]:
    """The parts in reading order; those without data are left out."""
    versions = by_version(scores)
    main = versions[0] if versions else {}
    has_splits = any(split for _, split, _ in scores)
    by_part = effects(verdicts)
    parts = [
        _part("contrasts", [contrast_figure(verdicts)], [contrast_tables.contrasts(verdicts)] if verdicts else []),
        _part("geneval", [geneval(study, main) if main else None],
              [_numbered(geneval_tables.geneval(study, found), i) for i, found in enumerate(versions)]),
        _part("splits", [splits(study, main) if has_splits else None, by_part],
              [_numbered(geneval_tables.splits(study, found), i) for i, found in enumerate(versions) if has_splits]
              + [contrast_tables.effects(verdicts)][: by_part is not None]),
        _part("interaction", [interaction(study, main)]),
        _part("quality", [quality(study), fid_by_size(study), detail(study)], measures(study)),
        _part("front", [front(study, main)], front_table(study, main)),
        _part("training", [training(study)]),
        _part("preference", [preference(study), drift(study, main)]),
        _part("protocol", [], _provenance(study)),
        _part("published", [], [published()]),
    ]  # fmt: skip
    return [part for part in parts if part.figures or part.tables]


def _part(anchor: str, figures: Sequence[Figure | None], tables: Sequence[Table] = ()) -> Section:
    title, text = TEXTS[anchor]
    shown = [figure for figure in figures if figure]
    return Section(anchor=anchor, title=title, text=text, figures=shown, tables=tables)


def _provenance(study: Study) -> list[Table]:
    made = (provenance.protocol, provenance.versions, provenance.inputs, provenance.cost, provenance.cells)
    return [table(study) for table in made]


def _numbered(table: Table, place: int) -> Table:
    """The table of the second and later version of a metric, under a name of its own."""
    if place == 0:
        return table
    title = f"{table.title} (version {place + 1} of the metric, not comparable)"
    return replace(table, name=f"{table.name}-version{place + 1}", title=title)
