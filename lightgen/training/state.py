"""The state of an interrupted run: one safetensors file per saved step, and `latest.json`, which names the newest.

The pointer moves only after the file is whole on disk, and the older file goes only after the pointer moved: a kill
at any moment leaves a state that loads.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from lightgen.disk.atomic import atomic_file
from lightgen.disk.folders import file_sha256
from lightgen.disk.json_files import read_object, write_sealed

_NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


def save_state(folder: Path, step: int, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Keep the tensors and a JSON record as the state after `step` steps."""
    path = Path(folder) / f"state_{step:09d}.safetensors"
    with atomic_file(path) as file:
        hashing = _Hashing(file)
        size = write_tensors(hashing, tensors)  # type: ignore[arg-type]
    named = {"file": path.name, "bytes": size, "sha256": hashing.digest.hexdigest(), "step": step}
    write_sealed(path.parent / "latest.json", {**named, **record})
    for old in path.parent.glob("state_*.safetensors"):
        if old != path:
            old.unlink()


class _Hashing:
    """A file that is written and hashed in one pass."""

    def __init__(self, file: BinaryIO):
        self.file, self.digest = file, hashlib.sha256()

    def write(self, data: Any) -> None:
        self.file.write(data)
        self.digest.update(data)


def write_tensors(file: BinaryIO, tensors: Mapping[str, Tensor]) -> int:
    """Write a safetensors file and return its bytes. One tensor at a time, without Python's lock and without a second
    copy of them all, which `safetensors.save` makes: a state of several GB is written while training goes on."""
    ordered = dict(sorted(tensors.items(), key=lambda item: -item[1].element_size()))  # keeps every tensor aligned
    header: dict[str, Any] = {}
    end = 0
    for name, tensor in ordered.items():
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for tensor in ordered.values():
        file.write(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return 8 + len(text) + end


def load_state(folder: Path) -> tuple[int, dict[str, Tensor], dict[str, Any]] | None:
    """(step, tensors, record) of the newest state, or None where there is none."""
    folder = Path(folder)
    if not (folder / "latest.json").is_file():
        return None
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    record = read_object(folder / "latest.json", file=str, bytes=int, step=int)
    path = folder / record.pop("file")
    advice = f"remove {folder} to train again from the start"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing, though latest.json names it; {advice}")
    if path.stat().st_size != record.pop("bytes"):
        raise ValueError(f"{path} is truncated; {advice}")
    if record.pop("sha256", (found := file_sha256(path))) != found:
        raise ValueError(f"{path} is damaged (its SHA-256 is another); {advice}")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); {advice}") from None
    return record.pop("step"), tensors, record


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's tensors under flat names, `optimizer.<parameter>.<key>`."""
    state = optimizer.state_dict()["state"]
    return {f"optimizer.{index}.{key}": value for index, values in state.items() for key, value in values.items()}


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put tensors from `pack_optimizer` back; settings such as the learning rate stay the optimizer's own."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors renamed to `prefix.name`."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that `prefixed` renamed, under their own names."""
    return {name[len(prefix) + 1 :]: value for name, value in tensors.items() if name.startswith(prefix + ".")}
