"""What a study trains on and compares with: the icon world's teacher, or a data set of one's own.

Everything that a study asks of its data is in `Data`; what it asks of neither says which of the two it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from ablations.icons.compositions import level
from ablations.icons.render import DatasetConfig
from ablations.icons.world import world
from ablations.prompts import AllCaptions, IconPrompts, OfficialPrompts, TrainingCaptions
from ablations.runner.step import Folder, Step
from ablations.runner.study import Split
from ablations.steps.asked import Asked
from ablations.steps.data import DrawBenchmark, DrawIcons
from ablations.steps.encode import Encode
from ablations.steps.named import AskNamed, captioned, known_classes
from ablations.steps.subsets import HoldOut, Subset, TakeDataset
from lightgen.data.config import SubsetConfig
from lightgen.disk.bounds import require
from lightgen.disk.json_files import read_json
from lightgen.model.config import MARConfig

VOLUMES = ("small", "large")
FEWEST_HELD_OUT = 10  # pictures of one's own that no training set holds
NO_JUDGE = (
    "benchmark.prompts=none leaves GenEval's judge out, and verdicts are needed here: give benchmark.prompts=own, or"
    " preference.source=teacher or detail where only preferences ask for it"
)
HELD_OUT, HELD_OUT_SEED = 512, 10_000  # pictures drawn beside a training set, and what is added to its seed


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What models are judged on, and how often."""

    # own: GenEval's generator over the data's classes, where it has some; none: held-out captions alone, and no judge
    prompts: Literal["own", "official", "none"] = "own"
    num_prompts: int = 50  # a task, of own prompts
    prompt_seed: int = 43
    copies: int = 4  # images a prompt
    seed: int = 42  # of the images
    extractor: str = "icon-clip"  # of FID and its kin: the name of what components.clip holds
    shown: int = 24  # pictures a cell that a report shows

    def __post_init__(self) -> None:
        require(self, "[1, inf)", "num_prompts", "copies")
        require(self, "[0, inf)", "shown")

    @property
    def has_judge(self) -> bool:
        """Whether models are judged by GenEval; else by pictures of held-out captions alone."""
        return self.prompts != "none"


class Data(Protocol):
    """Pictures with captions, by volume and diversity; what else there is to draw, to ask and to compare with.

    `latents` are all of the pictures encoded, where a training set is a part of them, and `detector` is the judge's.
    """

    @property
    def cannot_draw(self) -> str:
        """Why nothing new can be drawn; empty where there is a teacher that draws anything asked."""
        ...

    @property
    def splits(self) -> tuple[Split, ...]: ...

    @property
    def encoding(self) -> dict[str, Any]:
        """How its pictures and captions are stored encoded, as fields of `Encode`."""
        ...

    def check(self, model: MARConfig) -> None:
        """ValueError or FileNotFoundError, before anything is made, for what a study could not be made of."""
        ...

    def note(self, detector: Folder | None) -> str:
        """What a reader must know of these data and their judge, if there is one; empty where there is nothing."""
        ...

    def dataset(self, volume: str, diversity: str, seed: int) -> Step:
        """The step that gives the pictures of a training set, or all of them where it is a subset."""
        ...

    def subset(self, latents: Encode, volume: str, diversity: str, seed: int) -> Subset | None:
        """Which of the encoded pictures the training set holds; None for all."""
        ...

    def set_aside(self, dataset: Step) -> Step | None:
        """Pictures like those of a training set and not in it; None where each subset leaves out some of its own."""
        ...

    def prompts(self, benchmark: Benchmark, latents: Encode, detector: Folder) -> Asked: ...

    def captions(
        self, latents: Encode, detector: Folder, kind: Literal["training", "all"], *, count: int, seed: int
    ) -> TrainingCaptions | AllCaptions | AskNamed:
        """Where captions to learn preferences from are taken: the training set's own, or all that there are."""
        ...

    def own_captions(self) -> HoldOut | None:
        """Captions and pictures that no training set holds, as a benchmark of their own."""
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
    captions_kind: Literal["short", "dense", "mixed"] = "short"  # of training sets
    per_caption: int = 1  # pictures in a row of one caption, in training sets

    def __post_init__(self) -> None:
        world(self.world)
        require(self, "[1, inf)", "small", "large", "per_caption")

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

    @property
    def encoding(self) -> dict[str, Any]:
        return {}

    def check(self, model: MARConfig) -> None:
        _check_volumes(self.small, self.large)

    def note(self, detector: Folder | None) -> str:
        return ""

    def dataset(self, volume: str, diversity: str, seed: int) -> DrawIcons:
        # Each seed draws narrower sets anew, so that seeds hold the luck of which compositions these show, too.
        images, draw = _of_volume(volume, self.small, self.large), 0 if level(diversity) >= 1 else seed
        return DrawIcons(
            config=DatasetConfig(
                world=self.world, images=images, diversity=diversity, seed=seed, draw=draw, captions=self.captions_kind,
                per_caption=self.per_caption,
            )
        )  # fmt: skip

    def subset(self, latents: Encode, volume: str, diversity: str, seed: int) -> None:
        return None

    def set_aside(self, dataset: Step) -> DrawIcons:
        assert isinstance(dataset, DrawIcons)
        return DrawIcons(
            config=replace(dataset.config, images=HELD_OUT, per_caption=1, seed=HELD_OUT_SEED + dataset.config.seed)
        )

    def prompts(self, benchmark: Benchmark, latents: Encode, detector: Folder) -> IconPrompts | OfficialPrompts:
        if benchmark.prompts == "official":
            return OfficialPrompts()
        return IconPrompts(world=self.world, num_prompts=benchmark.num_prompts, seed=benchmark.prompt_seed)

    def captions(
        self, latents: Encode, detector: Folder, kind: Literal["training", "all"], *, count: int, seed: int
    ) -> TrainingCaptions | AllCaptions:
        if kind == "all":
            return AllCaptions(world=self.world)
        assert isinstance(latents.dataset, DrawIcons)
        return TrainingCaptions(dataset=latents.dataset.config)

    def own_captions(self) -> None:
        return None

    def drawn(self, benchmark: Benchmark, seed: int) -> DrawBenchmark:
        own = IconPrompts(world=self.world, num_prompts=benchmark.num_prompts, seed=benchmark.prompt_seed)
        return DrawBenchmark(prompts=own, copies=benchmark.copies, seed=seed)

    def reference(self, benchmark: Benchmark) -> DrawBenchmark:
        return self.drawn(benchmark, benchmark.seed + 1)


@dataclass(frozen=True, kw_only=True)
class OwnData:
    """A data set of one's own, as `python -m lightgen import` writes it; encoded once, training sets are parts of it.

    A narrow set is drawn from few clusters of captions (or as `by` says), a diverse one from all; both volumes of one
    seed come from the same clusters, and another seed draws others. A share of the pictures is held out of all.
    """

    folder: str
    small: int = 1000  # images
    large: int = 8000
    by: Literal["clusters", "captions", "compositions"] = "clusters"
    features: Literal["captions", "images"] = "captions"  # what is clustered
    clusters: int = 32
    narrow: float = 0.25  # share of the clusters that a narrow set is drawn from
    match: tuple[str, ...] = ()  # numbers that the sets agree in, beside the caption's length
    held_out: float = 0.1  # share, by a hash of the samples' keys
    captions_asked: int = 200  # held-out captions that models draw, and pictures that theirs are compared with
    kid_effect: float = 0.1  # smallest difference worth acting on, of KID and CLIP score on held-out captions: the
    clip_effect: float = 1.0  # scale of KID is that of the extractor's features, so choose it for yours

    def __post_init__(self) -> None:
        require(self, "[1, inf)", "small", "large", "clusters", "captions_asked")
        require(self, "[0, 1)", "narrow", "held_out")
        require(self, "[0, inf)", "kid_effect", "clip_effect")

    @property
    def cannot_draw(self) -> str:
        return f"{self.folder} holds pictures, and no teacher that could draw others"

    @property
    def splits(self) -> tuple[Split, ...]:
        return (
            Split(name="shared", label="objects that captions of every training set name together"),
            Split(name="diverse", label="objects that captions of some training sets name together"),
            Split(name="unseen", label="objects that no training set's caption names together"),
        )

    @property
    def encoding(self) -> dict[str, Any]:
        return {"dtype": "bfloat16", "once": False}

    def check(self, model: MARConfig) -> None:
        manifest = self._manifest()
        _check_volumes(self.small, self.large)
        left, held = self._left(), int(manifest["num_samples"] * self.held_out)
        if held < FEWEST_HELD_OUT:
            raise ValueError(
                f"data.held_out={self.held_out:g} of {manifest['num_samples']} images is about {held}; captions that no"
                f" training set holds, and copies, are measured on {FEWEST_HELD_OUT} at least: give a larger share"
            )
        if self.large > left:
            raise ValueError(
                f"{self.folder} holds {manifest['num_samples']} images, about {left} beside the held-out share: give"
                f" data.large={left} or fewer (and data.small below it)"
            )
        size = manifest.get("imported", {}).get("size")
        own = model.position_grid * model.token_pixels
        if size is not None and size != own:
            ways = f"import them again with --size {own}"
            fits = size % model.token_pixels == 0
            grid = f", or give model.position_grid={size // model.token_pixels}" if fits else ""
            raise ValueError(f"{self.folder} holds images of {size} px, the model generates {own} px: {ways}{grid}")

    def note(self, detector: Folder | None) -> str:
        data = (
            f"Data: {Path(self.folder).name}, {self._manifest()['num_samples']} images, {self.held_out:.0%} held out."
            f" {self._how_narrow()}"
        )
        if detector is None:
            return (
                f"{data} Judge: none (benchmark.prompts=none), so no GenEval; held-out captions are all that is asked."
            )
        known = known_classes(detector)
        few = (
            f" It knows {len(known)} classes only ({', '.join(known)}): GenEval asks for no others."
            if len(known) < 80
            else ""
        )
        return (
            f"{data} Judge: {detector.location.name} {detector.identity[:12]}.{few}"
            f" {_what_captions_name(captioned(self._place(), detector))}"
        )

    def dataset(self, volume: str, diversity: str, seed: int) -> TakeDataset:
        return TakeDataset(data=Folder(str(self._place())))

    def subset(self, latents: Encode, volume: str, diversity: str, seed: int) -> Subset:
        config = SubsetConfig(
            images=_of_volume(volume, self.small, self.large), diversity=diversity, by=self.by, clusters=self.clusters,
            features=self.features, narrow=self.narrow, seed=seed, match=self.match, room=self.large,
            held_out=self.held_out,
        )  # fmt: skip
        return Subset(latents=latents, config=config)

    def set_aside(self, dataset: Step) -> None:
        return None

    def prompts(self, benchmark: Benchmark, latents: Encode, detector: Folder) -> AskNamed:
        if not benchmark.has_judge:
            raise ValueError(NO_JUDGE)
        return self._asked(latents, detector, benchmark.prompts, benchmark.num_prompts, benchmark.prompt_seed)

    def captions(
        self, latents: Encode, detector: Folder, kind: Literal["training", "all"], *, count: int, seed: int
    ) -> AskNamed:
        return self._asked(latents, detector, "own", count, 1000 + seed)

    def own_captions(self) -> HoldOut:
        return HoldOut(dataset=self.dataset("large", "diverse", 0), share=self.held_out, count=self.captions_asked)

    def drawn(self, benchmark: Benchmark, seed: int) -> Step:
        raise ValueError(self.cannot_draw)

    def reference(self, benchmark: Benchmark) -> HoldOut:
        return self.own_captions()

    def _how_narrow(self) -> str:
        """Whether each seed can draw narrow sets of its own, as far as is known before anything is encoded."""
        groups = max(1, round(self.narrow * self.clusters))
        room = int(self._left() * groups / self.clusters)
        if self.by != "clusters" or self.large <= room:
            return "Each seed draws its narrow sets anew."
        return (
            f"Narrow sets are of {groups} of {self.clusters} clusters, which hold about {room} images where they are"
            f" even and must hold data.large={self.large}: where they cannot the largest clusters are taken, the same"
            " at every seed, or it is refused (give a smaller data.large, or a larger data.narrow)."
        )

    def _left(self) -> int:
        """Images beside the held-out share, about."""
        return int(self._manifest()["num_samples"] * (1 - self.held_out))

    def _asked(self, latents: Encode, detector: Folder, kind: str, count: int, seed: int) -> AskNamed:
        return AskNamed(
            latents=latents, detector=detector, kind=kind, num_prompts=count, seed=seed, share=self.held_out
        )

    def _place(self) -> Path:
        return Path(self.folder).resolve()

    def _manifest(self) -> dict[str, Any]:
        path = self._place() / "manifest.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"{self.folder} is no finished data set (no manifest.json): python -m lightgen import PICTURES --out"
                f" {self.folder} --size N"
            )
        return read_json(path)


def _what_captions_name(found: dict[str, Any]) -> str:
    read = "Captions" if found["captions"] == found["of"] else f"{found['captions']} of {found['of']} captions"
    known = f" ({', '.join(found['known'])})" if found["known"] else ""
    return (
        f"{read} name {len(found['named'])} of GenEval's 80 classes, of which the judge knows {len(found['known'])}"
        f"{known}: {found['official_left_out']} of the 553 official prompts cannot be asked."
    )


def _check_volumes(small: int, large: int) -> None:
    if small > large:
        raise ValueError(f"data.small is {small} and data.large {large}; small is the smaller one")


def _of_volume(volume: str, small: int, large: int) -> int:
    if volume not in VOLUMES:
        raise ValueError(f"the volume is {volume!r}; valid: {', '.join(VOLUMES)}")
    return small if volume == "small" else large
