"""The state of an interrupted run: one safetensors file per saved step, and `latest.json`, which names the newest.

The pointer moves only after the file is whole on disk, and the older file goes only after the pointer moved: a kill
at any moment leaves a state that loads.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightgen.disk.atomic import atomic_file
from lightgen.disk.folders import folder_sha256
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


class Journal:
    """`metrics.jsonl`: one JSON object a line, appended; opening it drops a torn tail and rows past `last_step`."""

    def __init__(self, path: Path, last_step: int):
        rows = read_journal(path)
        kept = [row for row in rows if row["step"] <= last_step]
        text = "".join(json.dumps(row) + "\n" for row in kept)
        if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
            with atomic_file(path) as file:
                file.write(text.encode())
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed by close()

    def write(self, row: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(row, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The whole rows of a journal; reading ends at the first torn line."""
    rows: list[dict[str, Any]] = []
    if not Path(path).is_file():
        return rows
    for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        if not isinstance(row, dict) or "step" not in row:
            break
        rows.append(row)
    return rows


def finished_result(out: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The result of a finished run of these settings; a folder of other settings is refused."""
    path = out / "training.json"
    if not path.is_file():
        return None
    record = read_json(path)
    result = record.pop("result", None)
    if record != settings:
        changed = [name for name in settings if record.get(name) != settings[name]]
        raise ValueError(f"{out} belongs to a run of other settings ({', '.join(changed)}); choose another folder")
    return result


def folder_identity(folder: Path) -> str:
    """The identity of a pipeline folder's trained model."""
    return folder_sha256(Path(folder) / "transformer")


def write_lineage(folder: Path, *, parent: Path) -> None:
    """Keep in a pipeline folder which models its own was trained from, oldest first."""
    write_json(Path(folder) / "lineage.json", {"ancestors": [*read_lineage(parent), folder_identity(parent)]})


def read_lineage(folder: Path) -> list[str]:
    """The identities of the models that a pipeline folder's was trained from, oldest first."""
    path = Path(folder) / "lineage.json"
    return read_json(path)["ancestors"] if path.is_file() else []
