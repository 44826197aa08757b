"""Caption sources: a text file with one caption a line, JSON lines with a "prompt", or a JSON list."""

from pathlib import Path
from typing import Any

from lightgen.disk.json_files import read_json, read_json_lines, read_text

# Far above any text encoder's window; a caption of this length is a broken file, not a caption.
MAX_CHARACTERS = 20_000


def read_captions(path: Path) -> list[str]:
    """The captions of a `.txt`, `.jsonl` or `.json` file, in order, stripped; blank lines of a text file are skipped.

    Long captions are kept whole: the text encoder cuts them to its window and counts what it cut.
    """
    path = Path(path)
    readers = {".txt": _text, ".jsonl": _json_lines, ".json": _json}
    if path.suffix not in readers:
        raise ValueError(f"{path}: captions come in {', '.join(readers)} files")
    captions = [_checked(path, place, value) for place, value in readers[path.suffix](path)]
    if not captions:
        raise ValueError(f"{path}: holds no captions")
    return captions


def _text(path: Path) -> list[tuple[str, Any]]:
    lines = read_text(path).split("\n")
    return [(f"line {number}", line) for number, line in enumerate(lines, start=1) if line.strip()]


def _json_lines(path: Path) -> list[tuple[str, Any]]:
    return [(f"line {number}", value) for number, value in read_json_lines(path)]


def _json(path: Path) -> list[tuple[str, Any]]:
    values = read_json(path)
    if not isinstance(values, list):
        raise ValueError(f"{path}: expected a JSON list of captions")
    return [(f"item {number}", value) for number, value in enumerate(values)]


def _checked(path: Path, place: str, value: Any) -> str:
    caption = value.get("prompt") if isinstance(value, dict) else value
    if not isinstance(caption, str):
        raise ValueError(f'{path}, {place}: expected a text or an object with a text field "prompt"')
    caption = caption.strip()
    if not caption:
        raise ValueError(f"{path}, {place}: the caption is empty; remove it")
    if len(caption) > MAX_CHARACTERS:
        raise ValueError(f"{path}, {place}: a caption of {len(caption):,} characters; the limit is {MAX_CHARACTERS:,}")
    return caption
