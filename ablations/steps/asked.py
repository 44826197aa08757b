"""What a step asks of a model: prompts that are known beforehand, or that another step found in the data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.prompts import IconPrompts, OfficialPrompts
from ablations.runner.step import Step
from ablations.steps.named import AskNamed
from ablations.steps.subsets import HoldOut

if TYPE_CHECKING:
    from geneval.prompts import Prompt

Asked = IconPrompts | OfficialPrompts | AskNamed | HoldOut


def prompts_of(asked: Asked, made: Callable[[Step], Path]) -> list[Prompt]:
    """The prompts; those of a step are read where it wrote them."""
    from geneval.prompts import read_prompts

    if isinstance(asked, Step):
        return read_prompts(made(asked) / "evaluation_metadata.jsonl")
    return asked.prompts()


def most_prompts(asked: Asked) -> int:
    """How many prompts there are, or can be at most where a step has yet to find them."""
    return asked.most if isinstance(asked, Step) else len(asked.prompts())
