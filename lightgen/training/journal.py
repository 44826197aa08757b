"""The rows that a run logs: metrics.jsonl, read and appended so that a kill at any moment leaves whole rows."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightgen.disk.atomic import write_text


class Journal:
    """`metrics.jsonl`: one JSON object a line, appended; opening it drops a torn tail and rows past `last_step`."""

    def __init__(self, path: Path, last_step: int):
        rows = read_journal(path)
        kept = [row for row in rows if row["step"] <= last_step]
        text = "".join(json.dumps(row) + "\n" for row in kept)
        if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
            write_text(path, text)
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed by close()

    def write(self, row: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(row, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The whole rows of a journal; reading ends at the first torn line."""
    rows: list[dict[str, Any]] = []
    if not Path(path).is_file():
        return rows
    for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        if not isinstance(row, dict) or "step" not in row:
            break
        rows.append(row)
    return rows
