"""`python -m reports VERB DIR`: build a study's report, check its records, compare two variants, pack it small."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import tyro

Folder = Annotated[Path, tyro.conf.Positional]
Name = Annotated[str, tyro.conf.Positional]


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


def compare(folder: Folder, a: Name, b: Name, metric: str = "geneval/overall") -> int:
    """Print variant A minus variant B with its 95 % interval, over prompts and the seeds that both have.

    Args:
        folder: The study's folder, packed or not.
        a: A variant.
        b: Another.
        metric: A metric of the records, as geneval/position or detail/spectrum_gap.
    """
    from reports.contrasts import answer
    from reports.formats import interval
    from reports.records import Contrast, read_study

    study = read_study(folder)
    known = [variant.name for variant in study.variants]
    for name in (a, b):
        if name not in known:
            raise ValueError(f"{name!r} is no variant of {study.name}; valid: {', '.join(known)}")
    found = answer(
        study,
        Contrast(name="compare", label="", a=a, b=b, metric=metric, smallest_effect=0.0, claim=f"{a} is above {b}"),
    )
    if found.effect is None:
        raise ValueError(found.sentence)
    spread = "no interval" if found.ci is None else interval(found.ci, "{:+.3f}")
    prompts = f"{found.prompts} prompts, " if found.prompts else ""
    print(f"{a} minus {b}, {metric}: {found.effect:+.3f} {spread}, {prompts}seeds {', '.join(map(str, found.seeds))}")
    return 0


VERBS: dict[str, Callable[..., int]] = {"build": build, "check": check, "compare": compare, "pack": pack}


def main() -> int:
    """The exit code: 0 done, 1 incomplete (check), 2 bad input."""
    try:
        return tyro.extras.subcommand_cli_from_dict(VERBS, prog="python -m reports")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
