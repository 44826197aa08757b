"""GenEval without mmdet: the original's prompts, detector, rules and files, on any machine.

Names are imported when they are first used, so that the pure parts load no torch.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "Detection": "rules",
    "Judge": "judge",
    "Judged": "verdicts",
    "Prompt": "prompts",
    "check": "rules",
    "compare": "statistics",
    "grade": "rules",
    "judge_line": "verdicts",
    "official_prompts": "prompts",
    "prompt_suite": "prompts",
    "score_folder": "scores",
    "summarize": "statistics",
}
__all__ = [  # noqa: RUF022 - resolved by __getattr__
    "Judge",
    "Judged",
    "judge_line",
    "Prompt",
    "official_prompts",
    "prompt_suite",
    "Detection",
    "check",
    "grade",
    "score_folder",
    "summarize",
    "compare",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'geneval' has no attribute {name!r}")
    return getattr(import_module(f"geneval.{_MODULES[name]}"), name)
