"""Pictures in WebDataset tars: KEY.jpg (or .png, .webp) with KEY.json, KEY.txt or both, as text-to-image-2M has them.

Members are read in place, never extracted, and one at a time: an archive of any size needs no memory of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from tarfile import TarInfo
from typing import Any

from lightgen.data.originals import MAX_BYTES, Original, Part, files_fingerprint
from lightgen.data.shards import IMAGE_TYPES, split_name
from lightgen.disk.json_files import parse_json
from lightgen.disk.tar_files import content, read_members


class ImageTars:
    """The samples of archives, in order."""

    kind = "WebDataset tars"

    def __init__(self, root: Path, files: Sequence[Path]):
        self.root, self.files = root, list(files)

    @property
    def fingerprint(self) -> str:
        return files_fingerprint(self.root, self.files)

    def parts(self, size: int) -> list[Part]:
        """Found by the members' headers alone; a part starts at the byte of its first header."""
        return [part for number, path in enumerate(self.files) for part in _parts(path, number, size)]

    def read(self, part: Part) -> Iterator[Original]:
        path = self.files[part.file]
        where = path.relative_to(self.root).as_posix()
        for _, (key, members) in zip(range(part.count), _groups(path, part.start)):
            yield _original(f"{where}:{key}", path, list(members))


def _parts(path: Path, number: int, size: int) -> Iterator[Part]:
    seen: set[str] = set()
    start, count = 0, 0
    for key, members in _groups(path):
        if key in seen:
            raise ValueError(f"{path}: two samples are named {key}; keep one, or rename it")
        seen.add(key)
        first = next(members)
        if count == size:
            yield Part(number, start, count)
            start, count = first.offset, 0
        elif not count:
            start = first.offset
        count += 1
    if count:
        yield Part(number, start, count)


def _groups(path: Path, start: int = 0) -> Iterator[tuple[str, Iterator[TarInfo]]]:
    """Neighboring files of one key; links, devices and folders are passed over."""
    return groupby(read_members(path, start), key=lambda member: split_name(member.name)[0])


def _original(name: str, path: Path, members: Sequence[TarInfo]) -> Original:
    kinds = {split_name(member.name)[1]: member for member in members}
    images = [kind for kind in kinds if kind in IMAGE_TYPES]
    if len(images) != 1 or len(kinds) < len(members):
        names = ", ".join(member.name for member in members)
        return Original(name, problem=f"needs one picture and one caption, has {names}")
    try:
        data = content(path, kinds[images[0]], MAX_BYTES)
        texts = {kind: content(path, kinds[kind], MAX_BYTES) for kind in kinds if kind in ("json", "txt")}
    except ValueError as error:
        return Original(name, problem=str(error))
    try:
        return Original(name, data, _fields(texts))
    except ValueError as error:
        return Original(name, problem=f"its caption is torn ({error})")


def _fields(texts: dict[str, bytes]) -> dict[str, Any]:
    fields = parse_json(texts["json"], "its .json") if "json" in texts else {}
    if not isinstance(fields, dict):
        raise ValueError("its .json is no object")
    return {"text": texts["txt"].decode(), **fields} if "txt" in texts else fields
