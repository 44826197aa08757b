"""A table as data, and its texts: CSV with all digits and Markdown that shows what was recorded (LaTeX: latex.py)."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reports.tables.cells import plain
from reports.words import interval

MARKDOWN = str.maketrans({**{c: f"\\{c}" for c in "\\`*_[]|#~$"}, "<": "&lt;", ">": "&gt;", "&": "&amp;", "\n": " "})


@dataclass(frozen=True)
class Entry:
    """What a reader sees in one place of a table: the number, and its interval in smaller type."""

    text: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.detail}".strip()


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table for people (`rows`) and the same for machines (`data`, one object a line of the CSV)."""

    name: str
    title: str
    note: str = ""
    header: Sequence[str]
    rows: Sequence[Sequence[Entry]]
    data: Sequence[Mapping[str, Any]]
    controls: frozenset[int] = field(default_factory=frozenset)  # rows set apart: not variants under test
    text_columns: int = 1  # leading columns of words, set flush left


def estimated(value: float | None, ci: tuple[float, float] | None, form: str) -> Entry:
    """A number with its interval, both in `form`; a dash where there is none."""
    return Entry("–") if value is None else Entry(form.format(value), interval(ci, form))


def bounds(ci: tuple[float, float] | None) -> dict[str, float | None]:
    """The interval as columns of the data."""
    low, high = ci or (None, None)
    return {"low": low, "high": high}


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows with all digits; their columns in the order in which they first occur."""
    text = io.StringIO()
    names = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writerow({name: plain(name) for name in names})
    writer.writerows({name: plain(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def markdown_text(text: str) -> str:
    """`text` as Markdown that shows exactly these characters."""
    return text.translate(MARKDOWN)


def to_markdown(table: Table) -> str:
    columns = len(table.header)
    marks = ["---" if i < table.text_columns else "--:" for i in range(columns)]
    lines = [[markdown_text(name) for name in table.header], marks]
    lines += [[markdown_text(str(entry)) for entry in row] for row in table.rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
