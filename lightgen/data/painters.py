"""Teachers: captions in, images out. Distillation is training on what a teacher drew (LightGen, section 4.3)."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from lightgen.data.images import read_image
from lightgen.data.shards import Sample, shard_paths, write_shards
from lightgen.disk.json_files import read_json
from lightgen.disk.seeds import derive_seed


class Teacher(Protocol):
    """Anything that draws one image per caption; the same caption and seed give the same image."""

    name: str

    def __call__(self, captions: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]: ...


def distill(
    teacher: Teacher,
    captions: Sequence[str],
    out: Path,
    *,
    copies: int = 1,
    seed: int = 0,
    batch_size: int = 16,
    shard_size: int = 1000,
    manifest: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write the teacher's images of the captions, `copies` of each, as a data set, and return its manifest.

    An image's seed comes from (seed, caption, copy), so it does not depend on the batch or on where a run resumed.
    `progress(done, total)` is called after each batch.
    """
    total = len(captions) * copies

    def draw_from(start: int) -> Iterator[Sample]:
        for first in range(start, total, batch_size):
            items = [divmod(index, copies) for index in range(first, min(first + batch_size, total))]
            prompts = [captions[caption] for caption, _ in items]
            seeds = [derive_seed(seed, captions[caption], copy) for caption, copy in items]
            images = teacher(prompts, seeds)
            if len(images) != len(prompts):
                raise ValueError(f"teacher {teacher.name} gave {len(images)} images for {len(prompts)} captions")
            for offset, (image, prompt, image_seed) in enumerate(zip(images, prompts, seeds)):
                record = {"prompt": prompt, "teacher": teacher.name, "seed": image_seed}
                yield Sample(f"{first + offset:08d}", image, record)
            if progress is not None:
                progress(min(first + batch_size, total), total)

    source = {
        "teacher": teacher.name,
        "seed": seed,
        "copies": copies,
        "captions_sha256": hashlib.sha256(json.dumps(list(captions)).encode()).hexdigest(),
    }
    return write_shards(draw_from, out, shard_size=shard_size, manifest={**(manifest or {}), **source})


class DiffusersTeacher:
    """Any diffusers text-to-image pipeline folder; each image has its own CPU generator."""

    def __init__(self, pipeline: Any, name: str, call: Mapping[str, Any] | None = None):
        self.pipeline, self.name, self.call = pipeline, name, dict(call or {})

    @classmethod
    def from_pretrained(cls, folder: Path, *, device: str = "cpu", call: Mapping[str, Any] | None = None):
        """Load a folder; `call` holds keyword arguments of the pipeline, e.g. {"guidance_scale": 3.5}."""
        pipeline = load_pipeline(folder).to(device)
        pipeline.set_progress_bar_config(disable=True)
        return cls(pipeline, Path(folder).name, call)

    def __call__(self, captions: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        import torch

        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return self.pipeline(prompt=list(captions), generator=generators, **self.call).images


def load_pipeline(folder: Path) -> Any:
    """The pipeline in a local diffusers folder, ours or a diffusers one, in evaluation mode; nothing is fetched."""
    index = Path(folder) / "model_index.json"
    if not index.is_file():
        raise FileNotFoundError(f"{folder} is no pipeline folder (no model_index.json); give a local diffusers folder")
    from diffusers import DiffusionPipeline

    from lightgen.model.pipeline import LightGenPipeline

    if read_json(index).get("_class_name") == "LightGenPipeline":
        return LightGenPipeline.from_pretrained(folder)
    try:
        return DiffusionPipeline.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    except (OSError, AttributeError) as error:
        raise ValueError(f"{folder}: cannot be loaded as a diffusers pipeline ({error})") from error


class ShardTeacher:
    """A teacher whose images were drawn before: it answers captions from existing shards.

    `captions` lists the captions it knows; of several images with one caption, the seed chooses.
    """

    def __init__(self, folder: Path):
        self.name = Path(folder).name
        self._places: dict[str, list[tuple[Path, int, int]]] = defaultdict(list)
        for path in shard_paths(folder):
            for caption, offset, size in _image_places(path):
                self._places[caption].append((path, offset, size))
        self.captions = list(self._places)

    def __call__(self, captions: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        unknown = [caption for caption in captions if caption not in self._places]
        if unknown:
            raise ValueError(
                f"the shards {self.name} have no image for {len(unknown)} captions, e.g. {unknown[0][:200]!r}"
            )
        places = [self._places[caption] for caption in captions]
        return [self._read(*options[seed % len(options)]) for options, seed in zip(places, seeds)]

    @staticmethod
    def _read(path: Path, offset: int, size: int) -> Image.Image:
        with open(path, "rb") as file:
            file.seek(offset, io.SEEK_SET)
            return read_image(file.read(size), f"{path} at byte {offset}")


def _image_places(path: Path) -> Iterator[tuple[str, int, int]]:
    """(caption, offset, size) of each sample's image bytes in a tar file."""
    images: dict[str, tuple[int, int]] = {}
    captions: dict[str, str] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                stem, _, kind = member.name.rpartition(".")
                if kind == "json":
                    captions[stem] = json.loads(archive.extractfile(member).read())["prompt"]  # type: ignore[union-attr]
                elif member.isfile():
                    images[stem] = (member.offset_data, member.size)
    except (tarfile.TarError, EOFError, json.JSONDecodeError, KeyError) as error:
        raise ValueError(f"{path}: torn or without prompts ({error}); write or fetch this shard again") from None
    for stem, caption in captions.items():
        if stem in images:
            yield caption, *images[stem]
