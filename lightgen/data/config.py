"""How data sets are made and encoded, as data; no torch."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """How a painter's images of captions become a data set."""

    copies: int = 1  # images a caption
    seed: int = 0  # each image's seed comes from it, the caption and the copy
    batch_size: int = 16  # captions a call of the painter
    shard_size: int = 1000  # images a shard


@dataclass(frozen=True, kw_only=True)
class EncodeConfig:
    """How a data set becomes latents and text features."""

    flips: bool = False  # also store mirrored images, with unchanged captions as released; training picks one
    keep_padding: bool = False  # store padded text positions, for models that attend to them (the released ones)
    dtype: Literal["float32", "bfloat16"] = "bfloat16"  # of stored moments and features
    once: bool = False  # each caption once in the whole set instead of once a shard; needs one process
    skip_bad: bool = False  # leave unreadable samples out and count them
    batch_size: int = 64  # images a pass


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """How captioned pictures of any size become a data set of squares."""

    size: int = 256  # pixels a side
    filter: Literal["lanczos", "bicubic"] = "lanczos"  # of resizing, with antialiasing
    smallest: int = 0  # shortest side taken; 0: the size, so that nothing is enlarged
    caption: tuple[str, ...] = ()  # fields with captions (default: prompt, caption, captions or text)
    max_rejected: float = 0.01  # largest share of originals that may be left out
    shard_size: int = 1000  # originals a shard

    def __post_init__(self) -> None:
        for name in ("size", "shard_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 1")
        if not 0 <= self.max_rejected < 1:
            raise ValueError(f"max_rejected is {self.max_rejected}, must lie in [0, 1)")
