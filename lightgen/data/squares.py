"""A picture of any size as the square that training sees, and how exactly: the words stand in the manifest."""

from __future__ import annotations

import io
from typing import NamedTuple

from PIL import Image

from lightgen.data.config import ImportConfig
from lightgen.data.images import FORMATS, png_bytes, read_image
from lightgen.data.originals import Rejected

ORIENTATION = 0x0112  # EXIF: 1 = upright
KINDS = {"JPEG": "jpg", "PNG": "png"}  # kept as they came where nothing changes
FAST = 1  # PNG compression: a third larger than the default, five times as fast


class Square(NamedTuple):
    """An image file to store, and the size that its original had upright."""

    kind: str
    data: bytes
    original: tuple[int, int]


def words(config: ImportConfig) -> dict[str, str]:
    """What is done to every picture."""
    return {
        "orientation": "turned upright by EXIF",
        "color": "8-bit RGB; transparency over white; embedded color profiles not applied",
        "resize": f"short side to {config.size} px, center crop; {config.filter}, antialiased, of Pillow",
        "file": "the original's own bytes where nothing changes (RGB JPEG or PNG of that size), else PNG",
    }


def square(data: bytes, config: ImportConfig) -> Square:
    """The original's square; `Rejected` for one that cannot be read or is too small."""
    try:
        image = read_image(data, "the picture")
    except ValueError as error:
        raise Rejected(str(error)) from None
    short = min(image.size)
    if short < (config.smallest or config.size):
        raise Rejected(f"{image.width}x{image.height} px; the shortest side taken is {config.smallest or config.size}")
    if image.size == (config.size, config.size) and (kind := _untouched(data)):
        return Square(kind, data, image.size)
    return Square("png", png_bytes(_cut(image, config), FAST), image.size)


def _cut(image: Image.Image, config: ImportConfig) -> Image.Image:
    """The centered square, resized in one pass from its exact place in the original."""
    short, size = min(image.size), (config.size, config.size)
    left, top = (image.width - short) / 2, (image.height - short) / 2
    method = {"lanczos": Image.Resampling.LANCZOS, "bicubic": Image.Resampling.BICUBIC}[config.filter]
    return image.resize(size, method, box=(left, top, left + short, top + short))


def _untouched(data: bytes) -> str:
    """The file type of an upright RGB picture that may be stored as it came; "" for any other."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        is_plain = image.mode == "RGB" and image.getexif().get(ORIENTATION, 1) == 1 and not image.has_transparency_data
        return KINDS.get(image.format or "", "") if is_plain else ""
