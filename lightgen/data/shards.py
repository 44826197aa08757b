"""WebDataset shards of images and prompts: write, read, verify.

A data set is a folder: `data_000000.tar`, ... with KEY.png and KEY.json (`{"prompt": ...}` and provenance) for each
sample, the layout of text-to-image-2M, and `manifest.json`, written last. While a set is being written,
`progress.json` names the shards that are finished, so the same call again goes on after them.
"""

import io
import itertools
import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from lightgen.data.images import png_bytes, read_image
from lightgen.disk.atomic import atomic_file
from lightgen.disk.folders import file_sha256
from lightgen.disk.json_files import read_json, write_json

SCHEMA = 1
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
    for path in shard_paths(folder):
        yield from read_shard(path, rejected=rejected)


def read_prompts(folder: Path) -> list[str]:
    """Every sample's prompt, in order, without decoding an image."""
    return [prompt for path in shard_paths(folder) for prompt in read_shard_prompts(path)]


def read_shard_prompts(path: Path) -> list[str]:
    """The prompts of one tar file's samples, in order, without decoding an image."""
    return [_record(f"{path}, sample {key}", members)["prompt"] for key, members in _groups(Path(path))]


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
    """The manifest of a finished data set."""
    manifest = read_json(Path(folder) / "manifest.json")
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA or "shards" not in manifest:
        raise ValueError(f"{folder}/manifest.json is not a data set manifest of schema {SCHEMA}")
    return manifest


def verify(folder: Path) -> dict[str, Any]:
    """The manifest, after every shard's sha256 was compared with it."""
    manifest = read_manifest(folder)
    for path, shard in zip(shard_paths(folder), manifest["shards"], strict=True):
        if file_sha256(path) != shard["sha256"]:
            raise ValueError(f"{path}: sha256 differs from the manifest's; the shard is damaged, write the set again")
    return manifest


def read_shard(path: Path, *, rejected: list[str] | None = None) -> Iterator[Sample]:
    """The samples of one tar file, in order; members are read, never extracted."""
    for key, members in _groups(Path(path)):
        try:
            yield _decode(f"{path}, sample {key}", key, members)
        except ValueError as error:
            if rejected is None:
                raise
            rejected.append(str(error))


def _groups(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, {extension: bytes}) of neighboring members with one key."""
    try:
        check_end(path)
        with tarfile.open(path, "r:") as archive:
            members = ((*split_name(member.name), member) for member in archive if member.isfile())
            for key, group in itertools.groupby(members, key=lambda item: item[0]):
                yield key, {kind: archive.extractfile(member).read() for _, kind, member in group}  # type: ignore[union-attr]
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{path}: torn or no tar archive ({error}); write or fetch this shard again") from None


def split_name(name: str) -> tuple[str, str]:
    """The WebDataset key and extension: the base name is cut at its first dot."""
    folder, _, base = name.rpartition("/")
    stem, _, kind = base.partition(".")
    return (f"{folder}/{stem}" if folder else stem), kind.lower()


def check_end(path: Path) -> None:
    """Refuse an archive that was cut between two members, which tarfile would read as a shorter one (ReadError)."""
    with open(path, "rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - 512))
        if size < 1024 or file.read(512).strip(b"\0"):
            raise tarfile.ReadError("no end-of-archive mark")


def _decode(where: str, key: str, members: dict[str, bytes]) -> Sample:
    kinds = [kind for kind in members if kind in IMAGE_TYPES]
    if len(kinds) != 1:
        raise ValueError(f"{where}: needs one image and one .json, has {', '.join(sorted(members))}")
    return Sample(key, read_image(members[kinds[0]], where), _record(where, members))


def _record(where: str, members: dict[str, bytes]) -> dict[str, Any]:
    if "json" not in members:
        raise ValueError(f"{where}: needs one image and one .json, has {', '.join(sorted(members))}")
    try:
        record = json.loads(members["json"])
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{where}: its .json is torn or no JSON ({error})") from None
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
    progress = read_json(out / "progress.json")
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
