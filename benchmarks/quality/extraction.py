"""From images to features, computed once: batched, resumable, shared among processes."""

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

from benchmarks.quality.config import DEFAULTS, ExtractionConfig
from benchmarks.quality.extractors import Extractor, load_extractor
from benchmarks.quality.features import Features, load_features, pack_lines, save_features, unpack_lines
from benchmarks.quality.images import ImageEntry, ImageError, container, decode_image, list_images, refuse_corrupt
from benchmarks.quality.moments import Moments, Statistics, read_safetensors, write_safetensors

_PART = 256  # images between two saves, and in what processes share out
LOADERS = max(2, min(8, os.cpu_count() or 2))  # threads that read and decode
_CHUNK = 16  # images that a loader takes at a time
_AHEAD = 2  # batches that are made ready before the network asks for them


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
    config: ExtractionConfig = DEFAULTS,
    *,
    shard: tuple[int, int] = (0, 1),
) -> Path:
    """Write the features of `images` to `out` (safetensors) and return it; a finished file of the same input stays.

    Finished parts are kept beside `out` until all are there, so a killed run continues, and processes that are given
    the shards (0, n) ... (n - 1, n) share the work: the one that finishes last writes `out`.
    """
    out, entries, network = Path(out), list_images(images, config.limit), _loaded(extractor, config)
    key = _input_key(entries, network, config.skip_corrupt)
    if out.is_file() and load_features(out).meta.get("key") == key:
        return out
    folder = out.with_name(f".{out.name}.{key[:12]}-{_PART}.parts")
    paths = {start: _part_path(folder, start) for start in range(0, len(entries), _PART)}
    for start in list(paths)[shard[0] :: shard[1]]:
        if not paths[start].is_file():
            _save_part(paths[start], _extract_part(entries[start : start + _PART], network, config.batch_size))
    if all(path.is_file() for path in paths.values()):
        parts = [_load_part(path) for path in paths.values()]
        refuse_corrupt([line for part in parts for line in part.corrupt], len(entries), images, config.skip_corrupt)
        save_features(_join(parts, network, key), out)
        shutil.rmtree(folder, ignore_errors=True)
    return out


def extract_statistics(
    images: Path, extractor: str | Path | Extractor, config: ExtractionConfig = DEFAULTS
) -> Statistics:
    """Mean and covariance alone; memory does not grow with the number of images."""
    entries, network = list_images(images, config.limit), _loaded(extractor, config)
    moments, digest, containers, skipped = Moments(), hashlib.sha256(), set(), 0
    for start in range(0, len(entries), _PART):
        part = _extract_part(entries[start : start + _PART], network, config.batch_size)
        refuse_corrupt(part.corrupt, len(entries), images, config.skip_corrupt)
        skipped += len(part.corrupt)
        moments.update(part.values)
        digest.update("".join(part.digests).encode())
        containers.update(part.containers)
    described = {"images": digest.hexdigest(), "containers": sorted(containers), "skipped": skipped}
    return moments.statistics({"extractor": network.identity, **described})


def _loaded(extractor: str | Path | Extractor, config: ExtractionConfig) -> Extractor:
    if isinstance(extractor, Extractor):
        return extractor
    return load_extractor(extractor, name=config.name, weights=config.weights, device=config.device)


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
    lists = {name: getattr(part, name) for name in ("ids", "digests", "containers", "corrupt")}
    write_safetensors(path, {"values": part.values} | {name: pack_lines(lines) for name, lines in lists.items()})


def _load_part(path: Path) -> _Part:
    tensors, _ = read_safetensors(path)
    values = tensors.pop("values")
    return _Part(values=values, **{name: unpack_lines(packed) for name, packed in tensors.items()})
