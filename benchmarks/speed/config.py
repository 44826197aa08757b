"""Settings of the speed benchmarks; they load no heavy library."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lightgen.disk.bounds import require


@dataclass(frozen=True, kw_only=True)
class SpeedConfig:
    """Where a benchmark's record goes."""

    out: Path | None = None  # file for the JSON as well; it grows with each row
    json: bool = False  # print the JSON alone


@dataclass(frozen=True, kw_only=True)
class ModelSpeed(SpeedConfig):
    """Models of random weights, timed by the fast paths against the reference paths."""

    sizes: tuple[str, ...] = ("10m", "golden")  # golden, 10m, released
    repetitions: int = 3  # of each path, in turn, after one unmeasured
    threads: int = 1  # of the CPU
    device: str = "auto"  # auto, cpu, cuda, cuda:N or mps
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16 where a GPU has it
    batch_size: int = 0  # images at once (0: the size's own; training 4)
    fast_only: bool = False  # leave the reference path out


@dataclass(frozen=True, kw_only=True)
class ChoicesSpeed:
    """What an image costs by each way to sample."""

    images: int = 64  # made at once
    repetitions: int = 5  # of each way, in turn, after one unmeasured
    threads: int = 1  # of the CPU
    device: str = "auto"  # auto, cpu, cuda, cuda:N or mps
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16 where a GPU has it

    def __post_init__(self) -> None:
        require(self, "[1, 10000]", "images", "repetitions", "threads")


@dataclass(frozen=True, kw_only=True)
class MemoryPeak(SpeedConfig):
    """The memory of sampling."""

    sizes: tuple[str, ...] = ("released",)  # golden, 10m, released
    threads: int = 1  # of the CPU
    device: str = "auto"  # auto, cpu, cuda, cuda:N or mps
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16 where a GPU has it


@dataclass(frozen=True, kw_only=True)
class PreferenceCost(SpeedConfig):
    """What preference training costs."""

    model: str = "tiny"  # what is timed: a preset's (tiny, small, ...) or a size (golden, 10m, released)
    pairs: int = 48  # in a step
    steps: int = 4  # in one measurement
    repetitions: int = 5  # of each measurement, in turn, after one unmeasured
    threads: int = 1  # of the CPU
    parts: tuple[Literal["steps", "memory"], ...] = ("steps", "memory")  # steps, memory, or both


@dataclass(frozen=True, kw_only=True)
class GenevalSpeed(SpeedConfig):
    """GenEval's verdicts."""

    repetitions: int = 7  # of each measurement, after one unmeasured
    detections: int = 100  # an image
    images: Path | None = None  # keep the folder of images here


@dataclass(frozen=True, kw_only=True)
class JudgeSpeed(SpeedConfig):
    """GenEval in a process, over a folder, and as a service."""

    detector: Path | None = None  # detector folder (default: the icon world's)
    clip: str | None = None  # color classifier (default: the icon world's)
    images: int = 96  # pictures of one size
    batch_size: int = 8  # pictures in a forward pass and in a request
    repetitions: int = 3  # of each way, in turn, after one unmeasured
    threads: int = 1  # of PyTorch


@dataclass(frozen=True, kw_only=True)
class QualitySpeed(SpeedConfig):
    """FID and the extraction of features."""

    dimensions: int = 2048  # of the features whose FID is timed
    samples: int = 10_000  # of each side's statistics
    extractors: tuple[Path, ...] = ()  # open_clip or transformers folders to extract with
    random: tuple[Literal["vit-s14", "inception"], ...] = ("vit-s14", "inception")  # networks with random weights
    images: int = 64  # pictures to extract from
    pixels: int = 256  # their side
    batch_size: int = 16  # pictures in a forward pass
    repetitions: int = 3  # of each measurement; those that are compared take turns
    threads: int = 1  # of PyTorch; NumPy's and SciPy's are set by OMP_NUM_THREADS
    device: str = "auto"  # auto, cpu, cuda, cuda:N or mps; of the networks
    parts: tuple[Literal["fid", "extraction"], ...] = ("fid", "extraction")  # fid, extraction, or both


@dataclass(frozen=True, kw_only=True)
class ChecksCost(SpeedConfig):
    """What the checks of files cost in the cells of a study."""

    scales: tuple[str, ...] = ("smoke", "cpu")  # smoke, cpu, or both
    study: str = "diversity_sweep"  # whose cells are run
    variants: tuple[str, ...] = ("untrained", "small-diverse")  # its variants
    changes: tuple[str, ...] = ("train.samples_seen=12000",)  # of the setting at scales above smoke: a tenth to train
    repetitions: int = 3  # runs of each scale


@dataclass(frozen=True, kw_only=True)
class DataSpeed(SpeedConfig):
    """One's own data: import, prepare, training from a mapped cache, subsets."""

    images: int = 2000  # pictures that are imported and prepared; a quarter of them first
    pictures: Path | None = None  # folder with NAME.jpg and NAME.txt to take them from (default: drawn, noisy ones)
    pixels: int = 256  # their side after import
    batch_size: int = 16  # pictures in a forward pass
    cached: int = 650_000  # samples of the mapped cache, 1.8 KB each; from 537,000 on it is larger than memory holds
    steps: int = 10  # of training in one measurement
    repetitions: int = 5  # of each measurement, in turn, after one unmeasured
    ids: int = 1_000_000  # that subsets are drawn from
    threads: int = 1  # of PyTorch; NumPy's are set by OMP_NUM_THREADS
    parts: tuple[Literal["stages", "mapped", "subset"], ...] = ("stages", "mapped", "subset")  # some of these
