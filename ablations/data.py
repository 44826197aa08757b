"""What a study trains on and compares with: the icon world's teacher, or pictures of one's own.

Everything that a study asks of its data is in `Data`; what it asks of neither says which of the two it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from ablations.icons.render import DatasetConfig
from ablations.icons.world import world
from ablations.prompts import AllCaptions, GeneratedCaptions, IconPrompts, OfficialPrompts, TrainingCaptions
from ablations.runner.step import Folder, Step
from ablations.runner.study import Split
from ablations.steps.data import DrawBenchmark, DrawIcons, TakeImages, TakeShards

VOLUMES = ("small", "large")


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What models are judged on, and how often."""

    prompts: Literal["own", "official"] = "own"  # own: GenEval's generator over the data's classes, where it has some
    num_prompts: int = 50  # a task, of own prompts
    prompt_seed: int = 43
    copies: int = 4  # images a prompt
    seed: int = 42  # of the images
    extractor: str = "icon-clip"  # of FID and its kin: the name of what components.clip holds
    shown: int = 24  # pictures a cell that a report shows


class Data(Protocol):
    """Pictures with captions, by volume and diversity; what else there is to draw, to ask and to compare with."""

    @property
    def cannot_draw(self) -> str:
        """Why nothing new can be drawn; empty where there is a teacher that draws anything asked."""
        ...

    @property
    def splits(self) -> tuple[Split, ...]: ...

    def dataset(self, volume: str, diversity: str, seed: int) -> Step:
        """The step that gives a training set."""
        ...

    def prompts(self, benchmark: Benchmark) -> IconPrompts | OfficialPrompts: ...

    def captions(
        self, dataset: Step, kind: Literal["training", "all"], *, count: int, seed: int
    ) -> TrainingCaptions | AllCaptions | GeneratedCaptions:
        """Where captions to learn preferences from are taken: the training set's own, or all that there are."""
        ...

    def drawn(self, benchmark: Benchmark, seed: int) -> Step:
        """The teacher's own pictures of the benchmark's prompts."""
        ...

    def reference(self, benchmark: Benchmark) -> Step:
        """Pictures that a model's are compared with, of the same prompts where they can be drawn."""
        ...


@dataclass(frozen=True, kw_only=True)
class IconData:
    """The icon world, whose teacher draws any caption exactly."""

    world: str = "cpu"
    small: int = 1000  # images
    large: int = 8000

    def __post_init__(self) -> None:
        world(self.world)

    @property
    def cannot_draw(self) -> str:
        return ""

    @property
    def splits(self) -> tuple[Split, ...]:
        return (
            Split(name="shared", label="compositions in every training set"),
            Split(name="diverse", label="compositions only in the diverse sets"),
            Split(name="unseen", label="compositions in no training set"),
        )

    def dataset(self, volume: str, diversity: str, seed: int) -> DrawIcons:
        images = _of_volume(volume, self.small, self.large)
        return DrawIcons(config=DatasetConfig(world=self.world, images=images, diversity=diversity, seed=seed))

    def prompts(self, benchmark: Benchmark) -> IconPrompts | OfficialPrompts:
        if benchmark.prompts == "official":
            return OfficialPrompts()
        return IconPrompts(world=self.world, num_prompts=benchmark.num_prompts, seed=benchmark.prompt_seed)

    def captions(
        self, dataset: Step, kind: Literal["training", "all"], *, count: int, seed: int
    ) -> TrainingCaptions | AllCaptions:
        if kind == "all":
            return AllCaptions(world=self.world)
        assert isinstance(dataset, DrawIcons)
        return TrainingCaptions(dataset=dataset.config)

    def drawn(self, benchmark: Benchmark, seed: int) -> DrawBenchmark:
        own = IconPrompts(world=self.world, num_prompts=benchmark.num_prompts, seed=benchmark.prompt_seed)
        return DrawBenchmark(prompts=own, copies=benchmark.copies, seed=seed)

    def reference(self, benchmark: Benchmark) -> DrawBenchmark:
        return self.drawn(benchmark, benchmark.seed + 1)


@dataclass(frozen=True, kw_only=True)
class OwnData:
    """A folder of one's own: narrow/ and diverse/ hold shards, reference/ the pictures to compare with."""

    folder: str
    small: int = 1000  # images
    large: int = 8000

    @property
    def cannot_draw(self) -> str:
        return f"{self.folder} holds pictures, and no teacher that could draw others"

    @property
    def splits(self) -> tuple[Split, ...]:
        return ()

    def dataset(self, volume: str, diversity: str, seed: int) -> TakeShards:
        return TakeShards(shards=self._part(diversity), images=_of_volume(volume, self.small, self.large))

    def prompts(self, benchmark: Benchmark) -> OfficialPrompts:
        return OfficialPrompts()

    def captions(self, dataset: Step, kind: Literal["training", "all"], *, count: int, seed: int) -> GeneratedCaptions:
        return GeneratedCaptions(num_prompts=count, seed=1000 + seed)

    def drawn(self, benchmark: Benchmark, seed: int) -> Step:
        raise ValueError(self.cannot_draw)

    def reference(self, benchmark: Benchmark) -> TakeImages:
        return TakeImages(images=self._part("reference"))

    def _part(self, name: str) -> Folder:
        return Folder(str((Path(self.folder) / name).resolve()))


def _of_volume(volume: str, small: int, large: int) -> int:
    if volume not in VOLUMES:
        raise ValueError(f"the volume is {volume!r}; valid: {', '.join(VOLUMES)}")
    return small if volume == "small" else large
