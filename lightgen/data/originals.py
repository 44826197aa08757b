"""What an import reads: originals, one picture file with the fields that tell of it, and the captions among these."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

CAPTION_FIELDS = ("prompt", "caption", "captions", "text")  # looked for in this order where no field is named
MAX_CAPTION = 8000  # characters; more is a document, not a caption
MAX_BYTES = 2**28  # of one picture file: what claims more is not read


class Rejected(ValueError):
    """Why an original is left out."""


@dataclass(frozen=True)
class Original:
    """A picture file as it came, not decoded; `problem` says why it has no bytes."""

    name: str  # unique in its source: a path, ARCHIVE:KEY or TABLE:ROW
    data: bytes = b""
    fields: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""

    @property
    def key(self) -> str:
        """Its key in shards: the stem of its name, and a hash of the whole, so that no two are alike."""
        stem = re.sub(r"[^A-Za-z0-9_-]+", "-", re.split(r"[/\\:]", self.name)[-1].partition(".")[0])
        return f"{stem[:60].strip('-') or 'image'}-{hashlib.sha256(self.name.encode()).hexdigest()[:10]}"


@dataclass(frozen=True)
class Part:
    """A run of a source's originals that becomes one shard."""

    file: int  # number of the file, or 0
    start: int  # its first original: a number, or a byte's place in an archive
    count: int


class Source(Protocol):
    """Originals in a fixed order."""

    kind: str

    @property
    def fingerprint(self) -> str:
        """A hash that is another once files were added, taken away or changed; their contents are not read."""
        ...

    def parts(self, size: int) -> Sequence[Part]:
        """All originals in order, in parts of at most `size`."""
        ...

    def read(self, part: Part) -> Iterator[Original]: ...


def in_parts(counts: Sequence[int], size: int) -> list[Part]:
    """Parts of files that hold so many originals each; no part reaches over the end of a file."""
    return [
        Part(number, start, min(size, count - start))
        for number, count in enumerate(counts)
        for start in range(0, count, size)
    ]


def files_fingerprint(root: Path, files: Sequence[Path]) -> str:
    """A hash of the files' names, sizes and times."""
    digest = hashlib.sha256()
    for path in files:
        status = path.stat()
        digest.update(f"{os.path.relpath(path, root)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def captions_of(fields: Mapping[str, Any], wanted: Sequence[str]) -> list[str]:
    """The captions in the wanted fields, stripped, each once; a field may hold a list of them. `Rejected` for none."""
    names = wanted or [name for name in CAPTION_FIELDS if name in fields][:1]
    found = [text.strip() for name in names for text in _texts(fields.get(name))]
    captions = [text for text in dict.fromkeys(found) if text]
    if not captions:
        there = ", ".join(sorted(fields)) or "none"
        raise Rejected(f"no caption in {', '.join(names or CAPTION_FIELDS)} (its fields: {there})")
    if longest := max((len(text) for text in captions if len(text) > MAX_CAPTION), default=0):
        raise Rejected(f"a caption of {longest:,} characters; the limit is {MAX_CAPTION:,}")
    return captions


def numbers_of(fields: Mapping[str, Any]) -> dict[str, float]:
    """The fields that are finite numbers, and those in a field "numbers", as imported shards have it: scores that
    subsets can be matched in."""
    inner = fields.get("numbers")
    return {
        name: float(value)
        for name, value in {**fields, **(inner if isinstance(inner, dict) else {})}.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list | tuple) else [value]
    return [text for text in values if isinstance(text, str)]
