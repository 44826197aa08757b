"""Tar archives, read in place to their very end: tarfile stops at a damaged header without a word.

Only plain files are given out; nothing is extracted. Their sizes are held against the archive's own.
"""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lightgen.disk.regular import LARGEST, regular_file

_BLOCK = 512
_MOST_ZEROS = 2**24  # that end an archive; tar fills up to a record, 10 KiB unless told otherwise


def read_members(path: Path, start: int = 0) -> Iterator[tarfile.TarInfo]:
    """The plain files of an uncompressed archive, from the header at byte `start` on: name, size and place of each.
    ValueError for an archive that is cut, or damaged between two members."""
    with open(regular_file(path, LARGEST), "rb") as file:
        try:
            size = _check_end(file)
            file.seek(start)
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for member in archive:
                    archive.members = []  # type: ignore[attr-defined] # or it would keep every header it has seen
                    if member.offset_data + member.size > size or member.size < 0:
                        raise tarfile.ReadError(f"{member.name[:100]!r} claims {member.size:,} bytes")
                    if member.isfile() and not member.issparse():
                        yield member
                _check_rest(file, archive.offset)
        except (tarfile.TarError, EOFError, UnicodeError, OverflowError, OSError) as error:
            raise ValueError(f"{path}: torn or no tar archive ({error}); write or fetch it again") from None


def content(path: Path, member: tarfile.TarInfo, most: int) -> bytes:
    """The bytes of a member; ValueError for more than `most`."""
    if member.size > most:
        raise ValueError(f"{member.name[:100]!r} claims {member.size:,} bytes; the limit is {most:,}")
    with open(path, "rb") as file:
        file.seek(member.offset_data)
        data = file.read(member.size)
    if len(data) < member.size:
        raise ValueError(f"{member.name[:100]!r} is cut short")
    return data


def tar_file(path: Path) -> Path:
    """`path`, if it is a whole archive from its first header to its end; to be asked before bytes that no manifest
    counts are hashed."""
    for _ in read_members(path):
        pass
    return path


def _check_end(file: BinaryIO) -> int:
    """The archive's bytes; refused where it was cut between two members, which would be read as a shorter one."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - _BLOCK))
    if size < 2 * _BLOCK or file.read(_BLOCK).strip(b"\0"):
        raise tarfile.ReadError("no end-of-archive mark")
    return size


def _check_rest(file: BinaryIO, place: int) -> None:
    """Behind the last member there is nothing but zeros, and not many."""
    file.seek(place)
    block = file.read(_MOST_ZEROS + 1)
    if block.strip(b"\0") or len(block) > _MOST_ZEROS:
        raise tarfile.ReadError(f"a damaged header at byte {place:,}")
