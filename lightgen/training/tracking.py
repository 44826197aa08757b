"""A run's rows in a tracker of accelerate's, to look at while it runs; metrics.jsonl stays the record."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from accelerate.utils import is_tensorboard_available, is_wandb_available


class Tracking:
    """Numbers by step, in OUT/tensorboard, or in OUT/wandb, which stays on this disk unless WANDB_MODE says otherwise.

    Opened again after `last_step`, it takes back what was written of later steps (TensorBoard), or is a run of its own.
    """

    def __init__(self, kind: str, out: Path, last_step: int):
        self._tracker = _TRACKERS[kind](out, last_step)
        self._tracker.start()

    def log(self, row: Mapping[str, Any]) -> None:
        """A row of `metrics.jsonl` or `evaluations.jsonl`."""
        self._tracker.log({name: value for name, value in row.items() if name != "step"}, step=row["step"])

    def close(self) -> None:
        self._tracker.finish()


def _tensorboard(out: Path, last_step: int) -> Any:
    from accelerate.tracking import TensorBoardTracker

    if not is_tensorboard_available():
        raise ImportError("--track tensorboard needs its package: pip install 'lightgen-bench[track]'")
    return TensorBoardTracker("tensorboard", logging_dir=out, purge_step=last_step + 1)


def _wandb(out: Path, last_step: int) -> Any:
    from accelerate.tracking import WandBTracker

    if not is_wandb_available():
        raise ImportError("--track wandb needs its package: pip install wandb")
    out.mkdir(parents=True, exist_ok=True)
    mode = os.environ.get("WANDB_MODE", "offline")
    return WandBTracker("lightgen", name=out.name, dir=str(out), mode=mode)


_TRACKERS: dict[str, Callable[[Path, int], Any]] = {"tensorboard": _tensorboard, "wandb": _wandb}
