"""The import table of the design: which package may import which of ours; deferred imports count."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("lightgen", "geneval", "benchmarks", "ablations", "reports")

# (part of the tree, what it may import of ours besides itself); the first prefix that fits decides.
ALLOWED = (
    ("lightgen/", ()),
    ("geneval/", ()),
    ("benchmarks/speed/", ("lightgen", "geneval")),
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
    "geneval/statistics.py",
    "reports/",
)
# Inside lightgen each file may import those of its own row and of the rows before it.
LAYERS = (
    ("config", "checkpoint", "atomic", "seeds", "images", "console"),
    ("blocks", "diffusion", "masking"),
    ("head",),
    ("mar",),
    ("sampling",),
    ("encoders", "pipeline"),
    ("optimization", "processes", "resume"),
    ("shards", "latents"),
    ("teachers", "captions"),
    ("pairs", "pair_sources", "training"),
    ("encoded_pairs", "drift", "reference", "preference_loss", "adapter", "preference_run", "preference", "averaging"),
    ("presets", "convert"),
    ("__main__",),
)


def sources() -> list[str]:
    return sorted(path.relative_to(ROOT).as_posix() for name in PACKAGES for path in (ROOT / name).rglob("*.py"))


def imports(source: str) -> Iterator[str]:
    """Every module that a file imports when it runs, anywhere in it; `from a import b` yields `a` and `a.b`."""
    for node in _running(ast.parse((ROOT / source).read_text())):
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


@pytest.mark.parametrize("source", [s for s in sources() if s.startswith("lightgen/") and "__init__" not in s])
def test_lightgen_files_import_only_earlier_ones(source: str) -> None:
    level = {name: index for index, row in enumerate(LAYERS) for name in row}
    own = Path(source).stem
    assert own in level, f"{source} has no place in the order of files"
    for module in imports(source):
        if module.startswith("lightgen.") and (name := module.split(".")[1]) in level:
            assert level[name] <= level[own], f"{source} imports lightgen.{name}, which comes after it"


def test_no_device_is_named_outside_entry_points() -> None:
    for source in sources():
        if not source.endswith("__main__.py") and not source.startswith("benchmarks/speed/"):
            assert ".cuda()" not in (ROOT / source).read_text(), source


def test_files_stay_small() -> None:
    long = {source: n for source in sources() if (n := len((ROOT / source).read_text().splitlines())) > 420}
    assert not long, f"files that hold two nouns: {long}"


def test_embedded_components_fit_twenty_megabytes() -> None:
    components = ROOT / "ablations" / "icons" / "components"
    assert sum(path.stat().st_size for path in components.rglob("*") if path.is_file()) <= 20e6
