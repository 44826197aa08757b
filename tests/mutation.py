"""Do the tests notice? One sign, comparison, constant or bound of a file is changed at a time and its tests are run.

    python tests/mutation.py                                    every mutant of every file: hours
    python tests/mutation.py geneval/rules.py                   of one file
    python tests/mutation.py --sample 40 --seed 0 --out FILE    40 of each file; FILE keeps each outcome, and the same
                                                                command again goes on with what it has not killed

A mutant lives in a forked process alone, which has the libraries loaded and never writes the file. It is killed when a
test fails or time runs out. `mutation_equivalents.txt` lists those that change no result, with the reason.
"""

import argparse
import gc
import json
import math
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}  # before torch is loaded
os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # pytest refuses plugins whose modules are here already

import pytest  # noqa: E402
from mutants import Mutant, mutants, source_of  # noqa: E402

_MODEL = ("tests/lightgen/test_release.py", "tests/lightgen/test_diffusion.py", "tests/lightgen/test_masking.py")
_LAST_STEP = "tests/gpu/test_fake_cuda.py::test_the_bound_of_the_last_step_is_the_same_by_both_ways"
_LOOP = ("tests/lightgen/test_release.py", "tests/lightgen/test_sampling.py")
# What is mutated -> what must notice; the simulations of test_statistics.py take minutes, so they are no judge here.
TARGETS: dict[str, tuple[str, ...]] = {
    "lightgen/model/diffusion.py": (_MODEL[1], _MODEL[0], _LAST_STEP),
    "lightgen/model/masking.py": (_MODEL[2], "tests/lightgen/test_mar.py"),
    "lightgen/model/head.py": (*_MODEL[:2], "tests/lightgen/test_sampling.py", "tests/lightgen/test_mar.py"),
    "lightgen/model/mar.py": (_MODEL[0], "tests/lightgen/test_mar.py"),
    "lightgen/model/sampling.py": _LOOP,
    "lightgen/model/solvers.py": (*_LOOP, "tests/lightgen/test_diffusion.py"),
    "lightgen/model/trunk.py": _LOOP,
    "lightgen/preference/loss.py": ("tests/lightgen/test_preference_loss.py",),
    "geneval/rules.py": ("tests/geneval/test_rules.py",),
    "geneval/statistics.py": ("tests/geneval/test_statistics.py", "-k", "not simulated"),
    "benchmarks/quality/frechet.py": ("tests/benchmarks/test_frechet.py",),
    "benchmarks/quality/kernels.py": ("tests/benchmarks/test_kernels.py",),
}
EQUIVALENTS = Path(__file__).with_name("mutation_equivalents.txt")
_OURS = ("lightgen", "geneval", "benchmarks", "ablations", "reports", "tests", "conftest", "test_", "mutants")
_TEST_TOOLS = ("pytest", "_pytest", "hypothesis", "_hypothesis", "xdist", "pluggy", "__main__", "__mp_main__")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    os.chdir(ROOT)
    reasons, killed, tested = read_equivalents(), 0, 0
    for name in options.files or TARGETS:
        found = sample(mutants(ROOT / name), options.sample, options.seed)
        begun, rows, known = time.monotonic(), [], read_killed(options.out, name)
        known |= {mutant: reason for (file, mutant), reason in reasons.items() if file == name}
        judged = judge(name, [mutant for mutant in found if mutant.text not in known], options.limit)
        for mutant in found:
            outcome = known.get(mutant.text) or next(judged)
            rows.append({"file": name, "mutant": mutant.text, "line": mutant.line, "outcome": outcome})
            if options.out and mutant.text not in known:  # at once: a run of hours may be stopped
                with open(options.out, "a", encoding="utf-8") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
        survived = [row for row in rows if row["outcome"] == "survived"]
        dead = sum(row["outcome"] in ("killed", "timeout") for row in rows)
        killed, tested = killed + dead, tested + dead + len(survived)
        equal = len(rows) - dead - len(survived)
        took = time.monotonic() - begun
        print(f"{name}: {dead} of {dead + len(survived)} killed, {equal} equivalent, {took:.0f} s", flush=True)
        for row in survived:
            print(f"    {row['line']}: {row['mutant']}", flush=True)
    print(f"{killed} of {tested} killed ({killed / max(tested, 1):.1%})")
    return 0 if killed == tested else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", choices=[*TARGETS, []], metavar="FILE", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--sample", type=int, default=0, help="mutants of each file (0: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument(
        "--limit", type=float, default=0, help="seconds of computing for a mutant (0: five times the file's own)"
    )
    parser.add_argument(
        "--out", type=Path, help="file of outcomes, as JSON lines: what it has killed is not tried again"
    )
    return parser


def sample(found: list[Mutant], count: int, seed: int) -> list[Mutant]:
    """`count` of the mutants in the file's order; all for 0."""
    if not 0 < count < len(found):
        return found
    return [found[i] for i in sorted(random.Random(seed).sample(range(len(found)), count))]


def read_killed(outcomes: Path | None, name: str) -> dict[str, str]:
    """A file's mutants that an earlier run has killed -> how."""
    lines = outcomes.read_text(encoding="utf-8").splitlines() if outcomes and outcomes.exists() else []
    rows = [row for row in map(json.loads, lines) if row["file"] == name]
    return {row["mutant"]: row["outcome"] for row in rows if row["outcome"] in ("killed", "timeout")}


def read_equivalents() -> dict[tuple[str, str], str]:
    """(file, mutant) -> "equivalent: reason"; the file's lines are FILE | MUTANT | REASON."""
    lines = EQUIVALENTS.read_text(encoding="utf-8").splitlines() if EQUIVALENTS.exists() else []
    parts = [[part.strip() for part in line.split(" | ")] for line in lines if line and line[0] != "#"]
    return {(file, mutant): f"equivalent: {reason}" for file, mutant, reason in parts}


def judge(name: str, found: list[Mutant], limit: float) -> Iterator[str]:
    """killed, timeout or survived for each mutant; RuntimeError where the tests fail without one."""
    with tempfile.TemporaryDirectory() as scratch:
        loaded = Path(scratch) / "loaded"
        for remember in (loaded, None):  # once to learn what is loaded, and once as the mutants will run
            before = os.times()
            if (code := run_tests(name, None, Path(scratch), 600, remember)) != 0:
                said = (Path(scratch) / "output").read_text()[-3000:]
                raise RuntimeError(f"the tests of {name} fail as it is (exit code {code}):\n{said}")
            own = os.times().children_user - before.children_user
            _load(loaded.read_text().split())
        for mutant in found:
            code = run_tests(name, mutant, Path(scratch), limit or max(20.0, 5 * own))
            yield {0: "survived", None: "timeout", -signal.SIGXCPU: "timeout"}.get(code, "killed")


def _load(modules: Sequence[str]) -> None:
    """Import libraries here, once, so that no child has to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in modules:
            try:
                import_module(module)
            except Exception:
                continue
    gc.collect()
    gc.freeze()  # the children's collections, of which pytest asks for many, pass over what is here


def run_tests(name: str, mutant: Mutant | None, scratch: Path, limit: float, loaded: Path | None = None) -> int | None:
    """pytest's exit code for the file's tests in a forked process; -SIGXCPU past `limit` seconds of computing, which
    other programs beside it do not use up, or None past ten times as many of waiting."""
    child = os.fork()
    if not child:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limit), math.ceil(limit) + 9))
        output = os.open(scratch / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        code = 70
        try:
            code = _pytest(name, mutant, scratch, loaded)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    deadline = time.monotonic() + 10 * limit
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _pytest(name: str, mutant: Mutant | None, scratch: Path, loaded: Path | None) -> int:
    if mutant is not None:
        sys.meta_path.insert(0, Replacing(name, mutant))
    base = scratch / "tests"
    shutil.rmtree(base, ignore_errors=True)
    code = pytest.main(["-x", "-p", "no:cacheprovider", f"--basetemp={base}", *TARGETS[name]])
    if loaded is not None:
        ours = (*_OURS, *_TEST_TOOLS)
        loaded.write_text("\n".join(module for module in list(sys.modules) if not module.startswith(ours)))
    return int(code)


class Replacing(SourceFileLoader):
    """Finder and loader of one module, whose source is the mutant's."""

    def __init__(self, name: str, mutant: Mutant):
        super().__init__(name.removesuffix(".py").replace("/", "."), str(ROOT / name))
        self.mutant = mutant

    def find_spec(self, fullname, path=None, target=None):
        return spec_from_file_location(fullname, self.path, loader=self) if fullname == self.name else None

    def get_code(self, fullname):
        return compile(source_of(Path(self.path), self.mutant), self.path, "exec")


if __name__ == "__main__":
    sys.exit(main())
