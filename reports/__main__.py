"""`python -m reports VERB DIR`: build a study's report, check its records, compare two variants, pack it small.

`python -m reports coverage` simulates what the intervals of verdicts promise.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from reports.tables.table import Table

Folder = Annotated[Path, tyro.conf.Positional]
Name = Annotated[str, tyro.conf.Positional]
Flag = tyro.conf.FlagCreatePairsOff[bool]


def build(folder: Folder, out: Path | None = None) -> int:
    """Build the report of a study.

    Args:
        folder: The study's folder, as `python -m ablations.run` wrote it.
        out: Where the report goes; FOLDER/report if not given.
    """
    from reports.page.report import build_report

    print(build_report(folder, out))
    return 0


def check(folder: Folder, json: Flag = False) -> int:
    """Say what is missing, partial, unreadable or not what its verdicts give; exit 1 if anything is.

    Args:
        folder: The study's folder, as `python -m ablations.run` wrote it.
        json: Print the same as one JSON object.
    """
    from reports.records.recomputed import wrong_numbers
    from reports.records.study import read_study

    study = read_study(folder)
    found = study.problems() + [
        line for cell in study.complete() for line in wrong_numbers(cell.name, cell.rows, cell.record)
    ]
    complete = len(study.complete())
    if json:
        _print_json({"study": study.name, "complete": complete, "cells": len(study.cells), "problems": found})
    else:
        print(*found, f"{study.name}: {complete} of {len(study.cells)} cells complete", sep="\n")
    return 1 if found else 0


def pack(folders: tyro.conf.Positional[tuple[Path, ...]], out: Path, slim: Flag = False) -> int:
    """Keep a complete study small: records, compressed lines, pictures to show, and the report built from them.

    Args:
        folders: The study's folder, as `python -m ablations.run` wrote it; several, packed or not, become one study, as
            where other seeds were run on another machine.
        out: A folder of its own.
        slim: Without pictures and boxes, and with report.md and five figures alone.
    """
    from reports.pack import pack as packed

    if not folders:
        raise ValueError("no folders; give the study's, as `python -m ablations.run` wrote it")
    print(packed(folders, out, slim=slim))
    return 0


def difference(folder: Folder, a: Name, b: Name, metric: str = "geneval/overall", json: Flag = False) -> int:
    """Print variant A minus variant B with its 95 % interval, over prompts and the seeds that both have.

    Args:
        folder: The study's folder, packed or not.
        a: A variant.
        b: Another.
        metric: A metric of the records, as geneval/position or detail/spectrum_gap.
        json: Print the same as one JSON object.
    """
    from reports.records.study import readable_study
    from reports.verdict import between

    found = between(readable_study(folder), a, b, metric)
    if json:
        numbers = {name: getattr(found.difference, name) for name in ("effect", "ci", "prompts", "seeds")}
        _print_json({"a": a, "b": b, "metric": metric, **numbers, "p": found.p_zero})
    else:
        print(found.line())
    return 0


def compare(before: Folder, after: Folder, out: Path | None = None, json: Flag = False) -> int:
    """Compare the same study before and after a change of code, paired by prompt and seed.

    Args:
        before: The study's folder of the older code.
        after: That of the newer one.
        out: A folder for the table as CSV, Markdown and LaTeX.
        json: Print all digits as one JSON list.
    """
    from reports.comparison import comparison
    from reports.records.study import readable_study

    _show(comparison(readable_study(before), readable_study(after)), out, json)
    return 0


def export(folder: Folder, to: Literal["trackio", "tensorboard", "hub-card"], out: Path) -> int:
    """Write a study for another tool.

    Args:
        folder: The study's folder, packed or not.
        to: trackio or tensorboard (curves and scores of every cell), or hub-card (README.md of the model with the
            highest score, and leaderboard.json).
        out: A folder that is not there yet, or empty.
    """
    from reports.export import EXPORTS
    from reports.records.study import readable_study

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: is not empty; give another folder, or remove what is there")
    print(EXPORTS[to](readable_study(folder), out))
    return 0


def coverage(trials: int = 4000, seed: int = 0, out: Path | None = None, json: Flag = False) -> int:
    """Simulate how often the 95 % intervals of contrasts hold the truth, and print the table (minutes).

    Args:
        trials: Studies drawn for each number.
        seed: Of the drawing.
        out: A folder for the table as CSV, Markdown and LaTeX.
        json: Print all digits as one JSON list.
    """
    from reports.coverage import table

    _show(table(trials=trials, seed=seed), out, json)
    return 0


def _show(table: "Table", out: Path | None, as_json: bool) -> None:
    from reports.tables.files import write_table
    from reports.tables.table import to_markdown

    if out:
        out.mkdir(parents=True, exist_ok=True)
        write_table(table, out)
    if as_json:
        _print_json(table.data)
    else:
        print(f"{table.title}. {table.note}.\n\n{to_markdown(table)}", end="")


def _print_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False))


def claims(folder: Folder) -> int:
    """Write FOLDER/claims, the page of a paper's claims, from FOLDER/claims.toml and the studies beside it.

    Args:
        folder: The folder that holds claims.toml and a folder of records for each study that it names.
    """
    from reports.claims import build_claims

    print(build_claims(folder))
    return 0


def quote(pages: tyro.conf.Positional[tuple[Path, ...]], check: Flag = False) -> int:
    """Write the numbers that pages of text quote anew, from the records they name (reports/README.md).

    Args:
        pages: Markdown files.
        check: Write nothing; exit 1 where a number is not what the records give.
    """
    from lightgen.disk.json_files import read_text
    from reports.quote import quoted, write_quotes

    if not pages:
        raise ValueError("no pages; give the Markdown files whose quotes are meant")
    stale = [page for page in pages if quoted(page) != read_text(page)]
    for page in stale:
        print(f"{page}: {'other numbers than the records give' if check else 'written anew'}")
        if not check:
            write_quotes(page)
    return 1 if check and stale else 0


VERBS: dict[str, Callable[..., int]] = {
    "build": build, "check": check, "claims": claims, "compare": compare, "coverage": coverage,
    "difference": difference, "export": export, "pack": pack, "quote": quote,
}  # fmt: skip


def main() -> int:
    """The exit code: 0 done, 1 incomplete (check), 2 bad input."""
    try:
        return tyro.extras.subcommand_cli_from_dict(VERBS, prog="python -m reports")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
