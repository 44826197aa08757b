"""The original's folder of images: INDEX/metadata.jsonl and INDEX/samples/COPY.png, read with its leniencies."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geneval.atomic import write_text
from geneval.json_files import parse_json, read_text
from geneval.prompts import MetadataError, Prompt

_SAMPLE = re.compile(r"\d+\.png")  # a prefix match, as the original's: `00006.png.bak` is a sample


@dataclass(frozen=True)
class PromptFolder:
    """One numbered folder as it lies on disk."""

    name: str
    metadata: dict[str, Any]
    samples: tuple[str, ...]  # paths relative to the root, sorted


def write_prompt_folder(root: Path, index: int, prompt: Prompt) -> Path:
    """Make ROOT/INDEX with its metadata and an empty `samples/`; refuse a folder that belongs to another prompt."""
    folder = root / f"{index:05}"
    metadata = folder / "metadata.jsonl"
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    if metadata.exists():
        if read_metadata(metadata) != json.loads(prompt.line()):
            raise ValueError(f"{metadata}: belongs to another prompt than {prompt.prompt!r}; use an empty folder")
        return folder
    write_text(metadata, prompt.line())
    return folder


def sample_path(root: Path, index: int, copy: int) -> Path:
    """ROOT/INDEX/samples/COPY.png."""
    return root / f"{index:05}" / "samples" / f"{copy:05}.png"


def read_layout(root: Path) -> tuple[list[PromptFolder], list[str]]:
    """Every folder with a number for a name, sorted by name, and one sentence for each that cannot be used."""
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder of images; it must hold 00000/metadata.jsonl, 00000/samples/")
    folders, problems = [], []
    for name in sorted(os.listdir(root)):
        folder = root / name
        if name.isdigit() and folder.is_dir():
            try:
                metadata = read_metadata(folder / "metadata.jsonl")
                Prompt.from_metadata(metadata, str(folder / "metadata.jsonl"))
                folders.append(PromptFolder(name, metadata, _samples(folder)))
            except MetadataError as error:
                problems.append(str(error))
    return folders, problems


def read_metadata(path: Path) -> dict[str, Any]:
    """The one JSON document of a metadata.jsonl, a regular file."""
    try:
        return parse_json(read_text(path, MetadataError), str(path), MetadataError)
    except FileNotFoundError:
        raise MetadataError(f"{path}: missing") from None


def _samples(folder: Path) -> tuple[str, ...]:
    try:
        names = sorted(os.listdir(folder / "samples"))
    except (FileNotFoundError, NotADirectoryError):
        raise MetadataError(f"{folder / 'samples'}: missing") from None
    return tuple(f"{folder.name}/samples/{name}" for name in names if _SAMPLE.match(name))
