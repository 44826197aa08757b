"""One prompt an image: those of the images' own folder or shards, or of a captions file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality.images import ImageEntry
from lightgen.disk.json_files import read_json_lines, read_text, typed


def prompts_of(source: Path, entries: Sequence[ImageEntry], captions: Path | None = None) -> dict[str, str]:
    """{id: prompt} of every entry, from the captions file or from the images' own folder or shard."""
    if captions:
        return dict(zip((entry.id for entry in entries), read_captions(captions, entries)))
    prompts = {entry.id: entry.prompt for entry in entries if entry.prompt is not None}
    bare = [entry.id for entry in entries if entry.prompt is None]
    if bare:
        raise ValueError(f"{len(bare)} images of {source} have no prompt, first {bare[0]}; give --captions FILE")
    return prompts


def read_captions(path: Path, entries: Sequence[ImageEntry]) -> list[str]:
    """One prompt an image: a .jsonl of {"file", "prompt"} matched by id, or a text file with a line an image."""
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    if Path(path).suffix != ".jsonl":
        if len(lines) != len(entries):
            raise ValueError(f"{path} has {len(lines)} captions for {len(entries)} images; it must have one a line")
        return lines
    prompts = dict(_caption_row(path, number, row) for number, row in read_json_lines(path))
    missing = [entry.id for entry in entries if entry.id not in prompts]
    if missing:
        raise ValueError(f"{path} has no caption for {len(missing)} of {len(entries)} images, first {missing[0]!r}")
    return [prompts[entry.id] for entry in entries]


def _caption_row(path: Path, number: int, row: Any) -> tuple[str, str]:
    row = typed(row, f"{path}, line {number}", file=str, prompt=str)
    return row["file"], row["prompt"]
