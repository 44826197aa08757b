"""Image files: read with care (known formats only, a size limit before decoding, always RGB), written as PNG."""

import io
import warnings
from pathlib import Path

from PIL import Image, ImageOps

from lightgen.disk.atomic import atomic_file
from lightgen.disk.png import check_png
from lightgen.disk.regular import regular_file

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 64_000_000
MAX_BYTES = 2**28
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")


def read_image(source: Path | bytes, where: str = "") -> Image.Image:
    """The RGB image in a file or in bytes; transparency is laid over white, an orientation tag is applied.

    `where` names the image in errors (default: the path).
    """
    where = where or (str(source) if not isinstance(source, bytes) else "image")
    try:
        # Pillow warns, then raises, above its own limit while it opens: both are our error.
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            data = source if isinstance(source, bytes) else regular_file(source, MAX_BYTES).read_bytes()
            check_png(data)
            image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            image.load()
    except FileNotFoundError:
        raise FileNotFoundError(f"{where}: no such image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"{where}: claims more than {MAX_PIXELS:,} pixels; not decoded, make it smaller") from None
    except Exception as error:  # Pillow raises anything from SyntaxError to struct.error on damaged files
        raise ValueError(f"{where}: not a readable {', '.join(FORMATS)} image ({error})") from None
    if image.mode not in _MODES:
        raise ValueError(f"{where}: pixel mode {image.mode}; give an 8-bit image")
    try:
        image = ImageOps.exif_transpose(image)
    except Exception as error:  # Pillow raises anything on damaged tags
        raise ValueError(f"{where}: its orientation cannot be read ({type(error).__name__}: {error})") from None
    if image.has_transparency_data:
        color = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", color.size, "white"), color).convert("RGB")
    return image.convert("RGB")


def png_bytes(image: Image.Image, compression: int = 6) -> bytes:
    """The image as an RGB PNG file, compressed from 1 (fast) to 9 (small)."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, format="PNG", compress_level=compression)
    return buffer.getvalue()


def save_image(image: Image.Image, path: Path) -> None:
    """Write a PNG atomically."""
    with atomic_file(path) as file:
        file.write(png_bytes(image))
