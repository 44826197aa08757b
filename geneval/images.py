"""Pictures as the original reads them: EXIF applied, alpha dropped, 8-bit RGB."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from geneval.png import check_png
from geneval.regular import regular_file

if TYPE_CHECKING:
    import torch

FORMATS = ("PNG", "JPEG", "WEBP")
_MAX_PIXELS = 64_000_000
MAX_BYTES = 256_000_000  # of one file
_TOLERANCE = 1e-3  # of float pixels beyond [0, 1], as rounding makes them


class ImageError(ValueError):
    """A file that is not a usable picture; the message names it."""


def read_image(path: Path) -> tuple[Image.Image, str]:
    """The picture in RGB and the sha256 of its file; only a regular file is opened."""
    try:
        data = regular_file(path, MAX_BYTES, ImageError).read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: not a readable picture ({type(error).__name__}: {error})") from None
    return decode_image(data, str(path)), hashlib.sha256(data).hexdigest()


def decode_image(data: bytes, where: str, max_pixels: int = _MAX_PIXELS) -> Image.Image:
    """The picture of a file's bytes in RGB; its size is read and bounded before anything is decoded."""
    try:
        check_png(data)
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image.size, where, max_pixels)
            return rgb(image)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{where}: not a readable picture (no {', '.join(FORMATS)})") from None
    except Exception as error:  # Pillow raises anything from SyntaxError to struct.error on damaged files
        raise ImageError(f"{where}: not a readable picture ({type(error).__name__}: {error})") from None


def as_pictures(images: "Sequence[Any] | torch.Tensor") -> list[Image.Image]:
    """PIL pictures of any mode, or tensors: (B, 3, H, W) or a sequence of (3, H, W), floats in [0, 1] or uint8."""
    import torch

    if isinstance(images, Image.Image) or (isinstance(images, torch.Tensor) and images.ndim != 4):
        raise ImageError("images must be a sequence of pictures or a tensor (B, 3, H, W)")
    return [_as_picture(image, f"image {i}") for i, image in enumerate(images)]


def _as_picture(image: Any, where: str) -> Image.Image:
    import torch

    if isinstance(image, Image.Image):
        _check_size(image.size, where, _MAX_PIXELS)
        return rgb(image)
    if not isinstance(image, torch.Tensor):
        raise ImageError(f"{where}: must be a PIL picture or a tensor (3, H, W), not {type(image).__name__}")
    if image.ndim != 3 or image.shape[0] != 3:
        raise ImageError(f"{where}: must be (3, H, W), not {tuple(image.shape)}")
    _check_size((image.shape[2], image.shape[1]), where, _MAX_PIXELS)
    return Image.fromarray(_bytes(image.detach(), where).permute(1, 2, 0).cpu().numpy())


def _bytes(image: "torch.Tensor", where: str) -> "torch.Tensor":
    import torch

    if image.dtype == torch.uint8:
        return image
    if not image.is_floating_point():
        raise ImageError(f"{where}: must be floats in [0, 1] or uint8, not {image.dtype}")
    low, high = image.float().min().item(), image.float().max().item()
    if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):  # NaN fails too
        raise ImageError(f"{where}: float pixels must be in [0, 1] and no NaN; they go from {low:g} to {high:g}")
    return (image.float() * 255).round().clamp(0, 255).byte()


def _check_size(size: tuple[int, int], where: str, max_pixels: int) -> None:
    if not 0 < size[0] * size[1] <= max_pixels:
        raise ImageError(f"{where}: {size[0]}x{size[1]} pixels, none or more than {max_pixels:,}")


def rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB, upright; hidden colors under alpha are kept, and 16-bit gray loses its low byte, as in cv2."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")
