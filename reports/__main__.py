"""`python -m reports build DIR`, `python -m reports check DIR` and `python -m reports pack DIR --out SMALL`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import tyro

Folder = Annotated[Path, tyro.conf.Positional]


def build(folder: Folder, out: Path | None = None) -> int:
    """Build the report of a study.

    Args:
        folder: The study's folder, as `python -m ablations.run` wrote it.
        out: Where the report goes; FOLDER/report if not given.
    """
    from reports.build import build_report

    print(build_report(folder, out))
    return 0


def check(folder: Folder) -> int:
    """Say what is missing, partial or unreadable; exit 1 if anything is.

    Args:
        folder: The study's folder, as `python -m ablations.run` wrote it.
    """
    from reports.build import problems
    from reports.records import read_study

    study = read_study(folder)
    found = problems(study)
    for line in found:
        print(line)
    print(f"{study.name}: {len(study.cells) - len(study.incomplete())} of {len(study.cells)} cells complete")
    return 1 if found else 0


def pack(folder: Folder, out: Path) -> int:
    """Keep a complete study small: records, compressed lines, pictures to show, and the report built from them.

    Args:
        folder: The study's folder, as `python -m ablations.run` wrote it.
        out: A folder of its own.
    """
    from reports.pack import pack as packed

    print(packed(folder, out))
    return 0


VERBS: dict[str, Callable[..., int]] = {"build": build, "check": check, "pack": pack}


def main() -> int:
    """The exit code: 0 done, 1 incomplete (check), 2 bad input."""
    try:
        return tyro.extras.subcommand_cli_from_dict(VERBS, prog="python -m reports")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
