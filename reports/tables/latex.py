"""A table as LaTeX: a float of the page's width, booktabs rules, intervals on a second line, what is equal in every row
in the caption, the protocol of each metric in the note. Needs booktabs and graphicx."""

import re
from collections.abc import Sequence

from reports.tables.table import Entry, Table
from reports.words import metric_name

ESCAPED = str.maketrans({
    **{c: f"\\{c}" for c in "&%$#_{}"}, "\\": r"\textbackslash{}", "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': r"\textquotedbl{}", "\n": " ", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "→": r"$\rightarrow$", "–": "--",
    "∞": r"$\infty$", "×": r"$\times$", "±": r"$\pm$", "≥": r"$\geq$", "≤": r"$\leq$", "…": r"\ldots{}",
    "·": r"$\cdot$",
    "’": "'", "“": "``", "”": "''", "\t": " ",
})  # fmt: skip
COUNTS = ("images", "prompts", "seeds")
LONG = 36  # characters, beyond which a column of words is set in lines
FIT = r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%"


def latex_text(text: str) -> str:
    """`text` as LaTeX that shows exactly these characters; one that a plain font lacks by its code."""
    return "".join(map(_character, text))


def _character(char: str) -> str:
    escaped = char.translate(ESCAPED)
    return f"[U+{ord(char):04X}]" if escaped == char and (ord(char) > 255 or not char.isprintable()) else escaped


def to_latex(table: Table) -> str:
    """The float, by pandas' Styler."""
    import pandas

    caption, kept = _without_constants(table)
    header, note = _header([table.header[i] for i in kept])
    rows = [[_entry(row[i], i < table.text_columns) for i in kept] for row in table.rows]
    style = pandas.DataFrame(rows, columns=range(len(kept)), dtype=object).style.hide(axis="index")
    text = style.format_index(lambda place: header[place], axis=1).to_latex(
        hrules=True,
        environment="table*",
        position="tp",
        position_float="centering",
        column_format="".join(_column(table, i) for i in kept),
        caption=latex_text(caption),
        label=f"tab:{table.name}",
    )
    notes = latex_text(". ".join(filter(None, [table.note, note])))
    return f"% Needs booktabs and graphicx.\n{_finished(text, table, notes)}"


def _finished(text: str, table: Table, note: str) -> str:
    """Rules between variants and controls, no wider than the page, the note below."""
    lines = text.replace(r"\begin{tabular}", f"\\footnotesize\n{FIT}\n\\begin{{tabular}}").splitlines()
    first = lines.index(r"\midrule") + 1
    breaks = [i for i in sorted(table.controls) if i and i - 1 not in table.controls]
    for place in reversed(breaks):
        lines.insert(first + place, r"\midrule")
    end = lines.index(r"\end{tabular}")
    below = [f"\\par\\smallskip{{\\footnotesize {note}.\\par}}"] if note else []
    lines[end : end + 1] = [r"\end{tabular}}", *below]
    return "\n".join(lines) + "\n"


def _without_constants(table: Table) -> tuple[str, list[int]]:
    """The caption with the counts that are the same in all rows, and the columns that are left."""
    tested = [row for i, row in enumerate(table.rows) if i not in table.controls] or list(table.rows)
    said, kept = [], []
    for i, name in enumerate(table.header):
        values = list(dict.fromkeys(str(row[i]) for row in tested))
        if name in COUNTS and len(values) == 1 and len(table.rows) > 1:
            others = {str(row[0]): str(row[i]) for row in table.rows if str(row[i]) != values[0]}
            apart = f" ({', '.join(f'{who}: {value}' for who, value in others.items())})" if others else ""
            said.append(f"{name}: {values[0]}{apart}")
        else:
            kept.append(i)
    return f"{table.title}{'; ' if said else ''}{', '.join(said)}.", kept


def _header(names: Sequence[str]) -> tuple[list[str], str]:
    """Metrics by their human names, and their protocols as a note."""
    found: list[str] = []
    protocols: dict[str, list[str]] = {}
    for name in names:
        parts = re.fullmatch(r"([^\[\]]+)(\[[^\]]*\])(.*)", name)
        if parts is None:
            found.append(latex_text(name))
            continue
        words, protocol = metric_name(parts[1] + parts[2])
        protocols.setdefault(protocol, []).append(words)
        found.append(latex_text(words + parts[3]))
    return found, ". ".join(f"{', '.join(metrics)}: {protocol}" for protocol, metrics in protocols.items())


def _column(table: Table, place: int) -> str:
    if place >= table.text_columns:
        return "r"
    longest = max((len(row[place].text) for row in table.rows), default=0)
    return "l" if longest <= LONG else rf"p{{{min(0.5, 0.9 / table.text_columns, 0.006 * longest):.2f}\textwidth}}"


def _entry(entry: Entry, is_text: bool) -> str:
    text, detail = latex_text(entry.text), latex_text(entry.detail)
    if not detail:
        # Braces keep an opening bracket from being read as the option of a preceding \\.
        return f"{{{text}}}" if text.startswith("[") else text
    if is_text:
        return f"{text} {{\\scriptsize {detail}}}"
    return f"\\shortstack[r]{{{text}\\\\{{\\scriptsize {detail}}}}}"
