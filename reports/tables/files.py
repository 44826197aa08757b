"""A table on disk: all digits as CSV, the same as Markdown and as LaTeX to be read."""

from pathlib import Path

from reports.tables.latex import to_latex
from reports.tables.table import Table, to_csv, to_markdown


def write_table(table: Table, folder: Path) -> None:
    """`folder`/NAME.csv, .md and .tex."""
    texts = {"csv": to_csv(table.data), "md": to_markdown(table), "tex": to_latex(table)}
    for suffix, text in texts.items():
        (folder / f"{table.name}.{suffix}").write_text(text, encoding="utf-8", newline="\n")
