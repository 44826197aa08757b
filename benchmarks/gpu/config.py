"""The parts of a measurement in order of their value, and its settings; no heavy library."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

MINUTES = 8.0  # that the parts' times below are of
# name -> (least seconds that it is worth starting with, most seconds that it may take)
PARTS: dict[str, tuple[float, float]] = {
    "environment": (5, 60),
    "tests": (20, 150),
    "training": (30, 130),
    "sampling": (20, 110),
    "preference": (20, 50),
    "judges": (20, 60),
    "study": (60, 24 * 3600),  # for as long as is left
}


@dataclass(frozen=True, kw_only=True)
class GpuConfig:
    """What is measured, where, and for how long."""

    minutes: float = MINUTES  # in all; what does not fit is named
    out: Path = Path("runs/gpu")  # folder of the records, one a part
    device: str = "auto"  # auto, cpu, cuda, cuda:N or mps
    sizes: Literal["released", "tiny"] = "released"  # 792 M and 407 M, or sizes that show that every part runs
    parts: tuple[str, ...] = tuple(PARTS)  # those to measure

    def __post_init__(self) -> None:
        if not self.minutes > 0:
            raise ValueError(f"minutes is {self.minutes}, must be above 0")
        if unknown := [name for name in self.parts if name not in PARTS]:
            raise ValueError(f"unknown part {unknown[0]!r}; valid: {', '.join(PARTS)}")
