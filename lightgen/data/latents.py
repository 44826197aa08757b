"""The latent cache: moments of images and text features of captions, computed once, then read by training.

A cache is a folder: `latents_000000.safetensors` for each shard of the data set, with `moments` (n, 2C, h, w), the
caption number of each image, and the features of captions, end to end; `captions_000000.json` with those captions;
`samples_000000.json` with the samples' keys and numbers (a score, say); `index.json`, written last. A shard holds the
captions of its own images, or, where captions were encoded once for the whole set, those that no earlier shard has.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lightgen.data.cache_files import load_shard, read_index
from lightgen.model.encoders import scaled_latents

RAM_LIMIT = 2**30  # bytes; what is smaller is held in memory, what is larger is mapped


@dataclass(frozen=True)
class Batch:
    """What one training step reads."""

    latents: Tensor  # (B, C, h, w) shifted and scaled
    text: Tensor  # (B, L, D), zero past the true length unless the cache keeps padding
    text_lengths: Tensor  # (B,) long


@dataclass(frozen=True)
class _Rows:
    """What a cache holds of some samples, before anything is drawn."""

    moments: Tensor  # (B, 2C or C, h, w)
    mirrored: Tensor | None
    features: Tensor  # (B * L, D), with any row where `inside` is false
    inside: Tensor  # (B, L) bool
    lengths: Tensor  # (B,)

    def to(self, device: torch.device) -> _Rows:
        """On the device; from pinned memory while the host goes on."""
        tensors = (self.moments, self.mirrored, self.features, self.inside, self.lengths)
        return _Rows(*(None if t is None else t.to(device, non_blocking=True) for t in tensors))  # type: ignore[arg-type]

    def pinned(self) -> _Rows:
        tensors = (self.moments, self.mirrored, self.features, self.inside, self.lengths)
        return _Rows(*(None if t is None else t.pin_memory() for t in tensors))  # type: ignore[arg-type]


class LatentDataset:
    """A cache, or the samples `ids` of it, ready to be read in any order; what is small is held in memory on `device`.

    What is larger is mapped from disk, and `prefetch` gathers a batch while the one before is used. ValueError for ids
    that the cache does not have.
    """

    def __init__(
        self,
        folder: Path,
        *,
        ids: Sequence[int] | None = None,
        device: torch.device | str = "cpu",
        ram_limit: int = RAM_LIMIT,
    ):
        folder = Path(folder)
        self.index = read_index(folder)
        self.grid: tuple[int, int] = tuple(self.index["grid"])
        self.device = torch.device(device)
        files = [load_shard(folder, entry) for entry in self.index["shards"]]
        self._lengths = torch.cat([file["lengths"] for file in files])
        width = self.index["text"]["max_length"]
        self._spans = torch.full_like(self._lengths, width) if self.index["keep_padding"] else self._lengths
        self._starts = self._spans.cumsum(0) - self._spans
        self._captions = _caption_numbers(files, self.index.get("once", True))
        if int(self._captions.max()) >= len(self._lengths):
            raise ValueError(f"{folder}: an image names caption {int(self._captions.max())} of {len(self._lengths)}")
        self._moments = _Joined([file["moments"] for file in files])
        self._mirrored = _Joined([file["mirrored"] for file in files]) if self.index["flips"] else None
        self._features = _Joined([file["features"] for file in files])
        self._ids = None if ids is None else _checked_ids(ids, self.index["num_samples"], folder)
        share = 1.0 if self._ids is None else len(self._ids) / self.index["num_samples"]
        self.is_mapped = share * sum(entry["bytes"] for entry in self.index["shards"]) >= ram_limit
        if not self.is_mapped:
            self._hold()
        self._thread = ThreadPoolExecutor(1) if self.is_mapped else None
        self._next: tuple[Tensor, Future[_Rows]] | None = None

    def __len__(self) -> int:
        return self.index["num_samples"] if self._ids is None else len(self._ids)

    def batch(self, ids: Tensor, generator: torch.Generator, part: slice = slice(None)) -> Batch:
        """The samples `ids` (B,) long, numbers below the length: latents drawn from their posteriors (and from the two
        mirror images, where the cache has flips) by the generator, which lies on the data set's device; text gathered.
        `part` of them is returned, as it is in the whole."""
        rows = self._taken(ids[part]).to(self.device)
        moments = rows.moments
        if rows.mirrored is not None:
            mirrored = (torch.rand(len(ids), generator=generator, device=self.device) < 0.5)[part]
            moments = torch.where(mirrored[:, None, None, None], rows.mirrored, moments)
        shape = (len(ids), self.index["vae"]["channels"], *self.grid)
        noise = torch.randn(shape, generator=generator, device=self.device)[part]
        features = rows.features.float().unflatten(0, rows.inside.shape) * rows.inside[..., None]
        return Batch(self._scaled(moments, noise), features, rows.lengths)

    def modes(self, ids: Tensor) -> Tensor:
        """The likeliest latents (B, C, h, w) of the samples `ids`, on the data set's device."""
        rows = ids if self._ids is None or not self.is_mapped else self._ids[ids]
        return self._scaled(self._moments.take(rows).to(self.device), None)

    def prefetch(self, ids: Tensor) -> None:
        """Gather the samples `ids` in the background, for the next call of `batch`; nothing where all is in memory."""
        if self._thread is not None:
            self._next = (ids, self._thread.submit(self._gathered, ids))

    def _taken(self, ids: Tensor) -> _Rows:
        if self._next is not None and torch.equal(self._next[0], ids):
            return self._next[1].result()
        return self._gathered(ids)

    def _gathered(self, ids: Tensor) -> _Rows:
        rows = ids if self._ids is None or not self.is_mapped else self._ids[ids]
        captions = self._captions[rows]
        # Index arithmetic stays on the host, so that no length is read back from a device.
        spans = self._spans[captions]
        positions = torch.arange(int(spans.max()))
        inside = positions < spans[:, None]
        places = (self._starts[captions][:, None] + positions * inside).flatten()
        mirrored = None if self._mirrored is None else self._mirrored.take(rows)
        found = _Rows(self._moments.take(rows), mirrored, self._features.take(places), inside, self._lengths[captions])
        return found.pinned() if self.is_mapped and self.device.type == "cuda" else found

    def _hold(self) -> None:
        """Keep what the ids need in memory, on the device, and nothing else."""
        if self._ids is None:
            self._moments, self._features = self._moments.on(self.device), self._features.on(self.device)
            self._mirrored = self._mirrored and self._mirrored.on(self.device)
            return
        self._moments = _Joined([self._moments.take(self._ids)]).on(self.device)
        self._mirrored = self._mirrored and _Joined([self._mirrored.take(self._ids)]).on(self.device)
        kept, self._captions = self._captions[self._ids].unique(return_inverse=True)
        starts, spans = self._starts[kept], self._spans[kept]
        places = torch.cat([torch.arange(s, s + n) for s, n in zip(starts.tolist(), spans.tolist())])
        self._features = _Joined([self._features.take(places)]).on(self.device)
        self._lengths, self._spans = self._lengths[kept], spans
        self._starts = spans.cumsum(0) - spans

    def _scaled(self, moments: Tensor, noise: Tensor | None) -> Tensor:
        vae = self.index["vae"]
        return scaled_latents(moments, noise, channels=vae["channels"], shift=vae["shift"], scale=vae["scale"])


class _Joined:
    """Tensors joined along their first dimension: one tensor on a device, or many mapped from their files."""

    def __init__(self, tensors: Sequence[Tensor]):
        self.tensors = list(tensors)
        self.ends = torch.tensor([len(tensor) for tensor in self.tensors]).cumsum(0)
        self.starts = [0, *self.ends.tolist()]

    def on(self, device: torch.device) -> _Joined:
        """As one tensor on the device."""
        return _Joined([torch.cat(self.tensors).to(device)])

    def take(self, index: Tensor) -> Tensor:
        """The rows at `index` (n,)."""
        if len(self.tensors) == 1:
            return self.tensors[0].index_select(0, index.to(self.tensors[0].device, non_blocking=True))
        values, order = index.cpu().sort()
        parts, begin = [], 0
        for tensor, start, end in zip(self.tensors, self.starts, torch.searchsorted(values, self.ends).tolist()):
            if end > begin:
                parts.append(tensor.index_select(0, values[begin:end] - start))
                begin = end
        rows = torch.cat(parts or [self.tensors[0][:0]])
        return torch.empty_like(rows).index_copy_(0, order, rows)


def _caption_numbers(files: Sequence[dict[str, Tensor]], once: bool) -> Tensor:
    """Each image's caption number among all captions; where captions were not encoded once, shards number their own."""
    if once:
        return torch.cat([file["caption"] for file in files])
    counts = torch.tensor([0, *(len(file["lengths"]) for file in files)]).cumsum(0)
    return torch.cat([file["caption"] + first for file, first in zip(files, counts)])


def _checked_ids(ids: Sequence[int], length: int, folder: Path) -> Tensor:
    found = torch.as_tensor(ids, dtype=torch.long)
    if not len(found) or int(found.min()) < 0 or int(found.max()) >= length:
        raise ValueError(f"{folder} holds samples 0 to {length - 1}; the ids are none of them, or some lie beyond")
    if len(found.unique()) < len(found):
        raise ValueError(f"{len(found) - len(found.unique())} ids are named twice; a subset names a sample once")
    return found
