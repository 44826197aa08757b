"""Damaged inputs of every kind, and one rule: not exit 0 and a line that names the file, or the undamaged numbers."""

import contextlib
import io
import os
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.damage import commands, formats
from tests.damage.damages import MODULE, damage, damages, numbers, places
from tests.damage.format import Format

GIGABYTE = 2**30
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
REFUSED, SAME, OTHER = "refused", "same numbers", "other input"
ALLOWED = (REFUSED, SAME, OTHER)
WRONG, TRACEBACK, HANG, LARGE, CODE, UNNAMED = "wrong numbers", "traceback", "hang", "memory", "code", "unnamed"


@dataclass(frozen=True)
class Case:
    format: Format
    file: str
    how: str
    place: float
    number: int

    def __str__(self) -> str:
        return f"{self.format.name}: {self.file}: {self.how} (at {self.place:.4f}, {self.number})"


@pytest.fixture(scope="module")
def scratch():
    folder = Path(tempfile.mkdtemp(prefix="damage-", dir=MEMORY))
    (folder / "code").mkdir()
    (folder / "code" / f"{MODULE}.py").write_text("class X: pass\n")  # who imports it runs code that data names
    sys.path.insert(0, str(folder / "code"))
    yield folder
    sys.path.remove(str(folder / "code"))
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def known(scratch, request):
    """The formats, and what each command gives on undamaged files; twice the same."""
    wanted = request.config.getoption("--formats", default=[])
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        found = [one for one in formats.build(scratch / "undamaged") if not wanted or one.name in wanted]
    commands.PARTS[:] = [scratch / "undamaged/tiny"]
    right = {}
    for one in found:
        first, second = (outcome(one, scratch, None) for _ in range(2))
        assert first == second, one.name
        assert not first[0].traceback, f"{one.name}\n{first[0].traceback}"
        assert first[0].code == one.code, (one.name, first)
        right[one.name] = first
    return found, right


def outcome(one: Format, scratch: Path, case: Case | None, more: Sequence[str] = ()):
    """What the command gives, with its output files' bytes; `case` is done to a copy of the files first. `more` are
    options beside its own."""
    root, out = scratch / "case/in", scratch / "case/out"
    shutil.rmtree(scratch / "case", ignore_errors=True)
    shutil.copytree(one.folder, root, copy_function=shutil.copyfile)
    out.mkdir(parents=True)
    if case is not None:
        damage(root / case.file, case.how, case.place, case.number)
    argv = [word.replace("ROOT", str(root)).replace("OUT", str(out)) for word in [*one.argv.split(), *more]]
    found = commands.run(one.program, argv)
    made = {}
    for place, globs in ((out, one.outputs), (root, one.written)):
        for path in sorted(path for glob in globs for path in place.glob(glob)):
            made[path.relative_to(place).as_posix()] = path.read_bytes().replace(str(root).encode(), b"ROOT")
    return found, made


def verdict(case: Case, scratch: Path, right) -> tuple[str, str]:
    """How the command takes the damage, and what tells more where it is not allowed."""
    before = commands.peak_bytes()
    found, made = outcome(case.format, scratch, case)
    if sys.modules.pop(MODULE, None):
        return CODE, found.err
    if found.traceback:
        last = found.traceback.strip().rpartition("\n")[2]
        return HANG if found.traceback.startswith("HANGS") else TRACEBACK, f"{last}\n{found.traceback}"
    if commands.peak_bytes() > max(before, 2 * GIGABYTE):
        return LARGE, f"{commands.peak_bytes() / GIGABYTE:.1f} GB"
    expected, numbers_made = right[case.format.name]
    if found.code == expected.code and found.out == expected.out and made == numbers_made:
        return SAME, ""
    said = found.err + found.out
    if "Traceback" in said:
        return TRACEBACK, said[:3000]
    if found.code == 0:
        is_other = case.format.is_given(case.file) or (case.how == "gone" and case.format.is_optional(case.file))
        return (OTHER, "") if is_other else (WRONG, f"exit 0\n{found.out}{found.err}")
    names = (Path(case.file).name, Path(case.file).parent.name, Path(case.file).name.removesuffix(".gz"))
    # Two of a user's own files may not belong together: the line then says what one asks of the other.
    if not case.format.is_given(case.file) and not any(name and name in said for name in names):
        return UNNAMED, f"{found.code} {said[:500]}"
    return REFUSED, ""


def test_every_damaged_input_is_refused_or_changes_nothing(request, scratch, known):
    found, right = known
    problems: list[tuple[Case, str, str]] = []
    tried: dict[str, Counter[str]] = defaultdict(Counter)
    seconds: Counter[str] = Counter()
    report = os.environ.get("DAMAGE_REPORT")

    # Hypothesis draws small values and what it drew before again and again: its own choice of commands was no even one.
    @st.composite
    def cases(draw) -> Case:
        even = draw(st.randoms(use_true_random=True))
        one = even.choice(found)
        file = even.choice(one.files)
        return Case(one, file, even.choice(damages(file, one.special)), draw(places), draw(numbers))

    @seed(request.config.getoption("--damage-seed", default=18))
    @settings(
        max_examples=request.config.getoption("--cases", default=300), phases=[Phase.generate], deadline=None,
        database=None, suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(cases())
    def try_one(case):
        began = time.process_time()
        kind, more = verdict(case, scratch, right)
        tried[case.format.name][kind] += 1
        seconds[case.format.name] += time.process_time() - began
        if kind not in ALLOWED:
            problems.append((case, kind, more))
            if report:
                with open(report, "a") as file:
                    file.write(f"{kind}: {case}\n{more}\n\n")

    try_one()
    total = sum(tried.values(), Counter())
    print(f"\n{total.total()} damaged inputs: {dict(total)}; {commands.peak_bytes() / GIGABYTE:.2f} GB at most")
    for name, counts in sorted(tried.items()):
        print(f"{name:20} {counts.total():5} {seconds[name]:7.1f} s  {dict(counts)}")
    kinds = Counter((case.format.name, kind, more.partition("\n")[0][:90]) for case, kind, more in problems)
    listed = [f"{number} x {kind}" for kind, number in kinds.most_common(60)]
    assert not problems, "\n".join([*listed, "", f"the first: {problems[0][0]}", problems[0][2][-3000:]])
