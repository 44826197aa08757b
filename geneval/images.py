"""Pictures as the original reads them: EXIF applied, alpha dropped, 8-bit RGB."""

import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

_FORMATS = ("PNG", "JPEG", "WEBP")
_MAX_PIXELS = 64_000_000


class ImageError(ValueError):
    """A file that is not a usable picture; the message names it."""


def read_image(path: Path) -> tuple[Image.Image, str]:
    """The picture in RGB and the sha256 of its file."""
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise ImageError(f"{path}: {image.width}x{image.height} pixels, more than {_MAX_PIXELS:,}")
            return rgb(image), hashlib.sha256(data).hexdigest()
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{path}: not a readable picture (no {', '.join(_FORMATS)})") from None
    except Exception as error:  # Pillow raises anything from SyntaxError to struct.error on damaged files
        raise ImageError(f"{path}: not a readable picture ({type(error).__name__}: {error})") from None


def rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB, upright; hidden colors under alpha are kept, and 16-bit gray loses its low byte, as in cv2."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")
