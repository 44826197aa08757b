"""GenEval as a torchmetrics metric, for training loops: update with pictures, compute over all processes."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from geneval.judge import Images, Judge
from geneval.prompts import TASKS, Prompt
from geneval.statistics import summarize
from geneval.verdicts import Judged

# Of a row: the task's place in TASKS, whether the image has an id, the hashes of prompt and id, correct, grade.
_DIGITS = 4  # 16-bit digits of a 64-bit hash: float32, which every backend and device can gather, holds them exactly
_WIDTH = 2 + 2 * _DIGITS + 2


class GenEval(Metric):
    """The GenEval score of the pictures seen since the last reset, with its 95 % interval.

        metric = GenEval(Judge.from_pretrained(detector, clip))
        metric.update(images, prompts)
        metric.compute()["overall"]

    `compute` gives scalars: overall (mean of the task means), overall_low, overall_high, each task seen, grade (the
    mean share of each prompt that is shown), images and prompts. A sampler that repeats pictures to fill up processes
    would count them twice: give `ids`, and each id counts once.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    rows: list[Tensor]

    def __init__(self, judge: Judge, *, strict: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.judge, self.strict = judge, strict
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, images: Images, prompts: Sequence[Any], ids: Sequence[int | str] | None = None) -> None:
        """Judge a batch; arguments as of `Judge`. `ids`: what an image is, one each."""
        asked = self.judge.prompts(prompts)
        if ids is not None and len(ids) != len(asked):
            raise ValueError(f"{len(asked)} prompts and {len(ids)} ids; give one id an image")
        if wrong := [prompt.tag for prompt in asked if prompt.tag not in TASKS]:
            raise ValueError(f"a GenEval score is over the tasks {', '.join(TASKS)}, not {wrong[0]!r}")
        judged = self.judge(images, asked, strict=self.strict)
        names = [None] * len(asked) if ids is None else list(ids)
        rows = [_row(*row) for row in zip(asked, judged, names)]
        if rows:
            # Flat, so that a process without rows, for which the library makes an empty vector, fits in.
            self.rows.append(torch.tensor(rows, dtype=torch.float32, device=self.device).flatten())

    def compute(self) -> dict[str, Tensor]:
        """Scalars by name; ValueError when nothing was judged."""
        rows = _distinct(_joined(self.rows))
        if not rows:
            raise ValueError("no picture was judged since the last reset")
        found = summarize([_result(row) for row in rows])
        overall = found["overall"]
        low, high = overall["ci"]
        values = {"overall": overall["value"], "overall_low": low, "overall_high": high}
        values |= {task: found["tasks"][task]["value"] for task in TASKS if task in found["tasks"]}
        grade = sum(row[-1] for row in rows) / len(rows)
        values |= {"grade": grade, "images": len(rows), "prompts": overall["clusters"]}
        return {name: torch.tensor(float(value), device=self.device) for name, value in values.items()}


def _row(prompt: Prompt, judged: Judged, name: int | str | None) -> list[float]:
    image = [0.0] * _DIGITS if name is None else _digits(str(name))
    known = float(name is not None)
    return [TASKS.index(prompt.tag), known, *_digits(prompt.line()), *image, float(judged.correct), judged.grade]


def _digits(text: str) -> list[float]:
    digest = hashlib.sha256(text.encode()).digest()
    return [float(int.from_bytes(digest[2 * i : 2 * i + 2], "little")) for i in range(_DIGITS)]


def _joined(rows: list[Tensor] | Tensor) -> list[list[float]]:
    """The rows of all processes: a list of vectors before the library has gathered them, one vector afterwards."""
    vectors = [rows] if isinstance(rows, Tensor) else rows
    return [row for vector in vectors for row in vector.reshape(-1, _WIDTH).tolist()]


def _distinct(rows: list[list[float]]) -> list[list[float]]:
    seen = {tuple(row[2:-2]): row for row in rows if row[1]}
    return [*seen.values(), *(row for row in rows if not row[1])]


def _result(row: list[float]) -> dict[str, Any]:
    return {"tag": TASKS[int(row[0])], "metadata": str(row[2 : 2 + _DIGITS]), "correct": bool(row[-2])}
