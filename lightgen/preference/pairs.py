"""Preference pairs: `pairs.jsonl` with prompt, chosen, rejected, source, scores; image paths relative to the file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightgen.data.images import MAX_BYTES, read_image
from lightgen.disk.atomic import atomic_file
from lightgen.disk.json_files import read_json_lines
from lightgen.disk.regular import regular_file

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two images of one prompt, the first preferred."""

    prompt: str
    chosen: Path
    rejected: Path
    source: str = "file"  # where the preference comes from, see `pair_sources`
    scores: tuple[float, ...] = field(default=())  # of chosen and rejected, where they were scored


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a file, each checked: a prompt, two different image files that exist."""
    path = Path(path)
    pairs = [_pair(path, number, row) for number, row in read_json_lines(path)]
    if not pairs:
        raise ValueError(f"{path} holds no pairs")
    return pairs


def write_pairs(pairs: Iterable[Pair], path: Path) -> Path:
    """Write `path` (pairs.jsonl) atomically; images must lie in its folder or below, or beside it."""
    path = Path(path)
    rows = []
    for pair in pairs:
        row = asdict(pair)
        for name in ("chosen", "rejected"):
            row[name] = _relative(Path(row[name]), path.parent)
        rows.append(json.dumps(row, ensure_ascii=False))
    with atomic_file(path) as file:
        file.write("".join(row + "\n" for row in rows).encode())
    return path


def pairs_sha256(pairs: Sequence[Pair]) -> str:
    """The identity of the pairs: prompts and image bytes."""
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(json.dumps(pair.prompt).encode())
        for path in (pair.chosen, pair.rejected):
            digest.update(hashlib.sha256(regular_file(path, MAX_BYTES).read_bytes()).digest())
    return digest.hexdigest()


def _pair(path: Path, number: int, row: Any) -> Pair:
    where = f"{path}, line {number}"
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected an object with prompt, chosen and rejected")
    for name in ("prompt", "chosen", "rejected"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise ValueError(f"{where}: {name} is missing or empty")
    chosen, rejected = (path.parent / row[name] for name in ("chosen", "rejected"))
    for image in (chosen, rejected):
        try:
            regular_file(image, MAX_BYTES)
        except FileNotFoundError:
            raise FileNotFoundError(f"{where}: image {image} is missing") from None
    if chosen.resolve() == rejected.resolve():
        raise ValueError(f"{where}: chosen and rejected are the same image, {row['chosen']}")
    scores = row.get("scores") or ()
    if not isinstance(scores, list | tuple) or not all(type(score) in (int, float) for score in scores):
        raise ValueError(f"{where}: scores: expected numbers")
    return Pair(
        prompt=row["prompt"],
        chosen=chosen,
        rejected=rejected,
        source=str(row.get("source", "file")),
        scores=tuple(map(float, scores)),
    )


def _relative(image: Path, folder: Path) -> str:
    return Path(os.path.relpath(image, folder)).as_posix()


def pair_images(pairs: Iterable[Pair]) -> Iterator[tuple[Image.Image, Image.Image]]:
    """(chosen, rejected) images, one pair at a time; all sizes must agree, and the two of a pair must differ."""
    first: tuple[Path, tuple[int, int]] | None = None
    for pair in pairs:
        chosen, rejected = read_image(pair.chosen), read_image(pair.rejected)
        for image, path in ((chosen, pair.chosen), (rejected, pair.rejected)):
            first = first or (path, image.size)
            if image.size != first[1]:
                raise ValueError(f"{path} is {image.size}, but {first[0]} is {first[1]}; pairs need one size")
        if chosen.tobytes() == rejected.tobytes():
            raise ValueError(f"{pair.chosen} and {pair.rejected} show the same pixels; remove the pair")
        yield chosen, rejected
