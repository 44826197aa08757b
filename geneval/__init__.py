"""GenEval without mmdet: the original's prompts, detector, rules and files, on any machine.

Names are imported when they are first used, so that the pure parts load no torch.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "Detection": "rules",
    "Prompt": "prompts",
    "Verdict": "rules",
    "check": "rules",
    "compare": "statistics",
    "detect_images": "detect",
    "generate_images": "generate",
    "grade": "rules",
    "official_prompts": "prompts",
    "prompt_suite": "prompts",
    "score_folder": "scores",
    "summarize": "statistics",
}
__all__ = [
    "Detection",
    "Prompt",
    "check",
    "compare",
    "grade",
    "official_prompts",
    "prompt_suite",
    "score_folder",
    "summarize",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'geneval' has no attribute {name!r}")
    return getattr(import_module(f"geneval.{_MODULES[name]}"), name)
