"""The checksums that a zip archive holds of its members, which torch does not compare."""

import zipfile
from pathlib import Path


def check_sums(path: Path) -> None:
    """ValueError for a damaged archive; what is none is left to whoever reads it."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            if packed := [one.filename for one in archive.infolist() if one.compress_type != zipfile.ZIP_STORED]:
                raise zipfile.BadZipFile(f"{packed[0]} is compressed, which torch does not write")
            if wrong := archive.testzip():
                raise zipfile.BadZipFile(f"the checksum of {wrong} differs")
    except Exception as error:  # damaged archives raise anything from BadZipFile to NotImplementedError
        raise ValueError(f"{path}: torn or no PyTorch checkpoint ({error}); fetch it again") from None
