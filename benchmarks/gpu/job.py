"""What a part of the measurement is given, and its record, which grows with every row."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lightgen.disk.json_files import write_json
from lightgen.model.config import MARConfig
from lightgen.presets import PRESETS

TINY = MARConfig(
    width=32, encoder_depth=1, decoder_depth=1, cross_depth=1, heads=2, text_depth=1, text_channels=16,
    max_text_length=8, vae_channels=4, position_grid=4, head_depth=1, head_width=32, noise_copies=2,
)  # fmt: skip


@dataclass
class Job:
    """A part's device, sizes and time, and what it has measured."""

    name: str
    path: Path
    device: torch.device
    sizes: str  # released or tiny
    seconds: float
    record: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.begun = time.monotonic()
        self.record = {"schema": 1, "name": f"gpu/{self.name}", "device": self.device_name, "sizes": self.sizes}

    @property
    def device_name(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type

    @property
    def models(self) -> dict[str, MARConfig]:
        """The models that are timed, by name: 792 M and 407 M parameters, or one that a CPU is quick with."""
        if self.sizes == "tiny":
            return {"tiny": TINY}
        return {"792M": PRESETS["released"].model, "407M": PRESETS["released-base"].model}

    @property
    def left(self) -> float:
        """Seconds until the part should end."""
        return self.seconds - (time.monotonic() - self.begun)

    def add(self, line: str, row: dict[str, Any]) -> None:
        """One more row: on disk at once, and said."""
        print(f"  {line}", flush=True)
        self.record["rows"] = [*self.record.get("rows", ()), row]
        self.write()

    def write(self) -> None:
        write_json(self.path, self.record | {"seconds": round(time.monotonic() - self.begun, 1)})

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)

    def memory(self) -> dict[str, float]:
        """GB at most since the last call, where a device counts them."""
        if self.device.type != "cuda":
            return {}
        peak = torch.cuda.max_memory_allocated(self.device) / 1e9
        torch.cuda.reset_peak_memory_stats(self.device)
        return {"peak_gb": round(peak, 2)}

    def free_bytes(self) -> int:
        """Bytes that a model and its batch may take."""
        return torch.cuda.mem_get_info(self.device)[0] if self.device.type == "cuda" else 2**30
