"""The studies: one file each, holding a `STUDY`. Adding a study is adding a file."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from functools import cache
from pathlib import Path

from ablations.runner.study import Study


def study_names() -> list[str]:
    """The studies that come with the package."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load_study(name: str) -> Study:
    """The study of that name, or the one in a Python file of the user's own, given as path/to/study.py."""
    if name.endswith(".py"):
        return _load_file(Path(name).resolve())
    if name not in study_names():
        raise ValueError(f"no study {name!r}; there are {', '.join(study_names())} (or give a path to a .py file)")
    return importlib.import_module(f"{__name__}.{name}").STUDY


@cache
def _load_file(path: Path) -> Study:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; give a study's name ({', '.join(study_names())}) or its file")
    spec = importlib.util.spec_from_file_location(f"study_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where the types of its dataclasses are looked up
    spec.loader.exec_module(module)
    if not isinstance(getattr(module, "STUDY", None), Study):
        raise ValueError(f"{path} holds no STUDY")
    return module.STUDY
