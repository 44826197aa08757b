"""pyproject.toml names what the five packages import, and nothing that none of them does."""

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("lightgen", "geneval", "benchmarks", "ablations", "reports")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
INSTALLED = packages_distributions()
# Declared for following work; nothing imports it yet.
AWAITED: set[str] = set()
# Imported by a library of ours when it does what we ask, or used by its name alone.
INDIRECT = {
    "torchvision": "the image transforms of open_clip",
    "fonticon-materialdesignicons7": "a font, read as a file",
    "tensorboard": "what accelerate's tracker of that name writes with",
    "python-multipart": "starlette's reader of forms",
}


@cache
def imported() -> set[str]:
    """Top-level modules that the packages import, anywhere in a file."""
    found = set()
    for path in (path for name in PACKAGES for path in (ROOT / name).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add((node.module or "").split(".")[0])
    return found - set(sys.stdlib_module_names) - set(PACKAGES)


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!\[; ]", requirement)[0].lower() for requirement in requirements}


def declared() -> set[str]:
    extras = {key: value for key, value in PROJECT["optional-dependencies"].items() if key != "test"}
    return names(PROJECT["dependencies"]).union(*map(names, extras.values()))


def distributions(module: str) -> set[str]:
    """The distributions that bring a module, as installed here; for one that is not, its own name."""
    found = [*INSTALLED.get(module, []), module]
    return {name.replace("_", "-").lower() for name in found}


@pytest.mark.parametrize("module", sorted(imported()))
def test_every_imported_module_is_declared(module):
    assert distributions(module) & declared(), f"{module} is imported and not in pyproject.toml"


@pytest.mark.parametrize("package", sorted(declared() - AWAITED - set(INDIRECT)))
def test_every_declared_package_is_imported(package):
    assert any(package in distributions(module) for module in imported()), f"nothing imports {package}"


def test_what_is_awaited_is_not_imported_yet():
    used = {name for module in imported() for name in distributions(module)}
    assert not AWAITED & used, "take it out of AWAITED"
