"""Data sets of the icon world: the teacher's pictures of sampled captions, in the shards that `distill` writes too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ablations.icons.compositions import colors_of, compositions, level, split_of
from ablations.icons.scenes import Scene, arrange, dense_caption
from ablations.icons.teacher import draw
from ablations.icons.world import TASKS, World, world


@dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """One data set. `images` is its volume, `diversity` the set of compositions that its captions may show."""

    world: str = "cpu"
    images: int = 8000  # distinct pictures
    diversity: str = "diverse"  # narrow, some, many, diverse or all
    seed: int = 0
    draw: int = 0  # of the compositions that come first; of no effect where all that are ever shown may be
    per_caption: int = 1  # pictures in a row of one caption, each of another arrangement
    captions: Literal["short", "dense", "mixed"] = "short"  # as asked; all that is to be seen; half of each

    def __post_init__(self) -> None:
        world(self.world)
        level(self.diversity)
        for name in ("images", "per_caption"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.captions not in ("short", "dense", "mixed"):
            raise ValueError(f"captions is {self.captions!r}; valid: short, dense, mixed")


def sample_scenes(config: DatasetConfig) -> Iterator[Scene]:
    """The data set's scenes: tasks in turn, captions drawn evenly from the task's compositions, a seed for each."""
    here: World = world(config.world)
    choices = compositions(here, config.diversity, config.draw)
    tasks = [task for task in TASKS if choices[task]]
    rng, asked = np.random.default_rng((config.seed, 7)), None
    for index in range(config.images):
        if asked is None or index % config.per_caption == 0:
            captions = choices[tasks[index // config.per_caption % len(tasks)]]
            asked = captions[int(rng.integers(len(captions)))]
        seed = int(rng.integers(2**62))
        yield arrange(asked, here, seed, partial(colors_of, here, config.diversity, config.draw))


def sample_captions(config: DatasetConfig) -> Iterator[str]:
    """The caption of each of the data set's scenes."""
    tasks = sum(bool(found) for found in compositions(world(config.world), config.diversity, config.draw).values())
    for index, scene in enumerate(sample_scenes(config)):
        is_dense = config.captions == "dense" or (config.captions == "mixed" and index // tasks % 2 == 1)
        yield dense_caption(scene) if is_dense else scene.request["prompt"]


def render_dataset(config: DatasetConfig, out: Path) -> dict[str, Any]:
    """Draw the data set into WebDataset shards under `out`; returns its manifest."""
    from lightgen.data.shards import Sample, write_shards

    here = world(config.world)

    def samples() -> Iterator[Sample]:
        for index, (scene, caption) in enumerate(zip(sample_scenes(config), sample_captions(config), strict=True)):
            record = {"prompt": caption, "tag": scene.request["tag"], "seed": scene.seed}
            objects = [{"class": item.name, "color": item.color} for item in scene.objects]
            yield Sample(f"{index:08d}", draw(scene, here).image, {**record, "objects": objects})

    manifest = {"teacher": f"icon-teacher/{here.name}", "config": asdict(config), "world": asdict(here)}
    return write_shards(samples(), out, manifest={**manifest, "diversity": diversity_statistics(config)})


def diversity_statistics(config: DatasetConfig) -> dict[str, Any]:
    """How diverse the data set is: distinct captions, and the share of the world's compositions that they cover."""
    here = world(config.world)
    captions = {}
    for scene in sample_scenes(config):
        captions[scene.request["prompt"]] = scene.request
    everything = sum(len(requests) for requests in compositions(here, "all").values())
    return {
        "images": config.images,
        "distinct_captions": len(captions),
        "composition_coverage": len(captions) / everything,
        "captions_by_split": {
            split: sum(split_of(asked, here, config.draw) == split for asked in captions.values())
            for split in ("shared", "diverse", "unseen")
        },
    }
