"""The latent cache: VAE moments of images and text features of captions, computed once, then read by training.

A cache is a folder: `latents_000000.safetensors` for each shard of the data set, with `moments` (n, 2C, h, w), the
caption number of each image, and the features of captions that were not seen in an earlier shard, end to end;
`captions_000000.json` with those captions; `index.json`, written last.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import ImageOps
from torch import Tensor

from lightgen.data.config import EncodeConfig
from lightgen.data.shards import Sample, read_shard, shard_paths
from lightgen.disk.atomic import atomic_file
from lightgen.disk.json_files import read_json, write_json
from lightgen.model.encoders import ImageTokenizer, TextEncoder, scaled_latents

SCHEMA = 1
RAM_LIMIT = 2**30  # bytes; a smaller cache is held in memory, a larger one is mapped


@dataclass(frozen=True)
class Batch:
    """What one training step reads."""

    latents: Tensor  # (B, C, h, w) shifted and scaled
    text: Tensor  # (B, L, D), zero past the true length unless the cache keeps padding
    text_lengths: Tensor  # (B,) long


def encode_dataset(
    shards: Path,
    out: Path,
    config: EncodeConfig = EncodeConfig(),  # noqa: B008
    *,
    tokenizer: ImageTokenizer,
    text: TextEncoder,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Encode a data set to `out` and return its index; the same call goes on after the last finished shard.

    Features end at their caption's true length unless `keep_padding` is set. `progress(done, total)` counts shards.
    ValueError for a bad sample (without `skip_bad`), other settings than `out` was begun with, and images of several
    sizes.
    """
    out, paths = Path(out), shard_paths(shards)
    settings = {
        "schema": SCHEMA,
        "vae": tokenizer_record(tokenizer),
        "text": text_record(text),
        "flips": config.flips,
        "keep_padding": config.keep_padding,
        "source": _source(shards, paths),
        # The type is stored only where it is not float32.
        **({"dtype": config.dtype} if config.dtype != "float32" else {}),
    }
    if (out / "index.json").is_file():
        return _finished(out, settings)
    done = _progress(out, settings)
    known = [caption for entry in done for caption in read_json(out / entry["captions"])]
    captions = {caption: number for number, caption in enumerate(known)}
    encoders = _Encoders(tokenizer, text, config)
    for number in range(len(done), len(paths)):
        done.append(_encode_shard(out, number, paths[number], encoders, captions))
        if (grid := done[-1]["grid"]) != done[0]["grid"]:
            raise ValueError(f"{paths[number]}: latents of {grid}, the shards before have {done[0]['grid']}")
        write_json(out / "progress.json", {"settings": settings, "shards": done})
        if progress is not None:
            progress(number + 1, len(paths))
    totals = {name: sum(entry[name] for entry in done) for name in ("rejected", "truncated")}
    index = {
        **settings,
        "num_samples": sum(entry["samples"] for entry in done),
        "num_captions": len(captions),
        "grid": done[0]["grid"],
        **totals,
        "shards": done,
    }
    index["identity"] = hashlib.sha256(json.dumps(index, sort_keys=True).encode()).hexdigest()
    write_json(out / "index.json", index)
    (out / "progress.json").unlink(missing_ok=True)
    return index


class LatentDataset:
    """A cache, ready to be read in any order; small ones are held in memory on `device`."""

    def __init__(self, folder: Path, *, device: torch.device | str = "cpu", ram_limit: int = RAM_LIMIT):
        folder = Path(folder)
        self.index = _read_index(folder)
        self.grid: tuple[int, int] = tuple(self.index["grid"])
        self.device = torch.device(device)
        files = [_load_shard(folder / entry["file"], entry) for entry in self.index["shards"]]
        in_memory = sum(entry["bytes"] for entry in self.index["shards"]) < ram_limit
        keep = self.device if in_memory else None
        self._moments = _Rows([file["moments"] for file in files], keep)
        self._mirrored = _Rows([file["mirrored"] for file in files], keep) if self.index["flips"] else None
        self._features = _Rows([file["features"] for file in files], keep)
        self._captions = torch.cat([file["caption"] for file in files])
        self._lengths = torch.cat([file["lengths"] for file in files])
        width = self.index["text"]["max_length"]
        self._spans = torch.full_like(self._lengths, width) if self.index["keep_padding"] else self._lengths
        self._starts = self._spans.cumsum(0) - self._spans
        vae = self.index["vae"]
        self._shift, self._scale = vae["shift"], vae["scale"]

    def __len__(self) -> int:
        return self.index["num_samples"]

    def batch(self, ids: Tensor, generator: torch.Generator, part: slice = slice(None)) -> Batch:
        """The samples `ids` (B,) long: latents drawn from their posteriors (and from the two mirror images, where the
        cache has flips) by the generator, which lies on the data set's device; text gathered. `part` of them is
        returned, as it is in the whole."""
        count, ids = len(ids), ids[part]
        moments = self._moments.take(ids).to(self.device)
        if self._mirrored is not None:
            mirrored = (torch.rand(count, generator=generator, device=self.device) < 0.5)[part]
            moments = torch.where(mirrored[:, None, None, None], self._mirrored.take(ids).to(self.device), moments)
        shape = (count, moments.shape[1] // 2, *self.grid)
        noise = torch.randn(shape, generator=generator, device=self.device)[part]
        latents = scaled_latents(moments, noise, shift=self._shift, scale=self._scale)
        return Batch(latents, *self._text(self._captions[ids]))

    def _text(self, captions: Tensor) -> tuple[Tensor, Tensor]:
        # Index arithmetic stays on the host, so that no length is read back from a device.
        spans = self._spans[captions]
        positions = torch.arange(int(spans.max()))
        inside = positions < spans[:, None]
        rows = (self._starts[captions][:, None] + positions * inside).flatten()
        features = self._features.take(rows).to(self.device, non_blocking=True).float().unflatten(0, inside.shape)
        kept, lengths = (part.to(self.device, non_blocking=True) for part in (inside, self._lengths[captions]))
        return features * kept[..., None], lengths


class _Rows:
    """Tensors joined along their first dimension: one tensor on a device, or many mapped from their files."""

    def __init__(self, tensors: Sequence[Tensor], device: torch.device | None):
        self.tensors = list(tensors) if device is None else [torch.cat(list(tensors)).to(device)]
        self.ends = torch.tensor([len(tensor) for tensor in self.tensors]).cumsum(0)

    def take(self, index: Tensor) -> Tensor:
        """The rows at `index` (n,)."""
        if len(self.tensors) == 1:
            return self.tensors[0].index_select(0, index.to(self.tensors[0].device, non_blocking=True))
        index = index.cpu()
        owners = torch.searchsorted(self.ends, index, right=True)
        first = self.tensors[0]
        rows = first.new_empty(len(index), *first.shape[1:])
        for owner in owners.unique().tolist():
            chosen = owners == owner
            start = int(self.ends[owner]) - len(self.tensors[owner])
            rows[chosen] = self.tensors[owner][index[chosen] - start]
        return rows


def tokenizer_record(tokenizer: ImageTokenizer) -> dict[str, Any]:
    """What of the image tokenizer decides the latents' values."""
    return {
        "identity": tokenizer.identity,
        "channels": tokenizer.channels,
        "stride": tokenizer.stride,
        "shift": float(tokenizer.shift),
        "scale": float(tokenizer.scale),
    }


def text_record(text: TextEncoder) -> dict[str, Any]:
    """What of the text encoder decides the features' values."""
    return {"identity": text.identity, "channels": text.channels, "max_length": text.max_length}


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
            raise ValueError(f"{where}, samples {batch[0].key} to {batch[-1].key}: {error}") from None


def _encode_shard(out: Path, number: int, path: Path, encoders: _Encoders, captions: dict[str, int]) -> dict[str, Any]:
    """Write one shard of the cache; new captions are added to `captions`."""
    config, known = encoders.config, len(captions)
    rejected: list[str] | None = [] if config.skip_bad else None
    moments, numbers = [], []
    for batch in _batched(read_shard(path, rejected=rejected), config.batch_size):
        moments.append(encoders.images(batch, path))
        numbers += [captions.setdefault(sample.prompt, len(captions)) for sample in batch]
    if not numbers:
        raise ValueError(f"{path}: no readable sample")
    fresh, before = list(captions)[known:], encoders.text.num_truncated
    features, lengths = encode_captions(encoders.text, fresh, config.batch_size, keep_padding=config.keep_padding)
    dtype = getattr(torch, config.dtype)
    tensors = {"caption": torch.tensor(numbers), "features": features.to(dtype), "lengths": lengths}
    for name, parts in zip(("moments", "mirrored"), zip(*moments)):
        tensors[name] = torch.cat(parts).to(dtype)
    return _write_shard(out, number, tensors, fresh, rejected or [], encoders.text.num_truncated - before)


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


def _write_shard(
    out: Path, number: int, tensors: dict[str, Tensor], fresh: list[str], rejected: list[str], truncated: int
) -> dict[str, Any]:
    from safetensors.torch import save

    name = f"latents_{number:06d}.safetensors"
    data = save({key: tensor.contiguous() for key, tensor in tensors.items()})
    write_json(out / f"captions_{number:06d}.json", fresh)
    with atomic_file(out / name) as file:
        file.write(data)
    return {
        "file": name,
        "captions": f"captions_{number:06d}.json",
        "samples": len(tensors["caption"]),
        "grid": list(tensors["moments"].shape[2:]),
        "rejected": len(rejected),
        "truncated": truncated,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def _batched(samples: Iterator[Sample], size: int) -> Iterator[list[Sample]]:
    batch: list[Sample] = []
    for sample in samples:
        batch.append(sample)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _source(folder: Path, paths: list[Path]) -> str:
    """The identity of the data set: its manifest's hash, or names and sizes where it has none."""
    manifest = Path(folder) / "manifest.json"
    described = (
        manifest.read_bytes() if manifest.is_file() else repr([(p.name, p.stat().st_size) for p in paths]).encode()
    )
    return hashlib.sha256(described).hexdigest()


def _finished(out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    index = _read_index(out)
    _refuse_other(out, index, settings)
    return index


def _progress(out: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    if not (out / "progress.json").is_file():
        return []
    progress = read_json(out / "progress.json")
    _refuse_other(out, progress["settings"], settings)
    return progress["shards"]


def _refuse_other(out: Path, have: dict[str, Any], want: dict[str, Any]) -> None:
    changed = [name for name in (*want, "dtype") if have.get(name) != want.get(name)]
    if changed:
        raise ValueError(f"{out} is a cache made with another {', '.join(changed)}; choose another folder or remove it")


def _read_index(folder: Path) -> dict[str, Any]:
    if not (folder / "index.json").is_file():
        raise FileNotFoundError(f"{folder} is no finished latent cache (no index.json); give `prepare` again")
    index = read_json(folder / "index.json")
    if index.get("schema") != SCHEMA:
        raise ValueError(
            f"{folder} is a cache of schema {index.get('schema')}, this version reads {SCHEMA}; encode again"
        )
    return index


def _load_shard(path: Path, entry: dict[str, Any]) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing, though the index names it; encode the data set again")
    try:
        if path.stat().st_size != entry["bytes"]:
            raise ValueError("its size differs from the index's")
        return load_file(path)
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is torn ({error}); encode the data set again") from None
