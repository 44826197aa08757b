"""Import: captioned pictures of any size, from wherever they come, as a data set of squares.

A run of originals becomes one shard, written whole or not at all, with its entry in OUT/progress. So any number of
processes can share the work, a kill costs the shard under way, and whoever finishes last writes rejected.jsonl (what
was left out, and why) and the manifest.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock

from lightgen.data.config import ImportConfig
from lightgen.data.originals import Original, Part, Rejected, Source, captions_of, numbers_of
from lightgen.data.shards import SCHEMA, read_manifest, shard_paths, write_shard
from lightgen.data.sources import open_source
from lightgen.data.squares import square, words
from lightgen.disk.atomic import write_text
from lightgen.disk.folders import claim_folder
from lightgen.disk.json_files import read_json, write_json

Member = tuple[str, str, bytes, dict[str, Any]]


def import_images(
    source: Path,
    out: Path,
    config: ImportConfig = ImportConfig(),  # noqa: B008
    *,
    shard: tuple[int, int] = (0, 1),
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any] | None:
    """Write this process's shards (I of N); return the manifest, or None while other processes have shards to write.

    The same call goes on after finished shards. ValueError where OUT holds another import, where the source has changed
    since, and where more than `config.max_rejected` of the originals must be left out: what is written is kept.
    """
    out = Path(out)
    if out.resolve() == Path(source).resolve():
        raise ValueError(f"{out} is where the pictures are; give a folder of its own as OUT")
    originals = open_source(source)
    parts = originals.parts(config.shard_size)
    total = sum(part.count for part in parts)
    if not total:
        raise FileNotFoundError(f"{source} holds no pictures")
    described = _described(originals, config)
    if (out / "manifest.json").is_file():
        return _finished(out, described, originals)
    _claim(out, described, originals, source)
    written = _written(out)
    for number in range(shard[0], len(parts), shard[1]):
        if not _entry(out, number).is_file():
            _refuse_too_many(written, total, config, source)
            written.append(_write_part(out, number, originals, parts[number], config))
        if progress is not None:
            progress(sum(part.count for part in parts[: number + 1]), total)
    return _merged(out, described, len(parts), total, config, source)


def _described(source: Source, config: ImportConfig) -> dict[str, Any]:
    """What the manifest says of how the pictures were made; how many may be left out is not a part of it."""
    settings = {name: value for name, value in asdict(config).items() if name != "max_rejected"}
    return json.loads(json.dumps({"imported": {"from": source.kind, **settings, **words(config)}}))


def _claim(out: Path, described: dict[str, Any], originals: Source, source: Path) -> None:
    """Begin the folder, or go on with it if it is of this very import."""
    if (out / "settings.json").is_file() and read_json(out / "settings.json").get("source") != originals.fingerprint:
        raise ValueError(f"{out} was begun from other pictures, or {source} has changed since; choose another folder")
    claim_folder(out, {"source": originals.fingerprint, **described})


def _finished(out: Path, described: dict[str, Any], originals: Source) -> dict[str, Any]:
    manifest, claimed = read_manifest(out), read_json(out / "settings.json")
    if manifest.get("imported") != described["imported"] or claimed.get("source") != originals.fingerprint:
        raise ValueError(f"{out} holds an import with other settings, or of pictures that have changed; choose another")
    shard_paths(out)
    return manifest


def _entry(out: Path, number: int) -> Path:
    return out / "progress" / f"{number:06d}.json"


def _write_part(out: Path, number: int, source: Source, part: Part, config: ImportConfig) -> dict[str, Any]:
    """Write one shard and its entry."""
    rejected: list[dict[str, str]] = []
    numbers: set[str] = set()
    path = out / f"data_{number:06d}.tar"
    entry = write_shard(path, _members(source.read(part), config, rejected, numbers))
    if not entry["samples"]:
        path.unlink()
    written = {"shard": entry, "rejected": rejected, "numbers": sorted(numbers)}
    write_json(_entry(out, number), written)
    return written


def _members(
    originals: Iterator[Original], config: ImportConfig, rejected: list[dict[str, str]], numbers: set[str]
) -> Iterator[Member]:
    """The samples of a shard; what cannot be one goes to `rejected`, the names of number fields to `numbers`."""
    for original in originals:
        try:
            member = _member(original, config)
        except Rejected as error:
            rejected.append({"name": original.name, "reason": str(error)})
        else:
            numbers |= set(member[3].get("numbers", ()))
            yield member


def _member(original: Original, config: ImportConfig) -> Member:
    if original.problem:
        raise Rejected(original.problem)
    captions = captions_of(original.fields, config.caption)
    made = square(original.data, config)
    source = {
        "name": original.name,
        "sha256": hashlib.sha256(original.data).hexdigest(),
        "bytes": len(original.data),
        "size": list(made.original),
    }
    # Of several captions each picture keeps one, drawn by its key, so that no field is seen more than the others.
    record: dict[str, Any] = {"prompt": random.Random(original.key).choice(captions), "source": source}
    if len(captions) > 1:
        record["captions"] = captions
    if numbers := numbers_of(original.fields):
        record["numbers"] = numbers
    return original.key, made.kind, made.data, record


def _written(out: Path) -> list[dict[str, Any]]:
    """The entries of the shards that are there, in order."""
    return [read_json(path) for path in sorted((out / "progress").glob("*.json"))]


def _refuse_too_many(entries: list[dict[str, Any]], total: int, config: ImportConfig, source: Path) -> None:
    """Refuse, as soon as it is certain, to leave out more originals than allowed."""
    rejected = [row for entry in entries for row in entry["rejected"]]
    if len(rejected) > config.max_rejected * total:
        kinds = Counter(row["reason"].split(" (")[0][:80] for row in rejected)
        most = "; ".join(f"{count} x {reason}" for reason, count in kinds.most_common(3))
        first = f"the first is {rejected[0]['name']}: {rejected[0]['reason'][:200]}"
        share = len(rejected) / total + 0.0005
        # What is certain so far: later originals may be left out too.
        allow = f"Mend them, or allow it: --max-rejected {share:.3f}" if share < 1 else "Mend them"
        raise ValueError(f"{source}: {len(rejected)} of {total} originals cannot be taken: {most}; {first}. {allow}")


def _merged(
    out: Path, described: dict[str, Any], count: int, total: int, config: ImportConfig, source: Path
) -> dict[str, Any] | None:
    """The manifest, written once every shard is there."""
    with FileLock(out / ".lock"):
        if (out / "manifest.json").is_file():
            return read_manifest(out)
        if not all(_entry(out, number).is_file() for number in range(count)):
            return None
        entries = _written(out)
        _refuse_too_many(entries, total, config, source)
        rejected = [row for entry in entries for row in entry["rejected"]]
        shards = [entry["shard"] for entry in entries if entry["shard"]["samples"]]
        if not shards:
            raise ValueError(f"{source}: none of {total} originals can be taken; the first: {rejected[0]['reason']}")
        write_text(out / "rejected.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rejected))
        manifest = {
            "schema": SCHEMA,
            **described,
            "originals": total,
            "rejected": len(rejected),
            "numbers": sorted({name for entry in entries for name in entry["numbers"]}),
            "num_samples": sum(entry["samples"] for entry in shards),
            "shards": shards,
        }
        write_json(out / "manifest.json", manifest)
        shutil.rmtree(out / "progress")
    return manifest
