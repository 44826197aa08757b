"""A table as data, and its texts: CSV with all digits, Markdown and LaTeX that show exactly what was recorded."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reports.tables.cells import plain
from reports.words import interval

MARKDOWN = str.maketrans({**{c: f"\\{c}" for c in "\\`*_[]|#~$"}, "<": "&lt;", ">": "&gt;", "&": "&amp;", "\n": " "})
LATEX = str.maketrans({
    **{c: f"\\{c}" for c in "&%$#_{}"}, "\\": r"\textbackslash{}", "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': r"\textquotedbl{}", "\n": " ", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "→": r"$\rightarrow$", "–": "--",
})  # fmt: skip


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

    def write(self, folder: Path) -> None:
        """`folder`/NAME.csv, .md and .tex."""
        texts = {"csv": to_csv(self.data), "md": to_markdown(self), "tex": to_latex(self)}
        for suffix, text in texts.items():
            (folder / f"{self.name}.{suffix}").write_text(text, encoding="utf-8", newline="\n")


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


def to_latex(table: Table) -> str:
    """A `tabular` in booktabs rules; controls below a rule of their own."""
    form = "l" * table.text_columns + "r" * (len(table.header) - table.text_columns)
    header = " & ".join(name.translate(LATEX) for name in table.header) + r" \\"
    lines = [f"\\begin{{tabular}}{{{form}}}", "\\toprule", header, "\\midrule"]
    for i, row in enumerate(table.rows):
        if i in table.controls and i - 1 not in table.controls and i:
            lines.append("\\midrule")
        lines.append(" & ".join(_latex_entry(entry) for entry in row) + r" \\")
    lines += ["\\bottomrule", "\\end{tabular}"]
    return f"% {table.title.translate(LATEX)}. Needs booktabs.\n" + "\n".join(lines) + "\n"


def _latex_entry(entry: Entry) -> str:
    # Braces keep a detail that opens with a bracket from being read as the option of a preceding \\.
    detail = f" {{\\scriptsize {entry.detail.translate(LATEX)}}}" if entry.detail else ""
    return entry.text.translate(LATEX) + detail
