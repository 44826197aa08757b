"""Steps of one's own data: training sets as ids of one cache, what is held out, and copies of the trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablations.runner.step import Facts, Folder, Step, Work
from ablations.steps.encode import Encode
from lightgen.data.config import SubsetConfig
from lightgen.disk.json_files import read_json

if TYPE_CHECKING:
    import numpy as np
    import torch

COPIES_QUANTILE = 0.01  # of the held-out pictures' distances: what is nearer counts as a copy
_ROWS = 512


@dataclass(frozen=True, kw_only=True)
class Subset(Step):
    """subset.json: the ids of a part of the cache, its balance and how diverse it is."""

    latents: Encode
    config: SubsetConfig

    def run(self, work: Work) -> Facts:
        from geneval.prompts import OBJECTS
        from lightgen.data.subsets import draw_subset

        found = draw_subset(work.made(self.latents) / "latents", work.out / "subset.json", self.config, objects=OBJECTS)
        told = {name: found[name] for name in ("groups", "balance", "agreement")}
        return {"diversity": {"images": found["images"], **found["diversity"]}, **told}


def ids_of(subset: Subset, made: Any) -> list[int]:
    """The ids that a subset step wrote."""
    return read_json(made(subset) / "subset.json")["ids"]


@dataclass(frozen=True, kw_only=True)
class TakeDataset(Step):
    """dataset/: a link to an imported data set, whose shards are as its manifest says."""

    data: Folder

    def run(self, work: Work) -> Facts:
        from lightgen.data.shards import read_manifest

        folder = self.data.location.resolve()
        (work.out / "dataset").symlink_to(folder, target_is_directory=True)
        return {"images": read_manifest(folder)["num_samples"]}


@dataclass(frozen=True, kw_only=True)
class TakeSubset(Step):
    """dataset/: pictures of a subset, at most `images`, for what needs the pictures themselves."""

    dataset: TakeDataset
    subset: Subset
    images: int

    def run(self, work: Work) -> Facts:
        from itertools import islice

        from lightgen.data.shards import read_shards, write_shards

        ids = set(ids_of(self.subset, work.made))
        numbered = enumerate(read_shards(work.made(self.dataset) / "dataset"))
        chosen = (sample for number, sample in numbered if number in ids)
        manifest = write_shards(islice(chosen, self.images), work.out / "dataset")
        return {"images": manifest["num_samples"]}


@dataclass(frozen=True, kw_only=True)
class HoldOut(Step):
    """images/: pictures that no training set holds, in GenEval's folders, one a caption; their captions as prompts."""

    dataset: TakeDataset
    share: float  # of all pictures, by a hash of their keys
    count: int  # pictures at most

    @property
    def most(self) -> int:
        """Prompts at most."""
        return self.count

    def run(self, work: Work) -> Facts:
        from geneval.layout import sample_path, write_prompt_folder
        from geneval.prompts import Prompt, write_prompts
        from lightgen.data.pool import is_held_out
        from lightgen.data.shards import read_shards

        prompts: dict[str, Prompt] = {}
        for sample in read_shards(work.made(self.dataset) / "dataset"):
            if is_held_out(sample.key, self.share) and sample.prompt not in prompts and len(prompts) < self.count:
                prompt = Prompt("caption", sample.prompt)
                write_prompt_folder(work.out / "images", len(prompts), prompt)
                sample.image.save(sample_path(work.out / "images", len(prompts), 0))
                prompts[sample.prompt] = prompt
        if not prompts:
            raise ValueError(f"no picture is held out at a share of {self.share}; give data.held_out a larger one")
        write_prompts(list(prompts.values()), work.out)
        return {"images": len(prompts)}


@dataclass(frozen=True, kw_only=True)
class Copies(Step):
    """How near a model's pictures are to those it was trained on, against pictures that it never saw."""

    images: Step
    subset: Subset
    vae: Folder
    share: float  # that is held out

    def run(self, work: Work) -> Facts:
        import numpy as np
        import torch

        from lightgen.data.latents import LatentDataset
        from lightgen.data.pool import read_pool

        latents = work.made(self.subset.latents) / "latents"
        held = np.flatnonzero(read_pool(latents).held_out(self.share))[: 4 * _ROWS].tolist()
        if not held:
            raise ValueError(f"no picture is held out at a share of {self.share}; give data.held_out a larger one")
        trained, unseen = LatentDataset(latents, ids=ids_of(self.subset, work.made)), LatentDataset(latents, ids=held)
        own = _encoded(work, self.images, self.vae)
        theirs = unseen.modes(torch.arange(len(held)))
        found, expected = _nearest(own, trained), _nearest(theirs, trained)
        return {"metrics": copy_metrics(found, expected)}


@dataclass(frozen=True, kw_only=True)
class NearestPictures(Step):
    """As `Copies`, for a training set that is used whole: held-out pictures are a data set of their own."""

    images: Step
    latents: Encode
    held: Encode

    def run(self, work: Work) -> Facts:
        import torch

        from lightgen.data.latents import LatentDataset

        trained, held = (LatentDataset(work.made(step) / "latents") for step in (self.latents, self.held))
        own = _encoded(work, self.images, self.latents.vae)
        theirs = held.modes(torch.arange(len(held)))
        return {"metrics": copy_metrics(_nearest(own, trained), _nearest(theirs, trained))}


def copy_metrics(found: np.ndarray, expected: np.ndarray) -> dict[str, Any]:
    """Of distances (n,) from samples and (m,) from held-out pictures to their nearest training pictures."""
    import numpy as np

    near = float(np.quantile(expected, COPIES_QUANTILE))
    values = {
        "copies/share": (float((found < near).mean()), False, f"nearer than {1 - COPIES_QUANTILE:.0%} of held-out"),
        "copies/distance": (
            float(np.median(found) / np.median(expected)),
            True,
            "median over held-out pictures' median",
        ),
    }
    shared = {"ci": None, "n": len(found)}
    return {
        name: {"value": value, "higher_is_better": better, "version": f"{text}; n={len(expected)}; latents", **shared}
        for name, (value, better, text) in values.items()
    }


def _encoded(work: Work, images: Step, vae: Folder) -> torch.Tensor:
    """The latents of a step's pictures."""
    import torch

    from lightgen.data.images import read_image
    from lightgen.device import choose_device
    from lightgen.model.encoders import ImageTokenizer

    tokenizer = ImageTokenizer.from_pretrained(vae.location).to(choose_device(work.runtime.device))
    paths = sorted((work.made(images) / "images").rglob("*.png"))
    parts = []
    for first in range(0, len(paths), 64):
        moments = tokenizer.moments([read_image(path) for path in paths[first : first + 64]])
        parts.append(tokenizer.latents(moments, None).cpu())
    return torch.cat(parts)


def _nearest(values: torch.Tensor, trained: Any) -> np.ndarray:
    """The distance of each of some latents to the nearest one of a data set; large ones are averaged in fields."""
    import torch
    from torch.nn.functional import adaptive_avg_pool2d

    def flat(latents: torch.Tensor) -> torch.Tensor:
        grid = (min(16, latents.shape[2]), min(16, latents.shape[3]))
        return adaptive_avg_pool2d(latents.float(), grid).flatten(1)

    values = flat(values)
    best = torch.full((len(values),), float("inf"))
    for first in range(0, len(trained), _ROWS):
        block = flat(trained.modes(torch.arange(first, min(first + _ROWS, len(trained)))))
        best = torch.minimum(best, torch.cdist(values, block).amin(1))
    return best.numpy()
