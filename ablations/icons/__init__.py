"""The icon world: exact scenes in GenEval's vocabulary, so that the whole pipeline is true on a laptop.

Names are loaded when they are first used; `python -m ablations.icons --help` lists the commands.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "World": "world",
    "WORLDS": "world",
    "IconTeacher": "teacher",
    "DatasetConfig": "render",
    "render_dataset": "render",
    "split_of": "compositions",
    "COMPONENTS": "build",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
