"""From a picture to the detector's input, as mmdet does it for GenEval: resize, pad with gray, normalize."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geneval.json_files import read_object

if TYPE_CHECKING:
    import torch

_LONGEST = 2560  # px, twice the original; a damaged number goes through no network


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """The settings of preprocessor_config.json that the detector honors; the defaults are the original's."""

    shortest_edge: int = 800  # px; the picture is scaled so that neither bound is exceeded
    longest_edge: int = 1333  # px
    size_divisor: int = 32  # px; padded on the right and at the bottom
    pad_value: int = 128  # gray level, before normalizing
    image_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # of RGB in [0, 1]
    image_std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    @classmethod
    def from_folder(cls, folder: Path) -> "Preprocessing":
        """The settings of FOLDER/preprocessor_config.json; what it does not say is the original's."""
        path = folder / "preprocessor_config.json"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: missing; the detector's image sizes and constants stand there")
        try:
            record = read_object(path)
            if "size" not in record:
                raise ValueError("has no 'size'")
            given = {**record, **_edges(record)}
            values = {name: _typed(given[name], default) for name, default in asdict(cls()).items() if name in given}
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: not usable ({error})") from None
        settings = cls(**values)
        sides = settings.shortest_edge, settings.longest_edge, settings.size_divisor
        if min(sides) < 1 or max(sides) > _LONGEST:
            raise ValueError(f"{path}: edges and divisor must lie in 1 to {_LONGEST} px")
        if settings.pad_value > 255 or not all(0 < one < 100 for one in settings.image_std):
            raise ValueError(f"{path}: pad_value must be at most 255, image_std positive")
        return settings

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height after scaling."""
        scale = min(self.longest_edge / max(width, height), self.shortest_edge / min(width, height))
        return max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5))

    def padded(self, width: int, height: int) -> tuple[int, int]:
        """Width and height after padding."""
        return -(-width // self.size_divisor) * self.size_divisor, -(-height // self.size_divisor) * self.size_divisor

    def record(self) -> dict[str, Any]:
        """preprocessor_config.json in transformers' names."""
        values = asdict(self)
        size = {name: values.pop(name) for name in ("shortest_edge", "longest_edge")}
        return {"size": size, **values}


def check_picture_sizes(path: Path) -> None:
    """ValueError for a preprocessor_config.json of a library's that would scale pictures beyond any detector's."""
    record = read_object(path)
    for name in ("size", "crop_size", "pad_size"):
        given = record.get(name) or {}
        for value in given.values() if isinstance(given, dict) else [given]:
            if not isinstance(value, int) or not 0 <= value <= _LONGEST:
                raise ValueError(f"{path}: {name}: {str(value)[:100]} is not a number of 0 to {_LONGEST} px")


def _edges(record: Mapping[str, Any]) -> dict[str, Any]:
    """The bounds of the scaled picture; older folders of the Hub have a number as `size`, and `max_size`."""
    size = record.get("size") or {}
    if isinstance(size, int):
        size = {"shortest_edge": size, "longest_edge": record.get("max_size", Preprocessing.longest_edge)}
    return {name: size[name] for name in ("shortest_edge", "longest_edge") if name in size}


def _typed(value: Any, default: Any) -> Any:
    if isinstance(default, tuple):
        if len(value) != len(default):
            raise ValueError(f"{value!r} must hold {len(default)} numbers")
        # Some folders give gray levels instead of shares of 255.
        return tuple(float(v) / (255 if max(value) > 1 else 1) for v in value)
    if isinstance(value, bool) or int(value) != value or value < 0:
        raise ValueError(f"{value!r} is not a whole number of 0 or more")
    return int(value)


def resize_method() -> str:
    """ "cv2", the original's resize, where opencv is installed; else "torch", within one gray level of it."""
    try:
        import cv2  # noqa: F401
    except ImportError:
        return "torch"
    return "cv2"


def resize(pixels: np.ndarray, width: int, height: int, method: str) -> np.ndarray:
    """(H, W, 3) uint8 scaled bilinearly without antialiasing."""
    if pixels.shape[:2] == (height, width):
        return pixels
    if method == "cv2":
        import cv2

        return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    import torch

    channels = torch.tensor(pixels).permute(2, 0, 1)[None].float()
    scaled = torch.nn.functional.interpolate(channels, (height, width), mode="bilinear", align_corners=False)
    return scaled[0].round().clamp(0, 255).byte().permute(1, 2, 0).numpy()


def pad(pixels: np.ndarray, settings: Preprocessing) -> np.ndarray:
    """(..., H, W, 3) uint8 with gray added on the right and at the bottom."""
    height, width = pixels.shape[-3:-1]
    right, bottom = settings.padded(width, height)
    if (right, bottom) == (width, height):
        return pixels
    out = np.full((*pixels.shape[:-3], bottom, right, 3), settings.pad_value, np.uint8)
    out[..., :height, :width, :] = pixels
    return out


def normalize(pixels: "torch.Tensor", settings: Preprocessing) -> "torch.Tensor":
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32; subtracting and dividing in float32 is the original to the bit."""
    import torch

    mean, std = (
        torch.tensor(np.array(values) * 255, dtype=torch.float32, device=pixels.device)[:, None, None]
        for values in (settings.image_mean, settings.image_std)
    )
    return (pixels.permute(0, 3, 1, 2).float() - mean) / std
