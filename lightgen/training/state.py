"""The state of an interrupted run: one safetensors file per saved step, and `latest.json`, which names the newest.

The pointer moves only after the file is whole on disk, and the older file goes only after the pointer moved: a kill
at any moment leaves a state that loads.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightgen.disk.atomic import atomic_file
from lightgen.disk.json_files import read_json, write_json


def save_state(folder: Path, step: int, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Keep the tensors and a JSON record as the state after `step` steps."""
    from safetensors.torch import save

    path = Path(folder) / f"state_{step:09d}.safetensors"
    # Clones: safetensors refuses tensors that share memory, and views of one buffer do.
    data = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()})
    with atomic_file(path) as file:
        file.write(data)
    write_json(path.parent / "latest.json", {"file": path.name, "bytes": len(data), "step": step, **record})
    for old in path.parent.glob("state_*.safetensors"):
        if old != path:
            old.unlink()


def load_state(folder: Path) -> tuple[int, dict[str, Tensor], dict[str, Any]] | None:
    """(step, tensors, record) of the newest state, or None where there is none."""
    folder = Path(folder)
    if not (folder / "latest.json").is_file():
        return None
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    record = read_json(folder / "latest.json")
    path = folder / record.pop("file")
    advice = f"remove {folder} to train again from the start"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing, though latest.json names it; {advice}")
    if path.stat().st_size != record.pop("bytes"):
        raise ValueError(f"{path} is truncated; {advice}")
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
