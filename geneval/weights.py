"""Weight files that are not part of this repository: what each is, how large, where it belongs. Nothing downloads."""

import os
from dataclasses import dataclass
from pathlib import Path

from geneval.hashes import file_sha256


class MissingWeights(FileNotFoundError):
    """Weights that are not on this machine; the message says which, how large and where to put them."""


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """One file: its upstream (a URL or a Hub repository), size, and the start of its sha256 where that is known."""

    file: str
    url: str = ""
    repository: str = ""
    megabytes: int = 0  # 0: not known
    sha256_start: str = ""
    companions: tuple[str, ...] = ()  # small files of the same repository that must lie beside it

    @property
    def source(self) -> str:
        """Where it can be had."""
        return self.url or f"https://huggingface.co/{self.repository}"

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

    def absent_companions(self, path: Path) -> list[str]:
        """The companions that do not lie beside the file."""
        return [name for name in self.companions if not (path.parent / name).is_file()]

    def described(self) -> str:
        """Source, size and the start of the sha256."""
        size = f", {self.megabytes} MB" if self.megabytes else ""
        return self.source + size + (f", sha256 {self.sha256_start}..." if self.sha256_start else "")


def require(name: str, weight: WeightFile, instead: str = "name a model folder instead") -> Path:
    """The weight file's path, or MissingWeights with everything needed to put it there."""
    path = weight.path()
    if path and not (absent := weight.absent_companions(path)):
        return path
    if path:
        raise MissingWeights(f"{name} needs {', '.join(absent)} of {weight.repository} beside {path}; copy them there")
    place = f"put it at {weight.expected()}"
    if weight.repository:
        # The cache finds a snapshot through refs/main beside it: the file alone is not enough.
        cached = weight.expected().parents[2]
        place = f"copy {cached} from a machine that ran `hf download {weight.repository}`"
    raise MissingWeights(f"{name} needs {weight.file} ({weight.described()}); {place}, or {instead}")


def examine(weight: WeightFile, *, verify: bool = False) -> tuple[bool, str]:
    """Whether a weight file is here and whole, and one line about it; with `verify` its sha256 is compared."""
    path = weight.path()
    if path is None:
        return False, f"{weight.file} ({weight.described()}); it belongs at {weight.expected()}"
    text = f"{path}, {path.stat().st_size / 1e6:.0f} MB"
    if absent := weight.absent_companions(path):
        return False, f"{text}, without {', '.join(absent)}"
    if not verify:
        return True, text
    found = file_sha256(path)
    is_right = found.startswith(weight.sha256_start)
    return is_right, f"{text}, sha256 {found}" + ("" if is_right else f": wrong file, not {weight.sha256_start}...")
