"""Which weight files the named extractors need, where they must lie, and whether they are there. Nothing downloads."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class MissingWeights(FileNotFoundError):
    """Weights that are not on this machine; the message says which, how large and where to put them."""


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """One file: its upstream (a URL or a hub repository), size in MB, and start of its sha256 where that is known."""

    file: str
    url: str = ""
    repository: str = ""
    megabytes: int
    sha256_start: str = ""
    companions: tuple[str, ...] = ()  # small files of the same repository that must lie beside it

    def path(self) -> Path | None:
        """The file on this machine, or None."""
        if self.repository:
            from huggingface_hub import try_to_load_from_cache

            found = try_to_load_from_cache(self.repository, self.file)
            return Path(found) if isinstance(found, str) else None
        return self.expected() if self.expected().is_file() else None

    def expected(self) -> Path:
        """Where the libraries look for it."""
        if self.repository:
            from huggingface_hub.constants import HF_HUB_CACHE

            folder = "models--" + self.repository.replace("/", "--")
            return Path(HF_HUB_CACHE) / folder / "snapshots" / "REVISION" / self.file
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(os.environ.get("TORCH_HOME") or Path(home) / "torch") / "hub" / "checkpoints" / self.file


INCEPTION = WeightFile(
    file="weights-inception-2015-12-05-6726825d.pth",
    url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    megabytes=96,
    sha256_start="6726825d",
)
DINOV2 = WeightFile(
    file="model.safetensors",
    repository="facebook/dinov2-large",
    megabytes=1218,
    companions=("config.json", "preprocessor_config.json"),
)

KNOWN: dict[str, WeightFile] = {
    "inception-v3-compat": INCEPTION,
    "inception-v3-compat-clean": INCEPTION,
    "clip-ViT-L-14": WeightFile(
        file="open_clip_model.safetensors", repository="timm/vit_large_patch14_clip_224.openai", megabytes=1711
    ),
    "clip-ViT-B-32": WeightFile(
        file="open_clip_model.safetensors", repository="timm/vit_base_patch32_clip_224.openai", megabytes=605
    ),
    "dinov2-vitl14": DINOV2,
}


def require(name: str, weight: WeightFile) -> Path:
    """The weight file's path, or MissingWeights with everything needed to put it there."""
    path = weight.path()
    if path and not (absent := _absent(path, weight)):
        return path
    if path:
        raise MissingWeights(f"{name} needs {', '.join(absent)} of {weight.repository} beside {path}; copy them there")
    source = weight.url or f"https://huggingface.co/{weight.repository}"
    size = f", {weight.megabytes} MB" if weight.megabytes else ""
    known = f", sha256 {weight.sha256_start}..." if weight.sha256_start else ""
    place = f"put it at {weight.expected()}"
    if weight.repository:
        # The cache finds a snapshot through refs/main beside it: the file alone is not enough.
        cached = weight.expected().parents[2]
        place = f"copy {cached} from a machine that ran `hf download {weight.repository}`"
    raise MissingWeights(f"{name} needs {weight.file} ({source}{size}{known}); {place}, or name a model folder instead")


def _absent(path: Path, weight: WeightFile) -> list[str]:
    return [name for name in weight.companions if not (path.parent / name).is_file()]


def doctor(*, verify: bool = False) -> list[dict[str, Any]]:
    """One row a named extractor: file, whether it is there, size, where it belongs, how its sha256 starts if known.

    With `verify` the sha256 of the file that is there, compared.
    """
    return [_examine(name, weight, verify) for name, weight in KNOWN.items()]


def _examine(name: str, weight: WeightFile, verify: bool) -> dict[str, Any]:
    path = weight.path()
    row: dict[str, Any] = {
        "extractor": name,
        "status": "present" if path else "missing",
        "file": str(path or weight.expected()),
        "source": weight.url or f"https://huggingface.co/{weight.repository}",
        "megabytes": round(path.stat().st_size / 1e6) if path else weight.megabytes,
        "sha256": f"{weight.sha256_start}..." if weight.sha256_start else "",
    }
    if path and (absent := _absent(path, weight)):
        row["status"] = f"without {', '.join(absent)}"
    if path and verify:
        row["sha256"] = file_sha256(path)
        if not row["sha256"].startswith(weight.sha256_start):
            row["status"] = f"wrong file (sha256 should start with {weight.sha256_start})"
    return row


def file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_sha256(model) -> str:
    """Hash of a network's tensors by name, the identity of weights whose file a library chose itself."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(_bytes()).numpy().tobytes())
    return digest.hexdigest()


def _bytes():
    import torch

    return torch.uint8
