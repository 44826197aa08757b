"""What an image costs in each variant, and its score."""

from reports.front import priced, worth_showing
from reports.records.study import Study
from reports.scores import Scores
from reports.tables.table import Entry, Table, bounds, estimated


def front(study: Study, scores: Scores) -> list[Table]:
    """A row a variant, cheapest first; no table where nothing was timed or all cost alike."""
    rows = priced(study, scores)
    if not worth_showing(rows):
        return []
    first = rows[0].middle
    return [
        Table(
            name="front",
            title="What an image costs",
            note="Median and range of repetitions taken in turn in one run; score with its 95 % interval",
            header=["variant", "ms an image", "times the cheapest", "GenEval overall", "on the front"],
            rows=[
                [
                    Entry(row.variant.label),
                    estimated(1e3 * row.middle, (1e3 * min(row.seconds), 1e3 * max(row.seconds)), "{:.2f}"),
                    Entry(f"{row.middle / first:.2f}"),
                    estimated(row.score.value, row.score.ci, "{:.3f}"),
                    Entry("yes" if row.is_on_front else "–"),
                ]
                for row in rows
            ],
            data=[{**row.data, **bounds(row.score.ci)} for row in rows],
        )
    ]
