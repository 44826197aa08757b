"""JSON and JSON Lines files: written whole, read strictly."""

import json
from pathlib import Path
from typing import Any

from lightgen.disk.atomic import atomic_file


def write_json(path: Path, value: Any) -> None:
    """Write one JSON document atomically."""
    with atomic_file(path) as file:
        file.write((json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The JSON document at `path`; a torn or missing one is named in the error."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is torn or no JSON document ({error}); remove it and run its stage again") from None


def read_json_lines(path: Path) -> list[tuple[int, Any]]:
    """(line number from 1, value) of every line that is not blank; a line that is no JSON is named in the error."""
    rows = []
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error})") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            rows.append((number, json.loads(line)))
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}, line {number}: torn or no JSON ({error.msg}); repair or remove the line"
            ) from None
    return rows
