"""How fast the quality metrics are: FID against SciPy's matrix root, extraction against bare forward passes.

FID is timed from statistics, in processor time. Extraction is timed by the wall clock, for hiding the decoding of
images behind the network is what it should do: the given extractor folders, and a ViT-S/14 of DINOv2's shape with
random weights, on pictures made up here. The last line is JSON.
"""

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from PIL import Image

from benchmarks.quality.extractors import Extractor, load_extractor
from benchmarks.quality.features import extract
from benchmarks.quality.frechet import frechet_distance
from benchmarks.quality.images import decode_image, list_images
from benchmarks.quality.moments import Statistics
from benchmarks.speed.limits import matmul_rate
from benchmarks.speed.timer import machine, ratio, summary


def main(
    *,
    dimensions: int = 2048,
    samples: int = 10_000,
    extractors: tuple[Path, ...] = (),
    images: int = 64,
    pixels: int = 256,
    batch_size: int = 16,
    repetitions: int = 3,
    threads: int = 1,
    device: str = "cpu",
    parts: tuple[str, ...] = ("fid", "extraction"),
) -> None:
    """Measure and print.

    Args:
        dimensions: of the features whose FID is timed.
        samples: N of each side's statistics.
        extractors: open_clip or transformers folders to extract with, besides the random ViT-S/14.
        images: pictures to extract from.
        pixels: their side.
        batch_size: pictures in a forward pass.
        repetitions: of each measurement; the two compared ones take turns.
        threads: of PyTorch; NumPy's and SciPy's are set by OMP_NUM_THREADS.
        device: of the networks.
        parts: fid, extraction, or both.
    """
    if unknown := set(parts) - {"fid", "extraction"}:
        raise SystemExit(f"error: no part {', '.join(sorted(unknown))}; valid: fid, extraction")
    torch.set_num_threads(threads)
    record: dict[str, Any] = {"schema": 1, "name": "speed/quality", "machine": machine(torch.device(device))}
    if "fid" in parts:
        record["fid"] = _fid(dimensions, samples, repetitions)
    if "extraction" in parts:
        with tempfile.TemporaryDirectory() as scratch:
            folder = _pictures(Path(scratch) / "images", images, pixels)
            record["extraction"] = [
                _extraction(load_extractor(source, device=device), folder, batch_size, repetitions)
                for source in (*extractors, _random_vit(Path(scratch) / "random-vit-s14"))
            ]
    print(json.dumps(record))


def _fid(dimensions: int, samples: int, repetitions: int) -> dict[str, Any]:
    """Processor seconds of both forms on the same statistics, and how far their values are apart."""
    small = [_statistics(64, 200, seed) for seed in (0, 1)]
    frechet_distance(*_arguments(small)), _with_matrix_root(small)  # imports and first calls
    pair = [_statistics(dimensions, samples, seed) for seed in (0, 1)]
    values: dict[str, float] = {}
    tasks: dict[str, Callable[[], float]] = {
        "matrix root": lambda: _with_matrix_root(pair),
        "own": lambda: frechet_distance(*_arguments(pair)),
    }
    seconds = _in_turn(tasks, repetitions, time.process_time, values)
    faster = ratio(seconds, "matrix root", "own")
    apart = abs(values["own"] - values["matrix root"]) / values["own"]
    print(f"FID, {dimensions} dimensions, N = {samples}: {faster['median']:.1f}x faster, {apart:.1e} apart", flush=True)
    times = {name: summary(found) for name, found in seconds.items()}
    return {"dimensions": dimensions, "samples": samples, **times, "ratio": faster, "relative_difference": apart}


def _extraction(network: Extractor, folder: Path, batch_size: int, repetitions: int) -> dict[str, Any]:
    """Wall seconds of `extract` from files and of the same forward passes on tensors that are ready."""
    entries = list_images(folder)
    ready = [network.prepare(decode_image(entry.read(), entry.id)) for entry in entries]
    batches = [ready[start : start + batch_size] for start in range(0, len(ready), batch_size)]
    network(batches[0])

    def forward() -> float:
        return float(sum(network(batch).sum() for batch in batches))

    def whole() -> float:
        with tempfile.TemporaryDirectory() as out:
            extract(folder, network, Path(out) / "features.safetensors", batch_size=batch_size)
        return 0.0

    seconds = _in_turn({"extract": whole, "forward": forward}, repetitions, time.perf_counter, {})
    slower = ratio(seconds, "extract", "forward")
    rate = len(entries) / min(seconds["extract"])
    share = rate * _operations(network, batches[0]) / matmul_rate(torch.device(network.device), torch.float32)
    print(
        f"{network.name}: {rate:.1f} images/s, {slower['median']:.2f}x the forward passes, {share:.0%} of matmul rate"
    )
    times = {name: summary(found) for name, found in seconds.items()}
    described = {"name": network.name, "implementation": network.implementation, "images": len(entries)}
    return {**described, **times, "ratio": slower, "images_per_second": rate, "share_of_matmul_rate": share}


def _in_turn(
    tasks: Mapping[str, Callable[[], float]], repetitions: int, clock: Callable[[], float], values: dict[str, float]
) -> dict[str, list[float]]:
    """Seconds of each task by `clock`; their last values go into `values`. No task is run to warm up: some are long."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repetitions):
        for name, task in tasks.items():
            begun = clock()
            values[name] = task()
            seconds[name].append(clock() - begun)
    return seconds


def _arguments(pair: Sequence[Statistics]) -> tuple[np.ndarray, ...]:
    return tuple(array for side in pair for array in (side.mean, side.covariance))


def _with_matrix_root(pair: Sequence[Statistics]) -> float:
    """The form of most implementations: a general square root of the covariances' product."""
    from scipy.linalg import sqrtm

    first, second = pair
    difference = first.mean - second.mean
    root = sqrtm(first.covariance @ second.covariance)
    return float(difference @ difference + np.trace(first.covariance + second.covariance) - 2 * np.trace(root).real)


def _statistics(dimensions: int, samples: int, seed: int) -> Statistics:
    """Of features with a decaying spectrum, none negative, as a network's last layer gives."""
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(dimensions, dimensions)) * np.arange(1, dimensions + 1) ** -0.5
    return Statistics.of(np.maximum(generator.normal(size=(samples, dimensions)) @ mixing.T / 4 + 0.2, 0))


def _operations(network: Extractor, batch: list) -> float:
    """Floating-point operations of one image."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        network(batch)
    return counter.get_total_flops() / len(batch)


def _pictures(folder: Path, count: int, pixels: int) -> Path:
    """PNG files of soft blobs with noise, which compress about as photographs do."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for index in range(count):
        blobs = Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((pixels, pixels))
        noisy = np.asarray(blobs) + generator.normal(0, 4, (pixels, pixels, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{index:05d}.png")
    return folder


def _random_vit(folder: Path) -> Path:
    """A transformers folder: DINOv2's ViT-S/14 for 224 px with random weights."""
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=224)).save_pretrained(folder)
    BitImageProcessor(size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    tyro.cli(main, prog="python -m benchmarks.speed.quality", description=__doc__)
