"""A table as data, and its texts: CSV with all digits, Markdown and LaTeX that show exactly what was recorded."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


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


def number(value: float) -> str:
    """Three or four digits that matter, without an exponent where a reader can do without."""
    magnitude = abs(value)
    if magnitude == 0:
        return "0"
    if magnitude < 1e-4 or magnitude >= 1e6:
        return f"{value:.3g}"
    digits = 4 if magnitude < 0.01 else 3 if magnitude < 10 else 1 if magnitude < 1000 else 0
    return f"{value:.{digits}f}"


def interval(ci: tuple[float, float], form: str = "") -> str:
    low, high = (form.format(x) if form else number(x) for x in ci)
    return f"[{low}, {high}]"


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows with all digits; the columns of the first."""
    text = io.StringIO()
    names = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


MARKDOWN = str.maketrans({**{c: f"\\{c}" for c in "\\`*_[]|#~$"}, "<": "&lt;", ">": "&gt;", "&": "&amp;", "\n": " "})
LATEX = str.maketrans(
    {
        **{c: f"\\{c}" for c in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"\textquotedbl{}",
        "\n": " ",
        "↑": r"$\uparrow$",
        "↓": r"$\downarrow$",
        "–": "--",
    }
)


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
    lines = [
        f"\\begin{{tabular}}{{{form}}}",
        "\\toprule",
        " & ".join(h.translate(LATEX) for h in table.header) + r" \\",
    ]
    lines.append("\\midrule")
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


def write(table: Table, folder: Path) -> None:
    """`folder`/NAME.csv, .md and .tex."""
    for suffix, text in (("csv", to_csv(table.data)), ("md", to_markdown(table)), ("tex", to_latex(table))):
        (folder / f"{table.name}.{suffix}").write_text(text, encoding="utf-8", newline="\n")
