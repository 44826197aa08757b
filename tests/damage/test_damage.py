"""Damaged inputs of every kind, and one rule: not exit 0 and a line that names the file, or the undamaged numbers."""

import contextlib
import io
import os
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.damage import commands, formats
from tests.damage.damages import damage, damages, numbers, places

GIGABYTE = 2**30
HEAVY_SHARE = 32  # one in so many cases is of a command that loads networks
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@dataclass(frozen=True)
class Case:
    format: formats.Format
    file: str
    how: str
    place: float
    number: int

    def __str__(self) -> str:
        return f"{self.format.name}: {self.file}: {self.how} (at {self.place:.4f}, {self.number})"


@pytest.fixture(scope="module")
def scratch():
    folder = Path(tempfile.mkdtemp(prefix="damage-", dir=MEMORY))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def known(scratch):
    """The formats, and what each command gives on undamaged files; twice the same."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        found = formats.build(scratch / "undamaged")
    commands.PARTS[:] = [scratch / "undamaged/tiny"]
    right = {}
    for one in found:
        first, second = (outcome(one, scratch, None) for _ in range(2))
        assert first == second, one.name
        assert not first[0].traceback, f"{one.name}\n{first[0].traceback}"
        assert first[0].code == (1 if one.name.startswith("reports") and one.name != "reports difference" else 0), (
            one.name,
            first,
        )
        right[one.name] = first
    return found, right


def outcome(one: formats.Format, scratch: Path, case: Case | None):
    """What the command gives, with its output files' bytes; `case` is done to a copy of the files first."""
    root, out = scratch / "case/in", scratch / "case/out"
    shutil.rmtree(scratch / "case", ignore_errors=True)
    shutil.copytree(one.folder, root, copy_function=shutil.copyfile)
    out.mkdir(parents=True)
    if case is not None:
        damage(root / case.file, case.how, case.place, case.number)
    argv = [word.replace("ROOT", str(root)).replace("OUT", str(out)) for word in one.argv.split()]
    found = commands.run(one.program, argv)
    made = {}
    for glob in one.outputs:
        for path in sorted(out.glob(glob)):
            made[path.relative_to(out).as_posix()] = path.read_bytes().replace(str(root).encode(), b"ROOT")
    if one.name == "resume":
        made = {path.name: path.read_bytes() for path in sorted(root.glob("run/model/*.safetensors"))}
    return found, made


def verdict(case: Case, scratch: Path, right) -> str:
    """What is wrong with how the command takes the damage; "" for nothing."""
    before = commands.peak_bytes()
    found, made = outcome(case.format, scratch, case)
    if found.traceback:
        return found.traceback.strip().rpartition("\n")[2] + "\n" + found.traceback
    if commands.peak_bytes() > max(before, 2 * GIGABYTE):
        return f"{commands.peak_bytes() / GIGABYTE:.1f} GB"
    expected, numbers_made = right[case.format.name]
    if found.code == expected.code and found.out == expected.out and made == numbers_made:
        return ""
    said = found.err + found.out
    if found.code == 0:
        is_other_input = case.format.is_given(case.file) or (case.how == "gone" and case.format.is_optional(case.file))
        return "" if is_other_input else f"WRONG: exit 0 and other numbers\n{found.out}{found.err}"
    names = (Path(case.file).name, Path(case.file).parent.name, Path(case.file).name.removesuffix(".gz"))
    # Two of a user's own files may not belong together: the line then says what one asks of the other.
    if not case.format.is_given(case.file) and not any(name and name in said for name in names):
        return f"UNNAMED: {found.code} {said[:500]}"
    return "Traceback printed" if "Traceback" in said else ""


def test_every_damaged_input_is_refused_or_changes_nothing(request, scratch, known):
    found, right = known
    light = [one for one in found if not one.heavy]
    heavy = [one for one in found if one.heavy]
    problems: list[tuple[Case, str]] = []
    tried: Counter[str] = Counter()
    seconds: Counter[str] = Counter()

    @st.composite
    def cases(draw) -> Case:
        is_heavy = draw(st.integers(0, HEAVY_SHARE - 1)) == 0
        one = draw(st.sampled_from(heavy if is_heavy else light))
        file = draw(st.sampled_from(one.files))
        return Case(one, file, draw(st.sampled_from(damages(file))), draw(places), draw(numbers))

    count = request.config.getoption("--cases", default=300)

    @seed(18)
    @settings(
        max_examples=count, phases=[Phase.generate], deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(cases())
    def try_one(case):
        began = time.process_time()
        wrong = verdict(case, scratch, right)
        tried[case.format.name] += 1
        seconds[case.format.name] += time.process_time() - began
        if wrong:
            problems.append((case, wrong))

    try_one()
    print(f"\n{sum(tried.values())} damaged inputs: {dict(tried)}")
    print({name: round(value, 1) for name, value in seconds.items()}, f"{commands.peak_bytes() / GIGABYTE:.2f} GB")
    kinds = Counter((case.format.name, wrong.partition("\n")[0][:90]) for case, wrong in problems)
    listed = [f"{number} x {kind}" for kind, number in kinds.most_common(60)]
    report = os.environ.get("DAMAGE_REPORT")
    if report:
        Path(report).write_text("\n".join(listed) + "\n\n" + "\n\n".join(f"{c}\n{w}" for c, w in problems))
    assert not problems, "\n".join([*listed, "", f"the first: {problems[0][0]}", problems[0][1][-3000:]])
