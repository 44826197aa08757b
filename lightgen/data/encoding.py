"""Encoding: a data set's images to moments of their latents and its captions to text features, once, as a cache.

Every shard of the data set becomes one of the cache, written whole or not at all, with its entry in OUT/progress; so
any number of processes can share the work, a kill costs the shard under way, and whoever finishes last writes the
index. `latents.py` says what a cache holds.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from PIL import ImageOps, ImageStat
from torch import Tensor

from lightgen.data.cache_files import SCHEMA, index_identity, read_index, read_listed
from lightgen.data.config import EncodeConfig
from lightgen.data.originals import numbers_of
from lightgen.data.shards import Sample, read_manifest, read_shard, read_shard_prompts, shard_paths
from lightgen.disk.atomic import atomic_file
from lightgen.disk.folders import file_sha256
from lightgen.disk.json_files import read_object, write_json, write_sealed
from lightgen.disk.tar_files import tar_file
from lightgen.model.encoders import ImageTokenizer, TextEncoder

# Stored only where they are not these, so that a cache keeps its identity when a setting is added.
_NEUTRAL = {"dtype": "float32", "once": True}


def encode_dataset(
    shards: Path,
    out: Path,
    config: EncodeConfig = EncodeConfig(),  # noqa: B008
    *,
    tokenizer: ImageTokenizer,
    text: TextEncoder,
    shard: tuple[int, int] = (0, 1),
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any] | None:
    """Encode this process's shards (I of N) to `out`; return the index, or None while other processes have some left.

    The same call goes on after finished shards. Features end at their caption's true length unless `keep_padding` is
    set. `progress(done, total)` counts shards. What is written does not depend on the number of processes. ValueError
    for a bad sample (without `skip_bad`), other settings than `out` was begun with, a shard that is not what its
    manifest says, and images of several sizes.
    """
    out, paths = Path(out), shard_paths(shards)
    if config.once and config.skip_bad and shard[1] > 1:
        raise ValueError(
            "which captions a shard brings anew depends on the bad samples before it: "
            "leave out one of --once, --skip-bad and --shard"
        )
    hashes = _hashes(Path(shards))
    settings = _settings(tokenizer, text, config, Path(shards), hashes)
    if (out / "index.json").is_file():
        return _finished(out, settings)
    _claim(out, settings)
    encoders, captions = _Encoders(tokenizer, text, config), dict[str, int]()
    todo = [number for number in range(shard[0], len(paths), shard[1]) if not _entry(out, number).is_file()]
    for number in range(todo[-1] + 1 if todo else 0):
        if number not in todo:
            if config.once:
                _learn(captions, out, number, paths[number])
            continue
        if hashes and file_sha256(paths[number]) != hashes[paths[number].name]:
            raise ValueError(
                f"{paths[number]}: sha256 differs from the manifest's; the shard has changed, import again"
            )
        entry = _encode_shard(out, number, paths[number], encoders, captions if config.once else {})
        _refuse_other_grid(out, entry, paths[number], shards)
        write_sealed(_entry(out, number), entry)
        if progress is not None:
            progress(number + 1, len(paths))
    return _merged(out, settings, len(paths))


def _learn(captions: dict[str, int], out: Path, number: int, path: Path) -> None:
    """Count the captions of a shard that this process does not encode: of a finished one those that were new in it."""
    entry, known = _entry(out, number), list[str]()
    if entry.is_file():
        known = read_listed(out, read_object(entry, captions=str), "captions", "captions_sha256")
    else:
        known = read_shard_prompts(path)
    for caption in known:
        captions.setdefault(caption, len(captions))


def tokenizer_record(tokenizer: ImageTokenizer) -> dict[str, Any]:
    """What of the image tokenizer decides the latents' values."""
    name = type(tokenizer.vae).__name__
    return {
        "identity": tokenizer.identity,
        "channels": tokenizer.channels,
        "stride": tokenizer.stride,
        "shift": float(tokenizer.shift),
        "scale": float(tokenizer.scale),
        **({} if name == "AutoencoderKL" else {"class": name}),
    }


def text_record(text: TextEncoder) -> dict[str, Any]:
    """What of the text encoder decides the features' values."""
    name = type(text.model).__name__
    record = {"identity": text.identity, "channels": text.channels, "max_length": text.max_length}
    return record if name == "T5EncoderModel" else {**record, "class": name, "features": "last hidden state"}


def encode_captions(
    text: TextEncoder, captions: Sequence[str], batch_size: int, *, keep_padding: bool = False
) -> tuple[Tensor, Tensor]:
    """(features (T, D) of all captions end to end, true lengths (n,)); with `keep_padding`, T = n * max_length."""
    parts, lengths = [torch.empty(0, text.channels)], [torch.empty(0, dtype=torch.long)]
    for first in range(0, len(captions), batch_size):
        encoded, true = text(list(captions[first : first + batch_size]), pad=keep_padding)
        encoded, true = encoded.cpu(), true.cpu()
        inside = torch.arange(encoded.shape[1]) < true[:, None]
        parts.append(encoded.flatten(0, 1) if keep_padding else encoded[inside])
        lengths.append(true)
    return torch.cat(parts), torch.cat(lengths)


@dataclass(frozen=True)
class _Encoders:
    tokenizer: ImageTokenizer
    text: TextEncoder
    config: EncodeConfig

    def images(self, batch: list[Sample], where: Path) -> list[Tensor]:
        """Moments (B, 2C, h, w) of the samples' images and, with flips, of their mirror images."""
        pictures = [[sample.image for sample in batch]]
        if self.config.flips:
            pictures.append([ImageOps.mirror(image) for image in pictures[0]])
        try:
            return [self.tokenizer.moments(images).cpu() for images in pictures]
        except ValueError as error:
            raise ValueError(
                f"{where}, samples {batch[0].key} to {batch[-1].key}: {error}; {_resize(where.parent)}"
            ) from None


def _resize(folder: Path) -> str:
    return f"bring them to one: python -m lightgen import {folder} --out NEW --size N"


def _settings(
    tokenizer: ImageTokenizer, text: TextEncoder, config: EncodeConfig, folder: Path, hashes: dict[str, str]
) -> dict[str, Any]:
    """Everything that decides what the cache holds."""
    chosen = {"dtype": config.dtype, "once": config.once}
    manifest = folder / "manifest.json"
    source = (
        manifest.read_bytes()
        if hashes
        else json.dumps([file_sha256(tar_file(path)) for path in shard_paths(folder)]).encode()
    )
    return {
        "schema": SCHEMA,
        "vae": tokenizer_record(tokenizer),
        "text": text_record(text),
        "flips": config.flips,
        "keep_padding": config.keep_padding,
        "source": hashlib.sha256(source).hexdigest(),
        **{name: value for name, value in chosen.items() if value != _NEUTRAL[name]},
    }


def _hashes(folder: Path) -> dict[str, str]:
    """{shard: sha256} of a manifest; none where there is no manifest."""
    if not (folder / "manifest.json").is_file():
        return {}
    return {shard["file"]: shard["sha256"] for shard in read_manifest(folder)["shards"]}


def _entry(out: Path, number: int) -> Path:
    return out / "progress" / f"{number:06d}.json"


def _encode_shard(out: Path, number: int, path: Path, encoders: _Encoders, captions: dict[str, int]) -> dict[str, Any]:
    """Write one shard of the cache; new captions are added to `captions`."""
    config, known = encoders.config, len(captions)
    rejected: list[str] | None = [] if config.skip_bad else None
    moments, numbers, samples = [], [], list[dict[str, Any]]()
    for batch in _batched(read_shard(path, rejected=rejected), config.batch_size):
        moments.append(encoders.images(batch, path))
        numbers += [captions.setdefault(sample.prompt, len(captions)) for sample in batch]
        samples += [{"key": sample.key, "numbers": _numbers(sample)} for sample in batch]
    if not numbers:
        raise ValueError(f"{path}: no readable sample")
    fresh, before = list(captions)[known:], encoders.text.num_truncated
    if not config.once:  # captions of about one length share a pass; which caption has which number is this shard's own
        order = sorted(range(len(fresh)), key=lambda place: len(fresh[place]))
        places = {place: rank for rank, place in enumerate(order)}
        fresh, numbers = [fresh[place] for place in order], [places[place] for place in numbers]
    features, lengths = encode_captions(encoders.text, fresh, config.batch_size, keep_padding=config.keep_padding)
    dtype = getattr(torch, config.dtype)
    tensors = {"caption": torch.tensor(numbers), "features": features.to(dtype), "lengths": lengths}
    for name, parts in zip(("moments", "mirrored"), zip(*moments)):
        tensors[name] = torch.cat(parts).to(dtype)
    truncated = encoders.text.num_truncated - before
    return _write_shard(out, number, tensors, fresh, samples) | {
        "rejected": len(rejected or []),
        "truncated": truncated,
    }


def _write_shard(
    out: Path, number: int, tensors: dict[str, Tensor], fresh: list[str], samples: list[dict[str, Any]]
) -> dict[str, Any]:
    from safetensors.torch import save

    names = [f"latents_{number:06d}.safetensors", f"captions_{number:06d}.json", f"samples_{number:06d}.json"]
    data = save({key: tensor.contiguous() for key, tensor in tensors.items()})
    write_json(out / names[1], fresh)
    write_json(out / names[2], _columns(samples))
    with atomic_file(out / names[0]) as file:
        file.write(data)
    return {
        **dict(zip(("file", "captions", "samples_file"), names)),
        "samples": len(samples),
        "num_captions": len(fresh),
        "grid": list(tensors["moments"].shape[2:]),
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "captions_sha256": file_sha256(out / names[1]),
        "samples_sha256": file_sha256(out / names[2]),
    }


def _numbers(sample: Sample) -> dict[str, float]:
    """The numbers of its record, and its picture's mean and deviation in grey levels."""
    grey = ImageStat.Stat(sample.image.convert("L"))
    return {**numbers_of(sample.record), "brightness": grey.mean[0], "contrast": grey.stddev[0]}


def _columns(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """The samples' keys, and those of their numbers that all of them have."""
    shared = set.intersection(*(set(sample["numbers"]) for sample in samples))
    numbers = {name: [sample["numbers"][name] for sample in samples] for name in sorted(shared)}
    return {"keys": [sample["key"] for sample in samples], "numbers": numbers}


def _batched(samples: Iterator[Sample], size: int) -> Iterator[list[Sample]]:
    batch: list[Sample] = []
    for sample in samples:
        batch.append(sample)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _refuse_other_grid(out: Path, entry: dict[str, Any], path: Path, shards: Path) -> None:
    first = next(iter(sorted((out / "progress").glob("*.json"))), None)
    if first is not None and (before := read_object(first, grid=list)["grid"]) != entry["grid"]:
        raise ValueError(
            f"{path}: latents of {entry['grid']}, the shards before have {before}; the images have several sizes,"
            f" {_resize(Path(shards))}"
        )


def _merged(out: Path, settings: dict[str, Any], count: int) -> dict[str, Any] | None:
    """The index, written once every shard is there."""
    with FileLock(out / ".lock"):
        if (out / "index.json").is_file():
            return read_index(out)
        if not all(_entry(out, number).is_file() for number in range(count)):
            return None
        entries = [read_object(_entry(out, number), grid=list, samples=int) for number in range(count)]
        for entry in entries:
            if entry["grid"] != entries[0]["grid"]:
                raise ValueError(
                    f"{out}: latents of {entry['grid']} and {entries[0]['grid']}; {_resize(Path('DATASET'))}"
                )
        names = {"num_samples": "samples", "num_captions": "num_captions"}
        totals = {**names, "rejected": "rejected", "truncated": "truncated"}
        index = {
            **settings,
            **{total: sum(entry[name] for entry in entries) for total, name in totals.items()},
            "grid": entries[0]["grid"],
            "shards": entries,
        }
        index["identity"] = index_identity(index)
        write_json(out / "index.json", index)
        shutil.rmtree(out / "progress")
    return index


def _claim(out: Path, settings: dict[str, Any]) -> None:
    """Begin the folder, or go on with it if it was begun with these settings."""
    if (out / "settings.json").is_file():
        _refuse_other(out, read_object(out / "settings.json"), settings)
    else:
        write_json(out / "settings.json", settings)


def _finished(out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    index = read_index(out)
    _refuse_other(out, index, settings)
    return index


def _refuse_other(out: Path, have: dict[str, Any], want: dict[str, Any]) -> None:
    changed = [name for name in dict.fromkeys((*want, *_NEUTRAL)) if have.get(name) != want.get(name)]
    if changed:
        raise ValueError(f"{out} is a cache made with another {', '.join(changed)}; choose another folder or remove it")
