"""What weights are: hashes of files and tensors, never of names."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from geneval.json_files import MAX_BYTES
from geneval.regular import regular_file
from geneval.weight_files import LARGEST, weight_file


def file_sha256(path: Path) -> str:
    """The sha256 of a file, remembered while its size and time stay the same; of weights and settings only where their
    length is believable."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


def _most_bytes(path: Path) -> int:
    return MAX_BYTES if path.suffix == ".json" else LARGEST


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, modified: int) -> str:
    checked = weight_file(path) if path.suffix == ".safetensors" else regular_file(path, _most_bytes(path))
    with open(checked, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def safetensors_sha256(folder: Path) -> str:
    """One hash over a folder's *.safetensors and its config.json: the identity of a component."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder}: holds no *.safetensors weights")
    config = [path for path in (folder / "config.json", folder / "open_clip_config.json") if path.is_file()]
    digest = hashlib.sha256("".join(f"{path.name}:{file_sha256(path)}\n" for path in files + config).encode())
    return file_sha256(files[0]) if len(files) == 1 and not config else digest.hexdigest()


def state_sha256(network: Any) -> str:
    """The hash of a network's tensors by name: the identity of weights whose file a library chose itself."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
