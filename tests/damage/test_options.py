"""Numbers on the command line that no one means: refused in one line, or harmless; never a traceback or a hang."""

import contextlib
import io
import re

import pytest

from tests.damage import commands, formats
from tests.damage.test_damage import GIGABYTE, outcome, scratch  # noqa: F401

MANY, HUGE = str(10**18), "1e300"
VALUES = {"INT": ("0", "-1", MANY), "FLOAT": ("0", "-1", "nan", HUGE)}
OPTION = re.compile(r"(--[a-z0-9.-]+)[^\n]*?\s\[?(?:\{None\}\|)?(INT|FLOAT)\b")
WORDS = {"geneval": 1, "reports": 1, "lightgen": 1, "benchmarks": 2}  # that name a verb
COUNTS = ("--copies", "--workers")  # so many are made as are asked for
# What some of these numbers mean something for: a seed may be any integer, 0 is no guidance or the preset's length.
FREE = {"--seed", "--room", "--smallest", "--narrow", "--held-out", "--max-rejected", "--guidance", "--max-length"}


def verb_of(one):
    words = one.argv.split()
    return words[: WORDS[one.program] + (words[0] == "pairs")]


@pytest.fixture(scope="module")
def verbs(scratch):  # noqa: F811
    """One undamaged command for each verb that a person types, with its numeric options."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        found = [one for one in formats.build(scratch / "undamaged") if one.program in WORDS]
    commands.PARTS[:] = [scratch / "undamaged/tiny"]
    first = {(one.program, *verb_of(one)): one for one in reversed(found)}
    shown = {verb: commands.run(verb[0], [*verb[1:], "--help"]).out for verb in first}
    return {verb: (one, dict(OPTION.findall(shown[verb]))) for verb, one in first.items()}


def test_strange_numbers_are_refused_in_a_line_or_change_nothing(scratch, verbs):  # noqa: F811
    tried, problems = 0, []
    for verb, (one, options) in verbs.items():
        for option, kind in options.items():
            for value in VALUES[kind]:
                if option in COUNTS and value == MANY:
                    continue
                tried += 1
                may_pass = value in (MANY, HUGE) or (option in FREE and value != "nan")
                if problem := _problem(one, [option, value], scratch, may_pass=may_pass):
                    problems.append(f"{' '.join(verb)} {option} {value}: {problem}")
    assert tried > 80 and not problems, "\n".join(problems)


def _problem(one, more, scratch, *, may_pass):  # noqa: F811
    before = commands.peak_bytes()
    found, _ = outcome(one, scratch, None, more)
    said = (found.err + found.out).strip()
    if found.traceback or "Traceback" in said:
        return found.traceback or said
    if commands.peak_bytes() > max(before, 2 * GIGABYTE):
        return f"{commands.peak_bytes() / GIGABYTE:.1f} GB"
    if found.code == 0:
        return "" if may_pass else f"exit 0: {said[-200:]}"
    is_told = any("error" in line.lower() or "╭" in line for line in said.splitlines())
    return "" if is_told else f"no error: {said[-200:]}"
