"""WebDataset shards of images and prompts: write, read, verify.

A data set is a folder: `data_000000.tar`, ... with KEY.png and KEY.json (`{"prompt": ...}` and provenance) for each
sample, the layout of text-to-image-2M, and `manifest.json`, written last. While a set is being written,
`progress.json` names the shards that are finished, so the same call again goes on after them.
"""

import itertools
import json
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from lightgen.data.images import png_bytes, read_image
from lightgen.disk.atomic import atomic_file
from lightgen.disk.folders import file_sha256, known_sha256
from lightgen.disk.json_files import parse_json, read_object, typed, write_json
from lightgen.disk.tar_files import content, read_members

SCHEMA = 1
MAX_BYTES = 2**28  # of one member
_KEY = re.compile(r"[A-Za-z0-9_-]{1,120}")
IMAGE_TYPES = ("png", "jpg", "jpeg", "webp")


@dataclass(frozen=True)
class Sample:
    """One image with its record; `record["prompt"]` is its caption."""

    key: str
    image: Image.Image
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def prompt(self) -> str:
        return self.record["prompt"]


def write_shards(
    samples: Iterable[Sample] | Callable[[int], Iterable[Sample]],
    out: Path,
    *,
    shard_size: int = 1000,
    manifest: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the samples to `out` and return its manifest; after a kill, the same call goes on at the next shard.

    `samples` may be a function of a start index, so that samples in finished shards need not be made again.
    `manifest` holds fields that describe the data; a folder that was begun with other fields is refused.
    """
    out = Path(out)
    fields = json.loads(json.dumps({"schema": SCHEMA, **(manifest or {}), "shard_size": shard_size}))
    if (out / "manifest.json").is_file():
        return _finished(out, fields)
    shards = _progress(out, fields)
    start = sum(shard["samples"] for shard in shards)
    stream = iter(samples(start)) if callable(samples) else itertools.islice(samples, start, None)
    while batch := list(itertools.islice(stream, shard_size)):
        drawn = ((sample.key, "png", png_bytes(sample.image), sample.record) for sample in batch)
        shards.append(write_shard(out / f"data_{len(shards):06d}.tar", drawn))
        write_json(out / "progress.json", {"fields": fields, "shards": shards})
    if not shards:
        raise ValueError(f"{out}: no samples to write")
    result = {**fields, "num_samples": sum(shard["samples"] for shard in shards), "shards": shards}
    write_json(out / "manifest.json", result)
    (out / "progress.json").unlink(missing_ok=True)
    return result


def read_shards(folder: Path, *, rejected: list[str] | None = None) -> Iterator[Sample]:
    """Every sample of a data set, in order. A list given as `rejected` collects what is wrong with bad samples, which
    are then left out; without it the first bad sample is an error."""
    for path, count in whole_shards(folder):
        number, before = 0, len(rejected or ())
        for sample in read_shard(path, rejected=rejected):
            number += 1
            yield sample
        _check_count(path, number + len(rejected or ()) - before, count)


def read_prompts(folder: Path) -> list[str]:
    """Every sample's prompt, in order, without decoding an image."""
    return [prompt for path, count in whole_shards(folder) for prompt in read_shard_prompts(path, count)]


def read_shard_prompts(path: Path, count: int | None = None) -> list[str]:
    """The prompts of one tar file's samples, in order, without decoding an image; ValueError for another number of
    them than `count`."""
    found = [_record(f"{path}, sample {key}", members)["prompt"] for key, members in _groups(Path(path), {"json"})]
    _check_count(path, len(found), count)
    return found


def shard_paths(folder: Path) -> list[Path]:
    """The shards of a finished data set, checked for presence and size; without a manifest, all tars by name."""
    folder = Path(folder)
    if (folder / "manifest.json").is_file():
        manifest = read_manifest(folder)
        for shard in manifest["shards"]:
            _check_shard(folder / shard["file"], shard)
        return [folder / shard["file"] for shard in manifest["shards"]]
    if (folder / "progress.json").is_file() or (folder / "progress").is_dir():
        raise ValueError(
            f"{folder} is an unfinished data set (no manifest.json); give the command that writes it again"
        )
    paths = sorted(folder.glob("*.tar"))
    if not paths:
        raise FileNotFoundError(f"{folder}: no data set here (no manifest.json, no .tar)")
    return paths


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a finished data set; its counts agree, and it names each shard once."""
    where = Path(folder) / "manifest.json"
    manifest = read_object(where)
    if manifest.get("schema") != SCHEMA or "shards" not in manifest:
        raise ValueError(f"{where} is not a data set manifest of schema {SCHEMA}")
    shards = _entries(manifest["shards"], f"{where}: shards")
    if "num_samples" in manifest and manifest["num_samples"] != sum(shard["samples"] for shard in shards):
        raise ValueError(f"{where}: num_samples is not the sum of its shards' samples; write the data set again")
    return manifest


def _entries(shards: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(shards, list) or not shards:
        raise ValueError(f"{where}: expected a list of shards")
    for place, shard in enumerate(shards):
        typed(shard, f"{where}[{place}]", file=str, samples=int, bytes=int, sha256=str)
        if Path(shard["file"]).name != shard["file"] or shard["samples"] < 0:
            raise ValueError(f"{where}[{place}]: no file of this folder, or fewer than no samples")
    if len({shard["file"] for shard in shards}) < len(shards):
        raise ValueError(f"{where}: a shard is listed twice; write the data set again")
    return shards


def verify(folder: Path) -> dict[str, Any]:
    """The manifest, after every shard's sha256 was compared with it."""
    for _ in whole_shards(folder):
        pass
    return read_manifest(folder)


def whole_shards(folder: Path) -> Iterator[tuple[Path, int | None]]:
    """The shards with their numbers of samples, each compared with the manifest's sha256 when its turn comes; all tars
    and no numbers where there is no manifest."""
    paths = shard_paths(folder)
    if not (Path(folder) / "manifest.json").is_file():
        yield from ((path, None) for path in paths)
        return
    for path, shard in zip(paths, read_manifest(folder)["shards"], strict=True):
        if known_sha256(path) != shard["sha256"]:
            raise ValueError(f"{path}: sha256 differs from the manifest's; the shard is damaged, write the set again")
        yield path, shard["samples"]


def _check_count(path: Path, found: int, expected: int | None) -> None:
    if expected not in (None, found):
        raise ValueError(f"{path}: holds {found} samples, the manifest says {expected}; write the data set again")


def read_shard(path: Path, *, rejected: list[str] | None = None) -> Iterator[Sample]:
    """The samples of one tar file, in order; members are read, never extracted."""
    for key, members in _groups(Path(path)):
        try:
            yield _decode(f"{path}, sample {key}", key, members)
        except ValueError as error:
            if rejected is None:
                raise
            rejected.append(str(error))


def _groups(path: Path, kinds: Container[str] | None = None) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, {extension: bytes}) of neighboring members with one key; of all extensions, or of `kinds` alone."""
    members = ((*split_name(member.name), member) for member in read_members(Path(path)))
    for key, group in itertools.groupby(members, key=lambda item: item[0]):
        found: dict[str, bytes] = {}
        for _, kind, member in group:
            if kind in found:
                raise ValueError(f"{path}, sample {key}: two files of type .{kind}")
            try:
                found[kind] = content(path, member, MAX_BYTES) if kinds is None or kind in kinds else b""
            except ValueError as error:
                raise ValueError(f"{path}, sample {key}: {error}") from None
        yield key, found


def split_name(name: str) -> tuple[str, str]:
    """The WebDataset key and extension: the base name is cut at its first dot."""
    folder, _, base = name.rpartition("/")
    stem, _, kind = base.partition(".")
    return (f"{folder}/{stem}" if folder else stem), kind.lower()


def _decode(where: str, key: str, members: dict[str, bytes]) -> Sample:
    kinds = [kind for kind in members if kind in IMAGE_TYPES]
    if len(kinds) != 1:
        raise ValueError(f"{where}: needs one image and one .json, has {', '.join(sorted(members))}")
    return Sample(key, read_image(members[kinds[0]], where), _record(where, members))


def _record(where: str, members: dict[str, bytes]) -> dict[str, Any]:
    if "json" not in members:
        raise ValueError(f"{where}: needs one image and one .json, has {', '.join(sorted(members))}")
    record = parse_json(members["json"], f"{where}: its .json", "write or fetch this shard again")
    if not isinstance(record, dict) or not isinstance(record.get("prompt"), str):
        raise ValueError(f'{where}: its .json has no text field "prompt"')
    return record


def write_shard(path: Path, samples: Iterable[tuple[str, str, bytes, Mapping[str, Any]]]) -> dict[str, Any]:
    """Write (key, image type, image file, record) of each sample, and return the shard's entry in a manifest."""
    from webdataset.writer import TarWriter

    keys: set[str] = set()
    # Fixed owner and time: the same samples give the same bytes.
    with atomic_file(path) as file, TarWriter(file, user="", group="", mtime=0, encoder=False) as writer:
        for key, kind, image, record in samples:
            if key in keys or not _KEY.fullmatch(key):
                raise ValueError(f"{path}: sample keys must be unique and of letters, digits, - and _, not {key!r}")
            keys.add(key)
            text = json.dumps(record, ensure_ascii=False).encode()
            writer.write({"__key__": key, kind: image, "json": text})
    return {"file": path.name, "samples": len(keys), "bytes": path.stat().st_size, "sha256": file_sha256(path)}


def _finished(out: Path, fields: dict[str, Any]) -> dict[str, Any]:
    manifest = read_manifest(out)
    if {key: manifest.get(key) for key in fields} != fields:
        raise ValueError(f"{out} holds a data set made with other settings; choose another folder or remove it")
    shard_paths(out)
    return manifest


def _progress(out: Path, fields: dict[str, Any]) -> list[dict[str, Any]]:
    """The finished shards of an interrupted run."""
    if not (out / "progress.json").is_file():
        return []
    progress = read_object(out / "progress.json", fields=dict, shards=list)
    _entries(progress["shards"], f"{out}/progress.json: shards")
    if progress["fields"] != fields:
        raise ValueError(f"{out} was begun with other settings; choose another folder or remove it")
    for shard in progress["shards"]:
        _check_shard(out / shard["file"], shard)
    return progress["shards"]


def _check_shard(path: Path, shard: Mapping[str, Any]) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing, though the manifest names it; write the data set again")
    if path.stat().st_size != shard["bytes"]:
        raise ValueError(
            f"{path} has {path.stat().st_size} bytes instead of {shard['bytes']}; write the data set again"
        )
