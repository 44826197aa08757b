"""A measurement of the model now and then while it trains; what is measured is the caller's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator

from lightgen.model.mar import MAR
from lightgen.training.journal import Journal, read_journal
from lightgen.training.optimization import Average

FILE_NAME = "evaluations.jsonl"  # not metrics.jsonl, whose rows all have a loss


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """`function` is called with the step and the model, averaged weights in it, and names what it measured."""

    function: Callable[[int, MAR], Mapping[str, float]]
    every: int  # steps

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"an evaluation every {self.every} steps is none; give at least 1")


def evaluate(evaluation: Evaluation, step: int, model: MAR, average: Average, out: Path, where: Accelerator) -> None:
    """A row of OUT/evaluations.jsonl where one is due: the main process measures, the others wait.

    Training goes on as if nothing had been measured: weights, mode and the global draws are put back.
    """
    path = out / FILE_NAME
    if step == 0 or step % evaluation.every:
        return
    if where.is_main_process and not any(row["step"] == step for row in read_journal(path)):
        raw, state = [parameter.detach().clone() for parameter in average.source], torch.get_rng_state()
        average.store()
        model.eval()
        try:
            with torch.no_grad():
                values = evaluation.function(step, model)
        finally:
            model.train()
            torch.set_rng_state(state)
            with torch.no_grad():
                torch._foreach_copy_(average.source, raw)
        journal = Journal(path, step - 1)
        journal.write({"step": step, **values})
        journal.close()
    where.wait_for_everyone()
