"""Features of images, computed once and kept in one file: batched, resumable, shared among processes."""

import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.extractors import Extractor, load_extractor
from benchmarks.quality.images import ImageEntry, ImageError, container, decode_image, list_images, refuse_corrupt
from benchmarks.quality.moments import Moments, Statistics, load_statistics, read_safetensors, write_atomically

_PART = 2048  # images between two saves
LOADERS = max(2, min(8, os.cpu_count() or 2))  # threads that read and decode
_CHUNK = 16  # images that a loader takes at a time
_AHEAD = 2  # batches that are made ready before the network asks for them


@dataclass(frozen=True, kw_only=True)
class Features:
    """`values` (N, D) float32 of the images `ids`; `meta` has extractor, images' hash, containers, skipped count."""

    values: np.ndarray
    ids: list[str]
    meta: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Some images' features, their digests and containers, and the images that could not be read."""

    values: np.ndarray
    ids: list[str]
    digests: list[str]
    containers: list[str]
    corrupt: list[str]


def extract(
    images: Path,
    extractor: str | Path | Extractor,
    out: Path,
    *,
    name: str | None = None,
    weights: Path | None = None,
    batch_size: int = 64,
    device: str | None = None,
    limit: int | None = None,
    skip_corrupt: bool = False,
    shard: tuple[int, int] = (0, 1),
) -> Path:
    """Write the features of `images` to `out` (safetensors) and return it; a finished file of the same input stays.

    Finished parts are kept beside `out` until all are there, so a killed run continues, and processes that are given
    the shards (0, n) ... (n - 1, n) share the work: the one that finishes last writes `out`.
    """
    out, entries = Path(out), list_images(images, limit)
    network = _loaded(extractor, name, weights, device)
    key = _input_key(entries, network, skip_corrupt)
    if out.is_file() and load_features(out).meta.get("key") == key:
        return out
    folder = out.with_name(f".{out.name}.{key[:12]}.parts")
    starts = list(range(0, len(entries), _PART))
    for start in starts[shard[0] :: shard[1]]:
        if not _part_path(folder, start).is_file():
            _save_part(_part_path(folder, start), _extract_part(entries[start : start + _PART], network, batch_size))
    if all(_part_path(folder, start).is_file() for start in starts):
        parts = [_load_part(_part_path(folder, start)) for start in starts]
        corrupt = [line for part in parts for line in part.corrupt]
        refuse_corrupt(corrupt, len(entries), images, skip_corrupt)
        save_features(_join(parts, network, key), out)
        shutil.rmtree(folder, ignore_errors=True)
    return out


def extract_statistics(
    images: Path,
    extractor: str | Path | Extractor,
    *,
    name: str | None = None,
    weights: Path | None = None,
    batch_size: int = 64,
    device: str | None = None,
    limit: int | None = None,
    skip_corrupt: bool = False,
) -> Statistics:
    """Mean and covariance alone; memory does not grow with the number of images."""
    entries, network = list_images(images, limit), _loaded(extractor, name, weights, device)
    moments, digest, containers, skipped = Moments(), hashlib.sha256(), set(), 0
    for start in range(0, len(entries), _PART):
        part = _extract_part(entries[start : start + _PART], network, batch_size)
        refuse_corrupt(part.corrupt, len(entries), images, skip_corrupt)
        skipped += len(part.corrupt)
        moments.update(part.values)
        digest.update("".join(part.digests).encode())
        containers.update(part.containers)
    described = {"images": digest.hexdigest(), "containers": sorted(containers), "skipped": skipped}
    return moments.statistics({"extractor": network.identity, **described})


def save_features(features: Features, path: Path) -> Path:
    from safetensors.numpy import save

    tensors = {"values": np.ascontiguousarray(features.values, dtype=np.float32), "ids": _pack(features.ids)}
    header = {"kind": "features", **features.meta}
    return write_atomically(path, save(tensors, metadata={"meta": json.dumps(header)}))


def load_features(path: Path) -> Features:
    tensors, meta = read_safetensors(path)
    if meta.pop("kind", None) != "features":
        raise ValueError(f"{path} does not hold features; write it with `python -m benchmarks quality features`")
    return Features(values=tensors["values"], ids=_unpack(tensors["ids"]), meta=meta)


def load_moments(path: Path) -> Statistics:
    """Mean and covariance from a file of features or of statistics (.safetensors, .npz)."""
    if Path(path).suffix == ".npz" or read_safetensors(path)[1].get("kind") == "statistics":
        return load_statistics(path)
    features = load_features(path)
    return Statistics.of(features.values, features.meta)


def require_same_extractor(a: dict[str, Any], b: dict[str, Any]) -> None:
    """Refuse two descriptions whose numbers do not compare: another network, weights, or resize."""
    first, second = a.get("extractor"), b.get("extractor")
    if first is None or second is None:
        return  # statistics from other tools' files do not say what they are
    # The name is only a label: what makes the numbers is the weights and what is done to the image before them.
    different = [field for field in ("weights", "resize", "implementation") if first[field] != second.get(field)]
    if different:
        pairs = ", ".join(f"{field} {first[field]!r} and {second.get(field)!r}" for field in different)
        raise ValueError(f"features of different extractors do not compare: {pairs}")


def _loaded(extractor, name: str | None, weights: Path | None, device: str | None) -> Extractor:
    if isinstance(extractor, Extractor):
        return extractor
    return load_extractor(extractor, name=name, weights=weights, device=device)


def _input_key(entries: list[ImageEntry], network: Extractor, skip_corrupt: bool) -> str:
    """Changes with the extractor and with any file's name, size or time."""
    listing = [(entry.id, entry.offset, entry.size, entry.path.stat().st_mtime_ns) for entry in entries]
    return hashlib.sha256(json.dumps([network.identity, skip_corrupt, listing]).encode()).hexdigest()


def _extract_part(entries: list[ImageEntry], network: Extractor, batch_size: int) -> _Part:
    values, rows, corrupt = [], [], []
    for batch in _prepared_batches(entries, network, batch_size):
        corrupt += [row for row in batch if isinstance(row, str)]
        good = [row for row in batch if not isinstance(row, str)]
        if good:
            values.append(network([tensor for tensor, *_ in good]))
            rows += [row[1:] for row in good]
    features = np.concatenate(values) if values else np.zeros((0, 0), dtype=np.float32)
    if not np.isfinite(features).all():
        raise ValueError(f"{network.name} gave NaN or infinite features; look for broken weights")
    ids, digests, containers = (list(column) for column in zip(*rows)) if rows else ([], [], [])
    return _Part(values=features, ids=ids, digests=digests, containers=containers, corrupt=corrupt)


def _prepared_batches(entries: list[ImageEntry], network: Extractor, batch_size: int) -> Iterator[list]:
    """Batches prepared by threads, a few ahead of the network; a thread takes several images at a time.

    Handing over each image alone takes longer than decoding a small one: the network waits for Python's lock each time.
    """
    batches = [entries[start : start + batch_size] for start in range(0, len(entries), batch_size)]
    ahead: deque[list[Future]] = deque()
    with ThreadPoolExecutor(max_workers=LOADERS) as pool:
        for batch in batches:
            chunks = [batch[start : start + _CHUNK] for start in range(0, len(batch), _CHUNK)]
            ahead.append([pool.submit(prepared, chunk, network) for chunk in chunks])
            if len(ahead) > _AHEAD:
                yield [row for task in ahead.popleft() for row in task.result()]
        while ahead:
            yield [row for task in ahead.popleft() for row in task.result()]


def prepared(entries: list[ImageEntry], network: Extractor) -> list:
    """Of each image its tensor, id, digest and container, or what is wrong with it."""
    rows: list[Any] = []
    for entry in entries:
        try:
            data = entry.read()
            tensor = network.prepare(decode_image(data, entry.id))
            rows.append((tensor, entry.id, hashlib.sha256(data).hexdigest(), container(data)))
        except ImageError as error:
            rows.append(str(error))
    return rows


def _join(parts: list[_Part], network: Extractor, key: str) -> Features:
    filled = [part for part in parts if part.ids]
    if not filled:
        raise ImageError("no readable image is left")
    digests = "".join(digest for part in filled for digest in part.digests)
    meta = {
        "extractor": network.identity,
        "images": hashlib.sha256(digests.encode()).hexdigest(),
        "containers": sorted({kind for part in filled for kind in part.containers}),
        "skipped": sum(len(part.corrupt) for part in parts),
        "key": key,
    }
    values = np.concatenate([part.values for part in filled])
    return Features(values=values, ids=[id for part in filled for id in part.ids], meta=meta)


def _part_path(folder: Path, start: int) -> Path:
    return folder / f"{start:09d}.safetensors"


def _save_part(path: Path, part: _Part) -> None:
    from safetensors.numpy import save

    lists = {name: getattr(part, name) for name in ("ids", "digests", "containers", "corrupt")}
    write_atomically(path, save({"values": part.values} | {name: _pack(lines) for name, lines in lists.items()}))


def _load_part(path: Path) -> _Part:
    tensors, _ = read_safetensors(path)
    values = tensors.pop("values")
    return _Part(values=values, **{name: _unpack(packed) for name, packed in tensors.items()})


def _pack(lines: list[str]) -> np.ndarray:
    """Strings as bytes of JSON: a safetensors header is too small for many ids."""
    return np.frombuffer(json.dumps(lines).encode(), dtype=np.uint8).copy()


def _unpack(packed: np.ndarray) -> list[str]:
    return json.loads(packed.tobytes())
