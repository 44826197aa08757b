"""What subsets are drawn from: the samples of a latent cache, by caption, key and numbers.

Features for clustering are whole numbers, and everything made of them is exact, so that the same seed gives the same
clusters, and the same subset, on any machine: each dimension is scaled by its deviation and rounded to a few bits, and
more than 64 of them are mixed into 64 by random signs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lightgen.data.cache_files import checked_file, read_index, read_listed

LEVELS, LIMIT = 31, 127  # whole numbers a standard deviation, and the largest
DIMENSIONS = 64
SCALED_ON = 4096  # captions or images that tell mean and deviation of each dimension
GRID = 4  # image features are the latents' means in so many by so many fields


@dataclass(frozen=True)
class Pool:
    """N samples with M distinct captions."""

    identity: str  # of the cache
    captions: Sequence[str]  # M
    caption: np.ndarray  # (N,) number of each sample's caption
    keys: Sequence[str]  # N
    numbers: dict[str, np.ndarray] = field(default_factory=dict)  # (N,) each

    def __len__(self) -> int:
        return len(self.caption)

    def held_out(self, share: float) -> np.ndarray:
        """(N,) bool: the samples that no subset holds, about `share` of all, by a hash of their keys: which ones they
        are does not change when others are added."""
        return np.array([is_held_out(key, share) for key in self.keys], bool)


def is_held_out(key: str, share: float) -> bool:
    """Whether a sample of that key belongs to the held-out share."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") < share * 2**64


def read_pool(folder: Path) -> Pool:
    """The samples of a cache, in its order."""
    folder = Path(folder)
    index = read_index(folder)
    known: dict[str, int] = {}
    numbers: list[np.ndarray] = []
    keys: list[str] = []
    columns: list[dict[str, list[float]]] = []
    listed: list[str] = []
    for entry in index["shards"]:
        own = read_listed(folder, entry, "captions", "captions_sha256")
        listed = [*listed, *own] if index.get("once", True) else own
        places = np.array([known.setdefault(caption, len(known)) for caption in listed])
        numbers.append(places[_tensors(folder, entry, "caption")["caption"]])
        if "samples_file" not in entry:
            raise ValueError(f"{folder} was made by an older version and names no samples; give `prepare` again")
        samples = read_listed(folder, entry, "samples_file", "samples_sha256")
        keys += samples["keys"]
        columns.append(samples["numbers"])
    shared = set.intersection(*(set(found) for found in columns))
    values = {name: np.concatenate([found[name] for found in columns]) for name in sorted(shared)}
    return Pool(index["identity"], list(known), np.concatenate(numbers), keys, values)


def caption_features(folder: Path, pool: Pool) -> np.ndarray:
    """(M, at most 64) whole numbers: each distinct caption's mean text feature."""
    folder = Path(folder)
    index = read_index(folder)
    places = {caption: number for number, caption in enumerate(pool.captions)}

    def blocks(entry: dict[str, Any]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        tensors = _tensors(folder, entry, "features", "lengths")
        width = index["text"]["max_length"] if index["keep_padding"] else 0
        rows = np.array([places[caption] for caption in read_listed(folder, entry, "captions", "captions_sha256")], int)
        for first in range(0, len(rows), 64):
            chosen = slice(first, first + 64)
            yield rows[chosen], _means(tensors["features"], tensors["lengths"], chosen, width)

    return _whole(index["shards"], blocks, len(pool.captions))


def image_features(folder: Path, pool: Pool) -> np.ndarray:
    """(N, at most 64) whole numbers: each image's latents, averaged over fields."""
    folder = Path(folder)
    index = read_index(folder)
    starts = np.cumsum([0, *(entry["samples"] for entry in index["shards"])])
    first_of = {entry["file"]: start for entry, start in zip(index["shards"], starts)}

    def blocks(entry: dict[str, Any]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        moments = _tensors(folder, entry, "moments")["moments"]
        for first in range(0, entry["samples"], 64):
            values = pooled(moments[first : first + 64], index["vae"]["channels"])
            yield first_of[entry["file"]] + first + np.arange(len(values)), values

    return _whole(index["shards"], blocks, len(pool))


def pooled(moments: Any, channels: int) -> np.ndarray:
    """(n, C * fields) means of latents (n, 2C or C, h, w), without variances, in 4 x 4 fields at most."""
    from torch.nn.functional import adaptive_avg_pool2d

    means = moments[:, :channels].double()
    grid = (min(GRID, means.shape[2]), min(GRID, means.shape[3]))
    return adaptive_avg_pool2d(means, grid).flatten(1).numpy()


def _means(features: Any, lengths: Any, chosen: slice, width: int) -> np.ndarray:
    """(n, D) float64 means of the features of some captions that lie end to end, padding left out."""
    spans = np.full(len(lengths), width) if width else lengths.numpy()
    starts = np.cumsum(spans) - spans
    first, last = starts[chosen][0], (starts[chosen] + spans[chosen])[-1]
    rows = features[first:last].double().numpy()
    ends = starts[chosen] - first
    return np.stack([rows[e : e + n].mean(0) for e, n in zip(ends, lengths.numpy()[chosen])])


def _whole(entries: Sequence[dict[str, Any]], blocks: Any, count: int) -> np.ndarray:
    """Features as whole numbers, from blocks of (rows, values) a shard."""
    sample: list[np.ndarray] = []
    for entry in entries[:: max(1, len(entries) * 64 // SCALED_ON)]:
        sample += [values for _, values in blocks(entry)]
        if sum(map(len, sample)) >= SCALED_ON:
            break
    known = np.concatenate(sample)
    mean, deviation = known.mean(0), known.std(0).clip(1e-9)
    width = known.shape[1]
    signs = np.random.default_rng(width).integers(0, 2, (width, DIMENSIONS)) * 2 - 1
    found = np.zeros((count, min(width, DIMENSIONS)), np.int16)
    for entry in entries:
        for rows, values in blocks(entry):
            whole = np.rint((values - mean) / deviation * LEVELS).clip(-LIMIT, LIMIT)
            if width > DIMENSIONS:
                whole = np.rint(whole @ signs / np.sqrt(width)).clip(-LIMIT, LIMIT)
            found[rows] = whole
    return found


def _tensors(folder: Path, entry: dict[str, Any], *names: str) -> dict[str, Any]:
    """Some tensors of a shard, mapped; "caption" as numbers."""
    from safetensors import safe_open

    with safe_open(checked_file(folder, entry), framework="pt") as file:
        found = {name: file.get_tensor(name) for name in names}
    return {name: value.numpy() if name == "caption" else value for name, value in found.items()}
