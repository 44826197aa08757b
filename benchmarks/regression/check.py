"""Run the recipe and compare it with the committed record."""

import json
import tempfile
import time
from pathlib import Path

from benchmarks.regression import record


def check(*, write: bool = False, out: Path | None = None, as_json: bool = False) -> int:
    """0 where the numbers agree with the record (or were recorded), 1 where they do not; prints which."""
    from benchmarks.regression.recipe import run

    if out is not None and out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty; the check starts from nothing, so give a new folder")
    begun = time.monotonic()
    committed = None if write else record.load()
    with tempfile.TemporaryDirectory() as scratch:
        numbers = run(Path(out or scratch))
    seconds = time.monotonic() - begun
    if committed is None:
        record.save(numbers)
        lines = [f"recorded in {record.RECORD} after {seconds:.0f} s: {_summary(numbers)}"]
        found: list[str] = []
    else:
        here = record.environment()
        changed = [name for name in here if here[name] != committed["environment"].get(name)]
        kind = f"within tolerances ({', '.join(changed)} differ from the record's)" if changed else "exactly"
        found = record.differences(committed, numbers, here)
        verdict = "differs" if found else "agrees"
        lines = [*found, f"{verdict}, compared {kind}, {seconds:.0f} s: {_summary(numbers)}"]
    print(json.dumps({"differences": found, "numbers": numbers}, indent=1) if as_json else "\n".join(lines))
    return 1 if found else 0


def _summary(numbers: dict) -> str:
    score = numbers["geneval"]["overall"]
    return f"loss {numbers['loss'][-1]:.4f}, GenEval {score:.3f}, FID of cell colors {numbers['fid']:.4f}"
