"""training.json: what a run is known by, and its result once it has one."""

from pathlib import Path
from typing import Any

from lightgen.disk.json_files import read_object, write_sealed


def write_record(out: Path, settings: dict[str, Any], result: dict[str, Any] | None = None) -> None:
    """Write OUT/training.json: the settings that decide a run's result, and the result."""
    write_sealed(out / "training.json", {**settings, "result": result})


def finished_result(out: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The result of a finished run of these settings; a folder of other settings is refused."""
    path = out / "training.json"
    if not path.is_file():
        return None
    record = read_object(path)
    result = record.pop("result", None)
    if record != settings:
        changed = [name for name in {**settings, **record} if record.get(name) != settings.get(name)]
        raise ValueError(f"{out} belongs to a run of other settings ({', '.join(changed)}); choose another folder")
    return result
