"""Painters: captions and seeds in, images out. A teacher is one, and so is a model that draws its own samples."""

from __future__ import annotations

import io
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from lightgen.data.images import read_image
from lightgen.data.shards import MAX_BYTES, whole_shards
from lightgen.disk.json_files import parse_json, read_object, typed
from lightgen.disk.tar_files import content, read_members
from lightgen.disk.weight_files import check_sizes


class Painter(Protocol):
    """Anything that draws one image per caption; the same caption and seed give the same image."""

    name: str

    def __call__(self, captions: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]: ...


def load_painter(folder: Path, *, device: Any = "cpu", call: Mapping[str, Any] | None = None) -> Painter:
    """The painter in a folder: a model, a diffusers pipeline, or shards whose images are taken over."""
    if any((Path(folder) / name).is_file() for name in ("components.json", "model_index.json")):
        return DiffusersPainter.from_pretrained(folder, device=device, call=call)
    return ShardPainter(folder)


class DiffusersPainter:
    """Any text-to-image pipeline with the diffusers interface; each image has its own CPU generator."""

    def __init__(self, pipeline: Any, name: str, call: Mapping[str, Any] | None = None):
        self.pipeline, self.name, self.call = pipeline, name, dict(call or {})
        self._said = _Once()

    @classmethod
    def from_pretrained(cls, folder: Path, *, device: Any = "cpu", call: Mapping[str, Any] | None = None):
        """Load a model or pipeline folder; `call` holds keyword arguments of the pipeline, e.g. guidance_scale."""
        pipeline = _pipeline(folder).to(device)
        pipeline.set_progress_bar_config(disable=True)
        return cls(pipeline, Path(folder).name, call)

    def __call__(self, captions: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        import torch

        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        with self._said:
            return self.pipeline(prompt=list(captions), generator=generators, **self.call).images


class _Once(logging.Filter):
    """Within the block a place in a library that warns, as of a caption that was cut, does so the first time alone."""

    libraries = ("diffusers", "transformers")  # their root loggers, through whose handlers all of their lines go

    def __init__(self) -> None:
        super().__init__()
        self.first: dict[tuple[str, int], logging.LogRecord] = {}  # of each place; several handlers ask about it

    def filter(self, record: logging.LogRecord) -> bool:
        return self.first.setdefault((record.pathname, record.lineno), record) is record

    def __enter__(self) -> None:
        self._handlers = [handler for name in self.libraries for handler in logging.getLogger(name).handlers]
        for handler in self._handlers:
            handler.addFilter(self)

    def __exit__(self, *error: object) -> None:
        for handler in self._handlers:
            handler.removeFilter(self)


def _pipeline(folder: Path) -> Any:
    """The pipeline in a local folder, ours or a diffusers one, in evaluation mode; nothing is fetched."""
    from diffusers import DiffusionPipeline

    from lightgen.model.encoders import refuse_not_finite
    from lightgen.model.folder import load_pipeline

    for part in (Path(folder), *Path(folder).glob("*/")):
        check_sizes(part)
    index = Path(folder) / "model_index.json"
    if not index.is_file() or read_object(index).get("_class_name") == "LightGenPipeline":
        ours = load_pipeline(folder)
        try_tokenizer(ours.tokenizer, folder)
        return ours
    _check_components(index)
    try:
        pipeline = DiffusionPipeline.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    except Exception as error:  # damaged weights and settings raise anything from KeyError to SafetensorError
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ValueError(f"{folder}: cannot be loaded as a diffusers pipeline ({reason})") from None
    for part in pipeline.components.values():
        if hasattr(part, "state_dict") and hasattr(part, "named_parameters"):
            refuse_not_finite(part, folder)
    return pipeline


def try_tokenizer(tokenizer: Any, where: object) -> None:
    """ValueError for a tokenizer whose settings cannot be used: they are not looked at before its first text."""
    try:
        tokenizer(["a", "two Zebras, \u00e9 \u03a9 \u6f22 \U0001f600"])  # what no vocabulary holds, too
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # anything from TypeError to the panic of the Rust library
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ValueError(f"{where}: its tokenizer cannot be used ({reason}); copy it again") from None


def _check_components(index: Path) -> None:
    """Refuse a component of another package: diffusers imports what a folder names."""
    from diffusers import pipelines

    for name, value in read_object(index).items():
        if isinstance(value, list) and value and isinstance(value[0], str):
            # A pipeline's own classes stand under its module's name, as ["stable_diffusion", "...SafetyChecker"].
            is_own = value[0].isidentifier() and hasattr(pipelines, value[0])
            if not is_own and value[0].split(".")[0] not in ("diffusers", "transformers"):
                raise ValueError(f"{index}: component {name!r} is of {value[0][:100]!r}; allowed are diffusers' and"
                                 " transformers' own")  # fmt: skip


class ShardPainter:
    """Images that were drawn before: captions are answered from existing shards.

    `captions` lists the captions it knows; of several images with one caption, the seed chooses.
    """

    def __init__(self, folder: Path):
        self.name = Path(folder).name
        self._places: dict[str, list[tuple[Path, int, int]]] = defaultdict(list)
        for path, _ in whole_shards(folder):
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
    for member in read_members(path):
        stem, _, kind = member.name.rpartition(".")
        if kind == "json":
            where = f"{path}, {member.name}"
            record = parse_json(content(path, member, MAX_BYTES), where, "write or fetch this shard again")
            captions[stem] = typed(record, where, prompt=str)["prompt"]
        else:
            if member.size > MAX_BYTES:
                raise ValueError(f"{path}, {member.name}: claims {member.size:,} bytes; the limit is {MAX_BYTES:,}")
            images[stem] = (member.offset_data, member.size)
    if alone := sorted(images.keys() ^ captions.keys()):
        raise ValueError(f"{path}: {alone[0]} lacks its picture or its prompt; write or fetch this shard again")
    for stem, caption in captions.items():
        yield caption, *images[stem]
