"""JSON, read strictly: of regular files alone, bounded in bytes, depth and numbers; NaN and the infinities, which JSON
does not know, are refused, and so is half a character."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geneval.regular import regular_file

MAX_BYTES = 2**30
MAX_DEPTH = 64
SEAL = "seal"
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")
_LARGEST = 2**63
_CONTAINERS = (dict, list)


def parse_json(
    text: str, where: str, error: type[ValueError] = ValueError, advice: str = "", *, is_flat: bool = False
) -> Any:
    """One JSON document; what is none raises `error`, which says `where` it stands and then the `advice`. Depth is left
    to a caller that says `is_flat`."""
    try:
        value = _DECODER.decode(text)
        if not is_flat:
            check_depth(value)
        if _HALF_CHARACTER.search(text):
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except (ValueError, RecursionError) as reason:
        raise error(f"{where}: torn or not one JSON document ({reason}){advice and '; '}{advice}") from None


def read_object(path: Path, error: type[ValueError] = ValueError, advice: str = "") -> dict[str, Any]:
    """The JSON object that a file holds."""
    record = parse_json(read_text(path, error, advice), str(path), error, advice)
    if not isinstance(record, dict):
        raise error(f"{path}: must be a JSON object{advice and '; '}{advice}")
    if SEAL in record and record.pop(SEAL) != _digest(record):
        raise error(f"{path}: changed since it was written (its seal differs){advice and '; '}{advice}")
    return record


def sealed_text(record: Mapping[str, Any]) -> str:
    """The text of an object's file, with the hash of its content in the field `seal`, which `read_object` compares."""
    return json.dumps({**record, SEAL: _digest(as_json(record))}, indent=1) + "\n"


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def read_text(path: Path, error: type[ValueError] = ValueError, advice: str = "") -> str:
    """The UTF-8 text of a regular file of at most `MAX_BYTES`."""
    try:
        return regular_file(path, MAX_BYTES, error).read_bytes().decode()
    except UnicodeDecodeError as reason:
        raise error(f"{path}: not UTF-8 text ({reason.reason}){advice and '; '}{advice}") from None


def as_json(value: Any) -> Any:
    """A value as it comes back from a file: tuples are lists."""
    return json.loads(json.dumps(value))


def check_depth(value: Any) -> None:
    """Refuse what nests deeper than `MAX_DEPTH`."""
    level, depth = [value] if type(value) in _CONTAINERS else [], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"nests deeper than {MAX_DEPTH}")
        contents = (outer.values() if type(outer) is dict else outer for outer in level)
        level = [inner for content in contents for inner in content if type(inner) in _CONTAINERS]


def _refuse(name: str) -> None:
    raise ValueError(f"the value {name} is not JSON")


def _bounded(digits: str) -> int:
    number = int(digits) if len(digits) < 25 else _LARGEST
    if not -_LARGEST <= number < _LARGEST:
        raise ValueError(f"the number {digits[:25]}... has more than 64 bits")
    return number


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_int=_bounded)
