"""Settings of the quality metrics; they load no heavy library."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class ExtractionConfig:
    """How a set of images becomes features."""

    name: str | None = None  # of the extractor, in the metrics' names (default: its folder's, or its own)
    weights: Path | None = None  # another file of the Inception's weights
    batch_size: int = 64  # images that go through the network together
    device: str = "auto"  # auto, cpu, cuda, cuda:N or mps
    limit: int | None = None  # images, spread evenly over the set (default: all)
    skip_corrupt: bool = False  # leave out images that cannot be read; their number stands in every result's name


DEFAULTS = ExtractionConfig()


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """What is measured of one set of images against another."""

    extractor: str | Path  # inception-v3-compat[-clean], clip-MODEL[@TAG], dinov2-vitl14, icon-clip or a model folder
    clip: str | Path | None = None  # of the CLIP score, as geneval names it (default: no CLIP score)
    captions: Path | None = None  # .jsonl of {"file", "prompt"}, or a line an image (default: the folder's own prompts)
    reference_name: str | None = None  # in the metrics' names, instead of the hash of the reference's images
    out: Path | None = None  # folder that keeps the features and quality.json (default: nothing is kept)
    extraction: ExtractionConfig = DEFAULTS  # how features are made
