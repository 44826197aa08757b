"""Pictures in WebDataset tars: KEY.jpg (or .png, .webp) with KEY.json, KEY.txt or both, as text-to-image-2M has them.

Members are read in place, never extracted, and one at a time: an archive of any size needs no memory of its own.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from lightgen.data.originals import MAX_BYTES, Original, Part, files_fingerprint
from lightgen.data.shards import IMAGE_TYPES, check_end, split_name


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
        with path.open("rb") as file:
            file.seek(part.start)
            with _opened(path, file) as archive:
                for _, (key, members) in zip(range(part.count), _groups(archive, path)):
                    yield _original(f"{where}:{key}", archive, list(members))


def _parts(path: Path, number: int, size: int) -> Iterator[Part]:
    seen: set[str] = set()
    start, count = 0, 0
    check_end_of(path)
    with path.open("rb") as file, _opened(path, file) as archive:
        for key, members in _groups(archive, path):
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


def check_end_of(path: Path) -> None:
    """Refuse an archive that was cut short."""
    try:
        check_end(path)
    except tarfile.TarError as error:
        raise ValueError(f"{path}: torn or no tar archive ({error}); fetch it again") from None


def _opened(path: Path, file: Any) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=file, mode="r:")
    except tarfile.TarError as error:
        raise ValueError(f"{path}: torn or no uncompressed tar archive ({error}); unpack or fetch it again") from None


def _groups(archive: tarfile.TarFile, path: Path) -> Iterator[tuple[str, Iterator[tarfile.TarInfo]]]:
    """Neighboring files of one key; links, devices and folders are passed over."""

    def files() -> Iterator[tarfile.TarInfo]:
        try:
            for member in archive:
                archive.members = []  # type: ignore[attr-defined] # or it would keep every header it has seen
                if member.isfile():
                    yield member
        except (tarfile.TarError, EOFError) as error:
            raise ValueError(f"{path}: torn archive ({error}); fetch it again") from None

    return groupby(files(), key=lambda member: split_name(member.name)[0])


def _original(name: str, archive: tarfile.TarFile, members: Sequence[tarfile.TarInfo]) -> Original:
    kinds = {split_name(member.name)[1]: member for member in members}
    images = [kind for kind in kinds if kind in IMAGE_TYPES]
    if len(images) != 1 or len(kinds) < len(members):
        return Original(name, problem=f"needs one picture and one caption, has {', '.join(m.name for m in members)}")
    if too_large := [member for member in members if member.size > MAX_BYTES]:
        return Original(name, problem=f"claims {too_large[0].size:,} bytes; the limit is {MAX_BYTES:,}")
    try:
        fields = _fields({kind: _bytes(archive, kinds[kind]) for kind in ("json", "txt") if kind in kinds})
    except ValueError as error:
        return Original(name, problem=f"its caption is torn ({error})")
    return Original(name, _bytes(archive, kinds[images[0]]), fields)


def _bytes(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None  # only files come here
    return file.read()


def _fields(texts: dict[str, bytes]) -> dict[str, Any]:
    fields = json.loads(texts["json"]) if "json" in texts else {}
    if not isinstance(fields, dict):
        raise ValueError("its .json is no object")
    return {"text": texts["txt"].decode(), **fields} if "txt" in texts else fields
