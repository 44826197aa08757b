"""The step that judges pictures by GenEval, and what other steps use to judge theirs."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ablations.runner.step import Facts, Folder, Step, Work
from ablations.steps.asked import Asked, most_prompts, prompts_of


@dataclass(frozen=True, kw_only=True)
class Judges:
    """Who looks at pictures: the object detector, and the CLIP that tells colors."""

    detector: Folder
    clip: Folder


@dataclass(frozen=True, kw_only=True)
class Judge(Step):
    """images/ (links), detections.jsonl in it, and results.jsonl."""

    resumable: ClassVar[bool] = True
    parts: ClassVar[tuple[str, ...]] = ("detect",)
    images: Step
    prompts: Asked
    copies: int
    judges: Judges

    @property
    def num_judged(self) -> int:  # type: ignore[override]
        return most_prompts(self.prompts) * self.copies

    def detect(self, work: Work) -> Path:
        """The pictures, and what is seen in them, or in a shard of them."""
        images = work.out / "images"
        _link_folder(work.made(self.images) / "images", images)
        detect(work, images, self.judges)
        return images

    def run(self, work: Work) -> Facts:
        from geneval.prompts import prompts_sha256
        from geneval.scores import score_folder

        prompts, images = prompts_of(self.prompts, work.made), self.detect(work)
        rows = score_folder(images, work.out / "results.jsonl", prompts=prompts, copies=self.copies)
        return {
            "prompts_sha256": prompts_sha256(prompts),
            "judge": {"detector": self.judges.detector.identity, "clip": self.judges.clip.identity},
            "correct": sum(row["correct"] for row in rows),
            "images": len(rows),
        }


def detect(work: Work, images: Path, judges: Judges) -> None:
    """detections.jsonl of a folder of images; of a shard, a file of its own, which the whole is then made of."""
    from geneval.detect import detect_images

    whole, is_shard = images / "detections.jsonl", work.shard[1] > 1
    shards = sorted(images.glob("detections-*-of-*.jsonl"))
    if is_shard and whole.is_file():
        return
    if shards and not is_shard and not whole.is_file():
        (images / "detections.jsonl.partial").write_bytes(b"".join(path.read_bytes() for path in shards))
    batch, device = work.runtime.detect_batch, work.runtime.device
    detector, clip = judges.detector.location, judges.clip.location
    detect_images(images, detector, clip, batch_size=batch, device=device, shard=work.shard, progress=work.tick)
    if not is_shard:
        for path in shards:
            path.unlink()


def link(images: Path, out: Path, sample: str) -> Path:
    """The sample inside the step's own folder: a hard link where the disk has them."""
    target = out / "images" / sample
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(images / sample, target)
        except FileExistsError:
            pass  # another process of the cell was faster
        except OSError:
            shutil.copyfile(images / sample, target)
    return target


def _link_folder(images: Path, target: Path) -> None:
    for source in sorted(images.rglob("*")):
        if source.suffix == ".png" or source.name == "metadata.jsonl":
            (target / source.relative_to(images).parts[0] / "samples").mkdir(parents=True, exist_ok=True)
            link(images, target.parent, str(source.relative_to(images)))
    if (images / "generation.json").is_file():
        link(images, target.parent, "generation.json")
