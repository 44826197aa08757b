"""JSON and JSON Lines files: written whole, read strictly (no NaN, no torn line, the file and the line in every error).

A file whose name ends in `.gz` is read compressed.
"""

import gzip
import json
import zlib
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
        return _parsed(_text(path), str(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is torn or no JSON document ({error}); remove it and run its stage again") from None


def read_json_lines(path: Path) -> list[tuple[int, Any]]:
    """(line number from 1, value) of every line that is not blank; a line that is no JSON is named in the error."""
    rows = []
    # Not splitlines(): it also breaks at characters that a JSON string may hold.
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            try:
                rows.append((number, _parsed(line, f"{path}, line {number}")))
            except (json.JSONDecodeError, RecursionError) as error:
                reason = getattr(error, "msg", error)
                raise ValueError(
                    f"{path}, line {number}: torn or no JSON ({reason}); repair or remove the line"
                ) from None
    return rows


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file; a line that holds anything else is named in the error."""
    rows = read_json_lines(path)
    for number, row in rows:
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: expected an object, found {type(row).__name__}")
    return [row for _, row in rows]


def _text(path: Path) -> str:
    path = Path(path)
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is torn or not UTF-8 text ({error})") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is torn or not compressed ({error}); make it again") from None


def _parsed(text: str, where: str) -> Any:
    def refused(constant: str) -> float:
        raise ValueError(f"{where} holds {constant}; write null and a reason instead")

    def finite(digits: str) -> float:
        number = float(digits)
        return number if abs(number) != float("inf") else refused(digits)

    return json.loads(text, parse_constant=refused, parse_float=finite)
