"""One prompt an image: those of the images' own folder or shards, or of a captions file."""

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.quality.images import ImageEntry


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
    lines = [line for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    if Path(path).suffix != ".jsonl":
        if len(lines) != len(entries):
            raise ValueError(f"{path} has {len(lines)} captions for {len(entries)} images; it must have one a line")
        return lines
    prompts = dict(_caption_row(path, number, line) for number, line in enumerate(lines, 1))
    missing = [entry.id for entry in entries if entry.id not in prompts]
    if missing:
        raise ValueError(f"{path} has no caption for {len(missing)} of {len(entries)} images, first {missing[0]!r}")
    return [prompts[entry.id] for entry in entries]


def _caption_row(path: Path, number: int, line: str) -> tuple[str, str]:
    try:
        row = json.loads(line)
        return row["file"], row["prompt"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f'{path} line {number}: expected {{"file": ..., "prompt": ...}} ({error})') from error
