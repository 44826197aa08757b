"""Scores that others published, for the claim under test; never measured here."""

import csv
from pathlib import Path

from reports.tables.table import Entry, Table
from reports.words import OVERALL, pretty

FILE = Path(__file__).parent.parent / "published.csv"
COLUMNS = {"model": "model", "params": "parameters", "training_images": "training images", "resolution": "resolution"}
TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr", OVERALL)


def published() -> Table:
    """What the LightGen paper prints, its own rows and those that it quotes."""
    with FILE.open(newline="", encoding="utf-8") as file:
        found = [row for row in csv.DictReader(file) if row["source"].startswith("LightGen paper Table")]
    data = [row for row in found if row["resolution"]]
    return Table(
        name="published",
        title="Published GenEval scores (not measured here)",
        note="As printed in the LightGen paper: other prompts' images, judge and resolution than the tables above",
        header=[*COLUMNS.values(), *map(pretty, TASKS), "source"],
        rows=[[Entry(row[key] or "–") for key in [*COLUMNS, *TASKS, "source"]] for row in data],
        data=data,
    )
