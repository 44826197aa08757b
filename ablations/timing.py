"""What an image costs in each variant of a study: `python -m ablations time DIR` writes DIR/speed.json.

The study is planned anew, as `check` does, for how each variant samples; a report then sets the scores against the cost
(reports/figures/front.py). All variants are timed in turn, so their ratios hold where the machine is not quiet.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ablations.current import command, planned_today
from ablations.runner.step import Step
from ablations.steps import Generate, TakePart
from benchmarks.speed.config import ChoicesSpeed
from lightgen.disk.json_files import read_json, write_sealed
from lightgen.model.config import MARConfig


def time(
    folder: Annotated[Positional[Path], arg(metavar="DIR")],
    options: Annotated[ChoicesSpeed, arg(name="")] = ChoicesSpeed(),  # noqa: B008
) -> int:
    """Time how each variant of a study samples, in turn, and keep it beside the study's records.

    Args:
        folder: a packed study, or the folder of a run
    """
    from benchmarks.speed.choices import Choice, measure

    study = read_json(folder / "study.json")
    there = {variant["name"] for variant in study["variants"]}
    choices: dict[str, Choice] = {}
    for cell in planned_today(study, study["seeds"][0]):
        made = [step for step in cell.steps if isinstance(step, Generate)]
        if cell.variant in there and made:
            model = _model_of(made[-1].model)
            side = made[-1].side // model.token_pixels or model.position_grid
            choices[cell.variant] = Choice(model, made[-1].sampling, side)
    if not choices:
        raise ValueError(f"{folder}: no variant of {study['name']} samples images; nothing to time")
    write_sealed(folder / "speed.json", measure(choices, options))
    print(f"{folder / 'speed.json'}; python -m reports build {folder} shows it")
    return 0


def _model_of(step: Step) -> MARConfig:
    """The size of a step's model: further training keeps that of the model it begins with."""
    model = step.training if isinstance(step, TakePart) else getattr(step, "model")  # noqa: B009
    return model if isinstance(model, MARConfig) else _model_of(model)


def main(arguments: list[str] | None = None) -> int:
    """The command line of `time`."""
    return command(time, "time", arguments)


if __name__ == "__main__":
    sys.exit(main())
