"""The committed record, the machine it was made on, and what counts as equal to it."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environment import arithmetic_environment as environment
from lightgen.disk.atomic import write_text
from lightgen.disk.json_files import read_json

RECORD = Path(__file__).with_name("record.json")
SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """What another machine may differ by: of the numbers from `start` to `stop`, relative to their largest."""

    name: str
    start: int = 0
    stop: int | None = None
    relative: float
    reason: str


# Rounding differs between machines and library versions, and training magnifies the difference from step to step; the
# early rows are therefore the sharp test, and the late ones only ask whether the recipe still learns.
TOLERANCES = (
    Tolerance(name="fixed_weights", relative=1e-3, reason="sampling at fixed weights"),
    Tolerance(name="loss", stop=4, relative=1e-3, reason="steps 1 to 20"),
    Tolerance(name="mse", stop=4, relative=1e-3, reason="steps 1 to 20"),
    Tolerance(name="grad_norm", stop=4, relative=5e-3, reason="steps 1 to 20"),
    Tolerance(name="loss", start=4, stop=20, relative=0.1, reason="steps 21 to 100"),
    Tolerance(name="mse", start=20, relative=0.2, reason="steps after 100"),
    Tolerance(name="mean_color", relative=0.1, reason="mean color of the samples' cells"),
    Tolerance(name="fid", relative=0.5, reason="FID of cell colors"),
    Tolerance(name="geneval", relative=0.25, reason="GenEval scores"),
)


def load(path: Path = RECORD) -> dict[str, Any]:
    try:
        record = read_json(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"no record at {path}; `python -m benchmarks regression --record` makes one") from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); restore the committed file") from None
    if record.get("schema") != SCHEMA:
        raise ValueError(f"{path} has schema {record.get('schema')}, this version reads {SCHEMA}; record it again")
    return record


def save(numbers: dict[str, Any], path: Path = RECORD) -> None:
    text = json.dumps({"schema": SCHEMA, "environment": environment(), "numbers": numbers}, indent=1) + "\n"
    write_text(path, _one_line_lists(text))


def differences(record: dict[str, Any], numbers: dict[str, Any], here: dict[str, Any] | None = None) -> list[str]:
    """One line for each thing that differs; exact where the environment is the record's, else within TOLERANCES.

    A run that stopped early is compared as far as it went.
    """
    recorded = record["numbers"]
    if (here or environment()) == record["environment"]:
        return [line for name in numbers if (line := _inexact(name, recorded[name], numbers[name]))]
    return [line for rule in TOLERANCES if rule.name in numbers and (line := _outside(rule, recorded, numbers))]


def _inexact(name: str, recorded: Any, found: Any) -> str | None:
    if isinstance(recorded, list):
        recorded = recorded[: len(found)]
    if recorded == found:
        return None
    if isinstance(recorded, list):
        first = next((index for index, pair in enumerate(zip(recorded, found)) if pair[0] != pair[1]), len(recorded))
        return f"{name}: differs from entry {first} of {len(recorded)} on (exact comparison)"
    return f"{name}: {found}, recorded {recorded} (exact comparison)"


def _outside(rule: Tolerance, recorded: dict[str, Any], numbers: dict[str, Any]) -> str | None:
    expected, found = (_array(values[rule.name])[rule.start : rule.stop] for values in (recorded, numbers))
    expected = expected[: len(found)]
    if not len(expected):
        return None
    error = float(np.abs(found - expected).max() / np.abs(expected).max())
    if error <= rule.relative:
        return None
    return f"{rule.name}: {error:.2%} off the record, {rule.relative:.2%} allowed ({rule.reason})"


def _array(value: Any) -> np.ndarray:
    return np.atleast_1d(list(value.values()) if isinstance(value, dict) else value).astype(np.float64)


def _one_line_lists(text: str) -> str:
    """The same JSON with every list of numbers on a line of its own."""
    return re.sub(r"\[\s*([^\[\]{}]*?)\s*\]", lambda match: "[" + re.sub(r"\s+", " ", match[1]) + "]", text)
