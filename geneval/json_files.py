"""JSON, read strictly: NaN and the infinities, which JSON does not know, are refused."""

import json
from pathlib import Path
from typing import Any


def parse_json(text: str, where: str, error: type[ValueError] = ValueError, advice: str = "") -> Any:
    """One JSON document; what is none raises `error`, which says `where` it stands and then the `advice`."""
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as reason:
        raise error(f"{where}: torn or not one JSON document ({reason}){advice and '; '}{advice}") from None


def read_object(path: Path, error: type[ValueError] = ValueError, advice: str = "") -> dict[str, Any]:
    """The JSON object that a file holds."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as reason:
        raise error(f"{path}: not UTF-8 text ({reason.reason}){advice and '; '}{advice}") from None
    record = parse_json(text, str(path), error, advice)
    if not isinstance(record, dict):
        raise error(f"{path}: must be a JSON object{advice and '; '}{advice}")
    return record


def as_json(value: Any) -> Any:
    """A value as it comes back from a file: tuples are lists."""
    return json.loads(json.dumps(value))


def _refuse(name: str) -> None:
    raise ValueError(f"the value {name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)
