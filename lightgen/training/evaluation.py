"""A measurement of the model now and then while it trains; what is measured is the caller's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoints, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from lightgen.model.mar import MAR
from lightgen.training.journal import Journal, read_journal
from lightgen.training.optimization import Average

FILE_NAME = "evaluations.jsonl"  # not metrics.jsonl, whose rows all have a loss
DISTRIBUTION, GROUP = "lightgen-bench", "lightgen.evaluations"
Function = Callable[[int, MAR], Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """`function` is called with the step and the model, averaged weights in it, and names what it measured."""

    function: Function
    every: int  # steps

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"an evaluation every {self.every} steps is none; give at least 1")


def evaluate(
    evaluation: Evaluation, step: int, model: MAR, average: Average, out: Path, where: Accelerator
) -> dict[str, Any] | None:
    """A row of OUT/evaluations.jsonl where one is due, else None: the main process measures, the others wait.

    Training goes on as if nothing had been measured: weights, mode and the global draws are put back.
    """
    if step == 0 or step % evaluation.every:
        return None
    row, path = None, out / FILE_NAME
    if where.is_main_process and not any(found["step"] == step for found in read_journal(path)):
        row = {"step": step, **_measured(evaluation, step, model, average)}
        journal = Journal(path, step - 1)
        journal.write(row)
        journal.close()
    where.wait_for_everyone()
    return row


def _measured(evaluation: Evaluation, step: int, model: MAR, average: Average) -> Mapping[str, float]:
    raw, state = [parameter.detach().clone() for parameter in average.source], torch.get_rng_state()
    average.store()
    model.eval()
    try:
        with torch.no_grad():
            return evaluation.function(step, model)
    finally:
        model.train()
        torch.set_rng_state(state)
        with torch.no_grad():
            torch._foreach_copy_(average.source, raw)


def installed_evaluation(name: str, **parts: Any) -> Function:
    """The evaluation that this project's installation declares under a name, made of `parts`.

    lightgen knows no judge: the package that does says so in pyproject.toml. Only this distribution's own entry points
    are read, so no other installed package and no file can put code in its place.
    """
    try:
        points = distribution(DISTRIBUTION).entry_points.select(group=GROUP, name=name)
    except PackageNotFoundError:
        points = EntryPoints()
    if not points:
        raise ValueError(
            f"--evaluate-every needs the project installed as it is now, which says who judges: run `pip install -e .` "
            f"in its folder again (no {GROUP} named {name!r} in {DISTRIBUTION})"
        )
    return next(iter(points)).load()(**parts)
