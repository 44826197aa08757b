"""Regular files alone: a pipe would be waited for, and a device read without end."""

import stat
from pathlib import Path


def regular_file(path: Path, most: int, error: type[ValueError] = ValueError) -> Path:
    """`path`, if it is a regular file of at most `most` bytes, links followed; FileNotFoundError where it is missing,
    `error` for what is none or larger."""
    try:
        found = path.stat()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: missing") from None
    except (ValueError, OSError) as reason:
        raise error(f"{path}: cannot be looked at ({getattr(reason, 'strerror', None) or reason})") from None
    if not stat.S_ISREG(found.st_mode):
        raise error(f"{path}: no regular file")
    if found.st_size > most:
        raise error(f"{path}: {found.st_size:,} bytes; the limit is {most:,}")
    return path
