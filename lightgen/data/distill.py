"""Distillation: a data set of what a painter draws (LightGen, section 4.3)."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightgen.data.config import DistillConfig
from lightgen.data.painters import Painter
from lightgen.data.shards import Sample, write_shards
from lightgen.disk.seeds import derive_seed


def distill(
    painter: Painter,
    captions: Sequence[str],
    out: Path,
    config: DistillConfig = DistillConfig(),  # noqa: B008
    *,
    manifest: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write the painter's images of the captions as a data set, and return its manifest.

    An image's seed comes from (seed, caption, copy), so it does not depend on the batch or on where a run resumed.
    `manifest` holds more of its fields; `progress(done, total)` is called after each batch. ValueError where OUT was
    begun with other settings, or where the painter gives another number of images.
    """
    described = {
        "teacher": painter.name,
        "seed": config.seed,
        "copies": config.copies,
        "captions_sha256": hashlib.sha256(json.dumps(list(captions)).encode()).hexdigest(),
    }

    def samples(start: int) -> Iterator[Sample]:
        return _painted(painter, captions, config, start, progress)

    return write_shards(samples, out, shard_size=config.shard_size, manifest={**(manifest or {}), **described})


def _painted(
    painter: Painter,
    captions: Sequence[str],
    config: DistillConfig,
    start: int,
    progress: Callable[[int, int], None] | None,
) -> Iterator[Sample]:
    """The samples from number `start` on."""
    total = len(captions) * config.copies
    for first in range(start, total, config.batch_size):
        last = min(first + config.batch_size, total)
        items = [divmod(index, config.copies) for index in range(first, last)]
        prompts = [captions[caption] for caption, _ in items]
        seeds = [derive_seed(config.seed, captions[caption], copy) for caption, copy in items]
        images = painter(prompts, seeds)
        if len(images) != len(prompts):
            raise ValueError(f"painter {painter.name} gave {len(images)} images for {len(prompts)} captions")
        for offset, (image, prompt, seed) in enumerate(zip(images, prompts, seeds)):
            yield Sample(f"{first + offset:08d}", image, {"prompt": prompt, "teacher": painter.name, "seed": seed})
        if progress is not None:
            progress(last, total)
