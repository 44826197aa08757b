"""How data sets are made and encoded, as data; no torch."""

from dataclasses import dataclass
from typing import Literal

from lightgen.disk.bounds import require


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """How a painter's images of captions become a data set."""

    copies: int = 1  # images a caption
    seed: int = 0  # each image's seed comes from it, the caption and the copy
    batch_size: int = 16  # captions a call of the painter
    shard_size: int = 1000  # images a shard

    def __post_init__(self) -> None:
        require(self, "[1, inf)", "copies", "batch_size", "shard_size")


@dataclass(frozen=True, kw_only=True)
class EncodeConfig:
    """How a data set becomes latents and text features."""

    flips: bool = False  # also store mirrored images, with unchanged captions as released; training picks one
    keep_padding: bool = False  # store padded text positions, for models that attend to them (the released ones)
    dtype: Literal["float32", "bfloat16"] = "bfloat16"  # of stored moments and features
    once: bool = False  # each caption once in the whole set instead of once a shard
    skip_bad: bool = False  # leave unreadable samples out and count them
    batch_size: int = 64  # images a pass

    def __post_init__(self) -> None:
        require(self, "[1, inf)", "batch_size")


@dataclass(frozen=True, kw_only=True)
class ComposeConfig:
    """How cut-outs are composed on grounds."""

    images: int = 2000  # pictures to make
    seed: int = 0  # of which cut-outs, sizes, places and grounds
    smallest: int = 200  # pixels; width and height are drawn between the two
    largest: int = 1024  # pixels
    pairs: float = 1 / 3  # share of the pictures with two cut-outs

    def __post_init__(self) -> None:
        if self.images < 1 or not 16 <= self.smallest <= self.largest or not 0 <= self.pairs <= 1:
            raise ValueError(
                f"images are at least 1, sides from 16 px up, smallest not above largest, pairs in [0, 1]; not"
                f" {self.images}, {self.smallest} to {self.largest}, {self.pairs:g}"
            )


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
        require(self, "[1, 4096]", "size")
        require(self, "[1, inf)", "shard_size")
        require(self, "[0, inf)", "smallest")
        require(self, "[0, 1)", "max_rejected")


@dataclass(frozen=True, kw_only=True)
class SubsetConfig:
    """Which samples of a cache a subset holds. Samples fall into groups; diversity is how many groups are taken."""

    images: int = 1000  # N
    diversity: str = "diverse"  # narrow, diverse (all groups), or a number of groups
    by: Literal["clusters", "captions", "compositions"] = "clusters"  # what a group is: alike in one of these
    features: Literal["captions", "images"] = "captions"  # what is clustered
    clusters: int = 64  # in the whole cache
    narrow: float = 0.1  # share of the groups that narrow takes
    seed: int = 0  # of which groups, and which samples of each
    match: tuple[str, ...] = ()  # numbers that subsets shall agree in, beside the caption's length
    room: int = 0  # images that the groups must be able to hold, for subsets of several sizes from the same groups
    held_out: float = 0.0  # share of samples, by a hash of their keys, that no subset holds

    def __post_init__(self) -> None:
        require(self, "[1, inf)", "images", "clusters")
        require(self, "[0, inf)", "room")
        if self.diversity not in ("narrow", "diverse") and not (self.diversity.isdigit() and int(self.diversity)):
            raise ValueError(f"diversity is {self.diversity!r}; valid: narrow, diverse, or a number of groups")
        require(self, "[0, 1)", "narrow", "held_out")
