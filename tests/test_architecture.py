"""The import table of the design: which package may import which of ours; deferred imports count."""

import ast
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("lightgen", "geneval", "benchmarks", "ablations", "reports")

# (part of the tree, what it may import of ours besides itself); the first prefix that fits decides.
ALLOWED = (
    ("lightgen/", ()),
    ("geneval/", ()),
    ("benchmarks/speed/", ("lightgen", "geneval")),
    ("benchmarks/gpu/", ("lightgen", "geneval")),
    ("benchmarks/regression", ("lightgen", "geneval")),
    ("benchmarks/", ("lightgen.disk", "geneval")),
    ("reports/", ("geneval.statistics", "lightgen.disk")),
    ("ablations/", ("lightgen", "geneval", "benchmarks", "reports")),
)
WITHOUT_TORCH = (
    "geneval/prompts.py",
    "geneval/layout.py",
    "geneval/rules.py",
    "geneval/scores.py",
    "geneval/verdicts.py",
    "geneval/flow_grpo.py",
    "geneval/templates.py",
    "geneval/statistics.py",
    "reports/",
)
# Inside lightgen a file may import those of its own room and of the rooms before it.
ROOMS = (
    "disk",
    "device",
    "model",
    "data",
    "training",
    "preference",
    "presets",
    "console",
    "data_verbs",
    "pair_verbs",
    "__main__",
)
# Inside ablations likewise; the runner knows no step by name, and steps know no setting.
ABLATION_ROOMS = (
    *("icons", "runner", "prompts", "steps", "data", "settings", "record", "recipes", "studies"),
    *("evaluation", "worker", "rank", "run", "watch", "current", "timing", "__main__"),
)


def sources() -> list[str]:
    return sorted(path.relative_to(ROOT).as_posix() for name in PACKAGES for path in (ROOT / name).rglob("*.py"))


def imports(source: str) -> Iterator[str]:
    """Every module that a file imports when it runs, anywhere in it; `from a import b` yields `a` and `a.b`."""
    yield from _modules(source, _running(ast.parse((ROOT / source).read_text())))


def _modules(source: str, nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}:{node.lineno}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING`, which exist for the type checker alone."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            yield node
            yield from _running(node)


@pytest.mark.parametrize("source", sources())
def test_packages_import_only_what_the_design_allows(source: str) -> None:
    own = source.split("/")[0]
    allowed = next(names for prefix, names in ALLOWED if source.startswith(prefix))
    for module in imports(source):
        if module.split(".")[0] in PACKAGES and module.split(".")[0] != own:
            fits = any(f"{module}.".startswith(f"{name}.") or f"{name}.".startswith(f"{module}.") for name in allowed)
            assert fits, f"{source} imports {module}; it may import {allowed or 'nothing of ours'}"


@pytest.mark.parametrize("source", [s for s in sources() if s.startswith(WITHOUT_TORCH)])
def test_pure_parts_import_no_torch(source: str) -> None:
    assert not {module.split(".")[0] for module in imports(source)} & {
        "torch",
        "transformers",
        "diffusers",
        "open_clip",
    }


@pytest.mark.parametrize("package", ["lightgen", "ablations"])
def test_rooms_import_only_earlier_ones(package: str) -> None:
    order = ROOMS if package == "lightgen" else ABLATION_ROOMS
    files = [s for s in sources() if s.startswith(f"{package}/") and s != f"{package}/__init__.py"]
    for source in files:
        own = order.index(_room(source))
        for file in _imported_files(source) & set(files):
            assert order.index(_room(file)) <= own, f"{source} imports {file}, of a room after its own"


def _room(file: str) -> str:
    return Path(file).with_suffix("").parts[1]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_circle_of_files(package: str) -> None:
    """Deferred imports and those for the type checker count."""
    own = [source for source in sources() if source.split("/")[0] == package]
    graph = {source: {file for file in _imported_files(source) if file in own} - {source} for source in own}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(" <- ".join(error.args[1])) from None


def _imported_files(source: str) -> set[str]:
    """The files of ours that a file imports anywhere, for the type checker too; of `from a import b`, a/b.py where it
    is a file, else a."""
    files: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / source).read_text())):
        if isinstance(node, ast.ImportFrom):
            named = {alias.name: _file(f"{node.module}.{alias.name}") for alias in node.names}
            files |= {file or _file(node.module or "") for file in named.values()}
        elif isinstance(node, ast.Import):
            files |= {_file(alias.name) for alias in node.names}
    return files - {""}


def _file(module: str) -> str:
    """The file of one of our modules, "" where it is none."""
    stem = module.replace(".", "/")
    return next((file for file in (f"{stem}.py", f"{stem}/__init__.py") if (ROOT / file).is_file()), "")


def test_no_device_is_named_outside_entry_points() -> None:
    for source in sources():
        if not source.endswith("__main__.py") and not source.startswith("benchmarks/speed/"):
            assert ".cuda()" not in (ROOT / source).read_text(), source


def test_files_stay_small() -> None:
    limits = {source: 400 if source.startswith("lightgen/") else 420 for source in sources()}
    long = {source: n for source in limits if (n := len((ROOT / source).read_text().splitlines())) > limits[source]}
    assert not long, f"files that hold two nouns: {long}"


def test_embedded_components_fit_twenty_megabytes() -> None:
    components = ROOT / "ablations" / "icons" / "components"
    assert sum(path.stat().st_size for path in components.rglob("*") if path.is_file()) <= 20e6
