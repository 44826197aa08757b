"""The files of a latent cache, read strictly: the index is named by its own hash and lists the hash of every other."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightgen.disk.folders import known_sha256
from lightgen.disk.json_files import MAX_BYTES, read_json, read_object
from lightgen.disk.regular import regular_file

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = 1
LARGEST = 1e6  # of a latent's or a feature's numbers; what is beyond was not encoded


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a finished cache."""
    folder = Path(folder)
    if not (folder / "index.json").is_file():
        raise FileNotFoundError(f"{folder} is no finished latent cache (no index.json); give `prepare` again")
    index = read_object(folder / "index.json")
    if index.get("schema") != SCHEMA:
        raise ValueError(
            f"{folder} is a cache of schema {index.get('schema')}, this version reads {SCHEMA}; encode again"
        )
    named = {name: value for name, value in index.items() if name != "identity"}
    if index.get("identity") != index_identity(named):
        raise ValueError(f"{folder}/index.json was changed since it was written; encode the data set again")
    return index


def index_identity(index: dict[str, Any]) -> str:
    """The SHA-256 of an index, its name left out."""
    return hashlib.sha256(json.dumps(index, sort_keys=True).encode()).hexdigest()


def read_listed(folder: Path, entry: dict[str, Any], name: str, digest: str) -> Any:
    """The JSON file that an entry of the index lists as `name`, if it has the SHA-256 that stands there as `digest`."""
    path = regular_file(Path(folder) / entry[name], MAX_BYTES)
    if digest in entry and known_sha256(path) != entry[digest]:
        raise ValueError(f"{path} is not what the index says (another SHA-256); encode the data set again")
    return read_json(path)


def checked_file(folder: Path, entry: dict[str, Any]) -> Path:
    """The file of a shard's tensors, if it has the SHA-256 that the index lists."""
    path = Path(folder) / entry["file"]
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing, though the index names it; encode the data set again")
    if path.stat().st_size != entry["bytes"]:
        raise ValueError(f"{path} is torn (its size differs from the index's); encode the data set again")
    if "sha256" in entry and known_sha256(path) != entry["sha256"]:
        raise ValueError(f"{path} is torn (its SHA-256 differs from the index's); encode the data set again")
    return path


def load_shard(folder: Path, entry: dict[str, Any]) -> dict[str, Tensor]:
    """A shard's tensors, which must be numbers that an encoder can give."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = checked_file(folder, entry)
    try:
        tensors = load_file(path)
        if (problem := _problem(tensors, entry)) is not None:
            raise ValueError(problem)
        return tensors
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is torn ({error}); encode the data set again") from None


def _problem(tensors: dict[str, Tensor], entry: dict[str, Any]) -> str | None:
    """What is wrong with a shard whose hash nothing lists, or that was written so."""
    if len(tensors["moments"]) != entry["samples"] or len(tensors["caption"]) != entry["samples"]:
        return f"{len(tensors['moments'])} samples, the index says {entry['samples']}"
    if int(tensors["caption"].min()) < 0:
        return "a caption's number is negative"
    for name in ("moments", "mirrored", "features"):
        if name in tensors and not _is_plausible(tensors[name]):
            return f"{name} hold NaN or numbers beyond {LARGEST:g}"
    return None


def _is_plausible(values: Tensor) -> bool:
    import torch

    if not values.numel():
        return True
    low, high = torch.aminmax(values)
    return low.item() >= -LARGEST and high.item() <= LARGEST
