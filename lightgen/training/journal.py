"""The rows that a run logs: metrics.jsonl, read and appended so that a kill at any moment leaves whole rows."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightgen.disk.atomic import write_text
from lightgen.disk.json_files import MAX_BYTES, parse_json, typed
from lightgen.disk.regular import regular_file

_ADVICE = "remove the folder of the run to train again"


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
    """The whole rows of a journal; a kill tears its last line alone, so any other that is none is an error."""
    if not Path(path).is_file():
        return []
    *lines, _ = regular_file(path, MAX_BYTES).read_text(encoding="utf-8", errors="replace").split("\n")
    return [
        typed(parse_json(line, f"{path}, line {number}", _ADVICE), f"{path}, line {number}", step=int)
        for number, line in enumerate(lines, 1)
    ]
