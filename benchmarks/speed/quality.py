"""How fast the quality metrics are: FID against SciPy's matrix root, extraction against bare forward passes.

FID is timed from statistics, in processor time. Extraction is timed by the wall clock, for hiding the decoding of
images behind the network is what it should do, and in processor time: what remains visible where the loaders' threads
find no free core. It is done with the given extractor folders, and with networks of full size and random weights (a
ViT-S/14 of DINOv2's shape, the FID Inception), on pictures made up here. The last line is JSON.
"""

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from PIL import Image

from benchmarks.quality.extractors import Extractor, load_extractor
from benchmarks.quality.features import LOADERS, extract, prepared
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
    random: tuple[Literal["vit-s14", "inception"], ...] = ("vit-s14", "inception"),
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
        extractors: open_clip or transformers folders to extract with.
        random: networks with random weights to extract with.
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
            networks = [load_extractor(source, device=device) for source in extractors]
            networks += [_RANDOM[kind](Path(scratch) / f"random-{kind}", device) for kind in random]
            record["extraction"] = [_extraction(network, folder, batch_size, repetitions) for network in networks]
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
    _, seconds = _in_turn(tasks, repetitions, values)
    faster = ratio(seconds, "matrix root", "own")
    apart = abs(values["own"] - values["matrix root"]) / values["own"]
    print(f"FID, {dimensions} dimensions, N = {samples}: {faster['median']:.1f}x faster, {apart:.1e} apart", flush=True)
    times = {name: summary(found) for name, found in seconds.items()}
    return {"dimensions": dimensions, "samples": samples, **times, "ratio": faster, "relative_difference": apart}


def _extraction(network: Extractor, folder: Path, batch_size: int, repetitions: int) -> dict[str, Any]:
    """Seconds of `extract` from files, of the same forward passes on tensors that are ready, and of making them ready.

    The last in one thread, so that it tells what there is to hide.
    """
    entries = list_images(folder)
    ready = [tensor for tensor, *_ in prepared(entries, network)]
    batches = [ready[start : start + batch_size] for start in range(0, len(ready), batch_size)]
    network(batches[0])

    def forward() -> float:
        return float(sum(network(batch).sum() for batch in batches))

    def prepare() -> float:
        return float(len(prepared(entries, network)))

    def whole() -> float:
        with tempfile.TemporaryDirectory() as out:
            extract(folder, network, Path(out) / "features.safetensors", batch_size=batch_size)
        return 0.0

    wall, processor = _in_turn({"extract": whole, "forward": forward, "prepare": prepare}, repetitions, {})
    slower, cost = ratio(wall, "extract", "forward"), ratio(processor, "extract", "forward")
    hidden = ratio(processor, "prepare", "forward")
    rate = len(entries) / min(wall["extract"])
    share = rate * _operations(network, batches[0]) / matmul_rate(torch.device(network.device), torch.float32)
    print(
        f"{network.name}: {rate:.1f} images/s, {slower['median']:.2f}x the forward passes ({cost['median']:.2f}x their "
        f"processor time; preparing takes {hidden['median']:.2f} of it), {share:.0%} of matmul rate",
        flush=True,
    )
    return {
        "name": network.name,
        "implementation": network.implementation,
        "images": len(entries),
        "pixels": list(decode_image(entries[0].read()).size),
        "batch_size": batch_size,
        "loaders": LOADERS,
        **{name: summary(found) for name, found in wall.items()},
        "processor": {name: summary(found) for name, found in processor.items()},
        "ratio": slower,
        "processor_ratio": cost,
        "prepare_ratio": hidden,
        "images_per_second": rate,
        "share_of_matmul_rate": share,
    }


def _in_turn(
    tasks: Mapping[str, Callable[[], float]], repetitions: int, values: dict[str, float]
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Wall and processor seconds of each task; their last values go into `values`.

    No task is run to warm up: some are long.
    """
    wall: dict[str, list[float]] = {name: [] for name in tasks}
    processor: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repetitions):
        for name, task in tasks.items():
            begun = time.perf_counter(), time.process_time()
            values[name] = task()
            wall[name].append(time.perf_counter() - begun[0])
            processor[name].append(time.process_time() - begun[1])
    return wall, processor


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


def _random_vit(folder: Path, device: str) -> Extractor:
    """A transformers folder: DINOv2's ViT-S/14 for 224 px with random weights."""
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=224)).save_pretrained(folder)
    BitImageProcessor(size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}).save_pretrained(folder)
    return load_extractor(folder, device=device)


def _random_inception(path: Path, device: str) -> Extractor:
    return load_extractor("inception-v3-compat", weights=write_random_inception(path), device=device)


def write_random_inception(path: Path) -> Path:
    """Random weights of the FID Inception in torch-fidelity's own file format."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Unloaded(FeatureExtractorInceptionV3):
        """The class cannot be built without a file of weights: what is in it is ignored."""

        def load_state_dict(self, state_dict, *args, **kwargs):
            return None

    torch.save({}, path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Unloaded("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path))
        for tensor in network.parameters():
            if tensor.ndim == 4:
                # Keeps the activations' size through the layers; the default would shrink them to nothing.
                torch.nn.init.kaiming_normal_(tensor, nonlinearity="relu")
    torch.save(network.state_dict(), path)
    return path


_RANDOM: dict[str, Callable[[Path, str], Extractor]] = {"vit-s14": _random_vit, "inception": _random_inception}


if __name__ == "__main__":
    tyro.cli(main, prog="python -m benchmarks.speed.quality", description=__doc__)
