"""Steps of image quality: the features that pictures are compared with, and FID and its kin."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ablations.runner.step import Facts, Folder, Step, Work

if TYPE_CHECKING:
    from benchmarks.quality.config import MeasureConfig


@dataclass(frozen=True, kw_only=True)
class DescribeReference(Step):
    """images/ (a link) and features.safetensors of other pictures, for FID to compare with."""

    images: Step
    clip: Folder
    extractor: str
    parts: ClassVar[tuple[str, ...]] = ("describe",)

    def describe(self, work: Work) -> None:
        """The features, or those of a shard."""
        from benchmarks.quality.extraction import extract
        from benchmarks.quality.extractors import load_extractor
        from lightgen.device import choose_device

        network = load_extractor(
            self.clip.location, name=self.extractor, device=str(choose_device(work.runtime.device))
        )
        extract(work.made(self.images) / "images", network, work.out / "features.safetensors", shard=work.shard)

    def run(self, work: Work) -> Facts:
        self.describe(work)
        # Where the folder will lie in the store, so that a store can be moved.
        (work.out / "images").symlink_to(Path("..") / self.images.folder / "images", target_is_directory=True)
        return {}


@dataclass(frozen=True, kw_only=True)
class Quality(Step):
    """quality.json: FID and its kin against the reference, the CLIP score, and detail."""

    version: ClassVar[int] = 2
    parts: ClassVar[tuple[str, ...]] = ("describe",)

    images: Step
    reference: DescribeReference
    clip: Folder
    extractor: str

    def describe(self, work: Work) -> None:
        """The features of a shard of the pictures."""
        from benchmarks.quality.measurement import describe

        describe(work.made(self.images) / "images", self._config(work), work.shard)

    def run(self, work: Work) -> Facts:
        from benchmarks.quality.measurement import measure

        images, reference = work.made(self.images) / "images", work.made(self.reference) / "features.safetensors"
        result = measure(images, reference, self._config(work))
        return {"metrics": result["metrics"], "warnings": result["warnings"]}

    def _config(self, work: Work) -> MeasureConfig:
        from benchmarks.quality.config import ExtractionConfig, MeasureConfig

        return MeasureConfig(
            extractor=self.clip.location,
            clip=self.clip.location,
            out=work.out,
            extraction=ExtractionConfig(name=self.extractor, device=work.runtime.device),
        )
