"""Whether today's code would give a study's records again: `python -m ablations check DIR`.

Every record holds the keys of its steps. The study is planned anew, by its name, scale and changes of the setting, and
the keys are compared: a step of another key would give another result, or the same by other code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional, arg

from ablations.runner.plan import EVERY, plan_cells
from ablations.runner.step import numbered
from ablations.runner.study import Cell
from ablations.studies import load_study
from lightgen.disk.config import override
from lightgen.disk.json_files import read_json

MADE_BY = "made_by"  # in study.json: which version made records that today's code would not make again


def check(folders: Annotated[Positional[tuple[Path, ...]], arg(metavar="DIR ...")]) -> int:
    """Whether today's code plans the steps that committed records were made with; 1 where it does not.

    Records of an older version are named as such where study.json says "made_by".

    Args:
        folders: packed studies, or folders of runs
    """
    codes = [0]
    for folder in folders:
        study = read_json(folder / "study.json")
        found, cells = differing(folder, study), len(list(folder.glob("cells/*/result.json")))
        if found and MADE_BY in study:
            print(f"{folder}: made by {study[MADE_BY]}; today's code would make {len(found)} of {cells} cells anew")
            continue
        print(*found, f"{folder}: {cells - len(found)} of {cells} cells are what today's code plans", sep="\n")
        codes.append(1 if found or not cells else 0)
    return max(codes)


def differing(folder: Path, study: dict[str, Any]) -> list[str]:
    """A line for each cell whose record has other keys than today's plan; ValueError for a study that is not there."""
    planned = {
        (cell.variant, cell.seed): {name: f"sha256:{step.key}" for name, step in numbered(cell.steps).items()}
        for seed in study["seeds"]
        for cell in planned_today(study, seed)
    }
    lines = []
    for path in sorted(folder.glob("cells/*/result.json")):
        record = read_json(path)
        today = planned.get((record["variant"], record["seed"]))
        if today is None:
            lines.append(f"{path.parent.name}: no such variant in {study['name']} today")
        elif other := [name for name, key in record["inputs"].items() if today.get(name) != key]:
            lines.append(f"{path.parent.name}: {', '.join(other)} would be made anew")
    return lines


def planned_today(study: dict[str, Any], seed: int) -> list[Cell]:
    """All cells that today's code plans at a seed for what a study.json says."""
    code, scale = load_study(study["name"]), study["scale"]
    setting = override(code.setting(scale), study.get("setting_changes", {}))
    return plan_cells(code, scale, setting, [seed], [EVERY])


def main(arguments: list[str] | None = None) -> int:
    """The command line of `check`."""
    return command(check, "check", arguments)


def command(function: Callable[..., int], verb: str, arguments: list[str] | None) -> int:
    """A verb's command line; bad input is one line on standard error."""
    try:
        return tyro.cli(function, prog=f"python -m ablations {verb}", args=arguments)
    except (ValueError, OSError, KeyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
