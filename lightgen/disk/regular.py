"""Regular files alone: a pipe would be waited for, and a device read without end."""

import stat
from pathlib import Path

LARGEST = 2**44  # bytes of a file of weights or of a data set
_TAIL = 2**20  # bytes of a log that are shown at most


def regular_file(path: Path, most: int) -> Path:
    """`path`, if it is a regular file of at most `most` bytes, links followed; FileNotFoundError where it is missing,
    ValueError for what is none or larger."""
    path = Path(path)
    try:
        found = path.stat()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing") from None
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: cannot be looked at ({getattr(error, 'strerror', None) or error})") from None
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path}: no regular file")
    if found.st_size > most:
        raise ValueError(f"{path}: {found.st_size:,} bytes; the limit is {most:,}")
    return path


def last_lines(path: Path, most: int) -> list[str]:
    """The last lines of a log of any length, no more than `most`; none of what is not there or no regular file."""
    try:
        size = regular_file(path, LARGEST).stat().st_size
        with path.open("rb") as file:
            file.seek(max(0, size - _TAIL))
            text = file.read(_TAIL).decode("utf-8", errors="replace")
    except (ValueError, OSError):
        return []
    return text.splitlines()[-most:]
