"""JSON and JSON Lines files: written whole, read strictly, the file and the line in every error.

Refused: what is no regular file, is larger than `MAX_BYTES`, nests deeper than `MAX_DEPTH`, holds NaN, an infinity, a
whole number beyond 64 bits or half a character, and a torn line. A file whose name ends in `.gz` is read compressed. A
document that was written with a seal is refused where anything in it changed since.
"""

import gzip
import hashlib
import io
import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightgen.disk.atomic import atomic_file
from lightgen.disk.regular import regular_file

MAX_BYTES = 2**30
MAX_UNPACKED = 2**28  # of a compressed file, which is a packed record's
MAX_DEPTH = 64
SEAL = "seal"
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")
_LARGEST = 2**63
_CONTAINERS = (dict, list)


def write_json(path: Path, value: Any) -> None:
    """Write one JSON document atomically."""
    with atomic_file(path) as file:
        file.write((json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write one JSON object atomically, with the hash of its content in the field `seal`."""
    write_json(path, {**value, SEAL: _seal(value)})


def read_json(path: Path) -> Any:
    """The JSON document at `path`, without its seal; a torn, missing or changed one is named in the error."""
    value = parse_json(_text(path), str(path), "remove it and run its stage again")
    if isinstance(value, dict) and SEAL in value:
        seal = value.pop(SEAL)
        if seal != _seal(value):
            raise ValueError(f"{path} was changed since it was written (its seal differs); run its stage again")
    return value


def read_object(path: Path, **fields: type | tuple[type, ...]) -> dict[str, Any]:
    """The JSON object at `path`, in which each of `fields` has its type."""
    return typed(read_json(path), str(path), **fields)


def typed(value: Any, where: str, **fields: type | tuple[type, ...]) -> dict[str, Any]:
    """`value` if it is an object in which each of `fields` has its type; no bool passes for a number."""
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected an object, found {type(value).__name__}")
    for name, kind in fields.items():
        if name not in value:
            raise ValueError(f"{where}: lacks {name}")
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value[name], kinds) or (isinstance(value[name], bool) and bool not in kinds):
            expected = " or ".join(one.__name__ for one in kinds)
            raise ValueError(f"{where}: {name}: expected {expected}, found {type(value[name]).__name__}")
    return value


def read_json_lines(path: Path) -> list[tuple[int, Any]]:
    """(line number from 1, value) of every line that is not blank; a line that is no JSON is named in the error."""
    # Not splitlines(): it also breaks at characters that a JSON string may hold.
    return [
        (number, parse_json(line, f"{path}, line {number}", "repair or remove the line"))
        for number, line in enumerate(_text(path).split("\n"), start=1)
        if line.strip()
    ]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file; a line that holds anything else is named in the error."""
    rows = read_json_lines(path)
    for number, row in rows:
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: expected an object, found {type(row).__name__}")
    return [row for _, row in rows]


def read_text(path: Path) -> str:
    """The UTF-8 text of a regular file of at most `MAX_BYTES`."""
    return _text(path)


def content_sha256(path: Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes, unpacked where it is compressed."""
    data = regular_file(path, MAX_BYTES).read_bytes()
    return hashlib.sha256(_unpacked(data, Path(path)) if Path(path).suffix == ".gz" else data).hexdigest()


def parse_json(text: str | bytes, where: str, advice: str = "make it again") -> Any:
    """One JSON document, bounded as the module says; `where` it stands and the `advice` are in the error."""
    try:
        text = text.decode() if isinstance(text, bytes) else text
        value = _DECODER.decode(text)
        _check_depth(value)
        if _HALF_CHARACTER.search(text):
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeError as error:
        raise ValueError(f"{where}: torn or not UTF-8 text ({error}); {advice}") from None
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", error)
        raise ValueError(f"{where}: torn or no JSON that is read here ({reason}); {advice}") from None


def _seal(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _text(path: Path) -> str:
    path = Path(path)
    try:
        data = regular_file(path, MAX_BYTES).read_bytes()
        return (_unpacked(data, path) if path.suffix == ".gz" else data).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is torn or not UTF-8 text ({error})") from None


def _unpacked(data: bytes, path: Path) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            text = file.read(MAX_UNPACKED + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is torn or not compressed ({error}); make it again") from None
    if len(text) > MAX_UNPACKED:
        raise ValueError(f"{path} unpacks to more than {MAX_UNPACKED:,} bytes; make it again")
    return text


def _check_depth(value: Any) -> None:
    level, depth = [value] if type(value) in _CONTAINERS else [], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"nests deeper than {MAX_DEPTH}")
        contents = (outer.values() if type(outer) is dict else outer for outer in level)
        level = [inner for content in contents for inner in content if type(inner) in _CONTAINERS]


def _refused(constant: str) -> float:
    raise ValueError(f"holds {constant}; write null and a reason instead")


def _finite(digits: str) -> float:
    number = float(digits)
    return number if abs(number) != float("inf") else _refused(digits)


def _bounded(digits: str) -> int:
    number = int(digits) if len(digits) < 25 else _LARGEST
    if not -_LARGEST <= number < _LARGEST:
        raise ValueError(f"the number {digits[:25]}{'...' if len(digits) > 25 else ''} has more than 64 bits")
    return number


_DECODER = json.JSONDecoder(parse_constant=_refused, parse_float=_finite, parse_int=_bounded)
