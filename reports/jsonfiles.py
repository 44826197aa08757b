"""JSON and JSON Lines files, strictly read: no NaN, no torn line, the file and the line in every error."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class RecordError(ValueError):
    """A file of the study folder that cannot be trusted: which file, which field, what is wrong."""


def read_json(path: Path) -> Any:
    """The JSON document at `path`, NaN and infinity refused."""
    return _parse(_text(path), str(path))


def read_lines(path: Path) -> list[dict]:
    """The objects of a JSON Lines file; a torn or foreign line is an error with its number."""
    return list(lines(path))


def lines(path: Path) -> Iterator[dict]:
    """`read_lines`, one at a time."""
    for number, line in enumerate(_text(path).splitlines(), 1):
        if line.strip():
            row = _parse(line, f"{path}:{number}")
            if not isinstance(row, dict):
                raise RecordError(f"{path}:{number}: expected an object, found {type(row).__name__}")
            yield row


def _text(path: Path) -> str:
    try:
        if Path(path).suffix == ".gz":
            return gzip.decompress(Path(path).read_bytes()).decode("utf-8")
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecordError(f"{path}: not found") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: cannot be read: {error}") from None


def _parse(text: str, where: str) -> Any:
    def refuse(constant: str) -> float:
        raise RecordError(f"{where}: holds {constant}; write null and a reason instead")

    def finite(digits: str) -> float:
        number = float(digits)
        return number if abs(number) != float("inf") else refuse(digits)

    try:
        return json.loads(text, parse_constant=refuse, parse_float=finite)
    except (json.JSONDecodeError, RecursionError) as error:
        raise RecordError(f"{where}: is not valid JSON ({error})") from None
