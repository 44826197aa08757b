"""How fast the quality metrics are: FID against SciPy's matrix root, extraction against bare forward passes.

FID is timed from statistics, in processor time. Extraction is timed by the wall clock, for hiding the decoding of
images behind the network is what it should do, and in processor time: what remains visible where the loaders' threads
find no free core. It is done with the given extractor folders, and with networks of full size and random weights (a
ViT-S/14 of DINOv2's shape, the FID Inception), on pictures made up here. The last line is JSON.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.quality.config import ExtractionConfig
from benchmarks.quality.extraction import LOADERS, extract, prepared
from benchmarks.quality.extractors import Extractor, load_extractor
from benchmarks.quality.frechet import frechet_distance
from benchmarks.quality.images import decode_image, list_images
from benchmarks.quality.moments import Statistics
from benchmarks.speed.config import QualitySpeed
from benchmarks.speed.limits import matmul_rate
from benchmarks.speed.report import Report
from benchmarks.speed.timer import in_turn, ratio, summary
from geneval.device import choose_device


def run_benchmark(config: QualitySpeed) -> dict[str, Any]:
    """Measure and print."""
    torch.set_num_threads(config.threads)
    device = choose_device(config.device)
    report = Report("quality", config, device)
    if "fid" in config.parts:
        _fid(config, report)
    if "extraction" in config.parts:
        with tempfile.TemporaryDirectory() as scratch:
            folder = _pictures(Path(scratch) / "images", config.images, config.pixels)
            networks = [load_extractor(source, device=device) for source in config.extractors]
            networks += [_RANDOM[kind](Path(scratch) / f"random-{kind}", device) for kind in config.random]
            for network in networks:
                report.add_row(*_extraction(network, folder, config), to="extraction")
    return report.finish()


def _fid(config: QualitySpeed, report: Report) -> None:
    """Processor seconds of both forms on the same statistics, and how far their values are apart."""
    dimensions, samples = config.dimensions, config.samples
    small = [_statistics(64, 200, seed) for seed in (0, 1)]
    frechet_distance(*_arguments(small)), _with_matrix_root(small)  # imports and first calls
    pair = [_statistics(dimensions, samples, seed) for seed in (0, 1)]
    values: dict[str, float] = {}
    tasks = {
        "matrix root": lambda: values.update(root=_with_matrix_root(pair)),
        "own": lambda: values.update(own=frechet_distance(*_arguments(pair))),
    }
    (seconds,) = in_turn(tasks, config.repetitions, time.process_time)  # none unmeasured before: some are long
    faster = ratio(seconds, "matrix root", "own")
    apart = abs(values["own"] - values["root"]) / values["own"]
    found: dict[str, Any] = {name: summary(times) for name, times in seconds.items()}
    found |= {"dimensions": dimensions, "samples": samples, "ratio": faster, "relative_difference": apart}
    said = f"{faster['median']:.1f}x faster, {apart:.1e} apart"
    report.add(f"FID, {dimensions} dimensions, N = {samples}: {said}", fid=found)


def _extraction(network: Extractor, folder: Path, config: QualitySpeed) -> tuple[str, dict[str, Any]]:
    """Seconds of `extract` from files, of the same forward passes on tensors that are ready, and of making them ready.

    The last in one thread, so that it tells what there is to hide.
    """
    entries = list_images(folder)
    ready = [tensor for tensor, *_ in prepared(entries, network)]
    batches = [ready[start : start + config.batch_size] for start in range(0, len(ready), config.batch_size)]
    network(batches[0])

    def whole() -> None:
        with tempfile.TemporaryDirectory() as out:
            extract(folder, network, Path(out) / "features.safetensors", ExtractionConfig(batch_size=config.batch_size))

    tasks = {
        "extract": whole,
        "forward": lambda: [network(batch) for batch in batches],
        "prepare": lambda: prepared(entries, network),
    }
    wall, processor = in_turn(tasks, config.repetitions, time.perf_counter, time.process_time)
    rate = len(entries) / min(wall["extract"])
    share = rate * _operations(network, batches[0]) / matmul_rate(torch.device(network.device), torch.float32)
    row = {
        "name": network.name,
        "implementation": network.implementation,
        "images": len(entries),
        "pixels": list(decode_image(entries[0].read()).size),
        "batch_size": config.batch_size,
        "loaders": LOADERS,
        **{name: summary(found) for name, found in wall.items()},
        "processor": {name: summary(found) for name, found in processor.items()},
        "ratio": ratio(wall, "extract", "forward"),
        "processor_ratio": ratio(processor, "extract", "forward"),
        "prepare_ratio": ratio(processor, "prepare", "forward"),
        "images_per_second": rate,
        "share_of_matmul_rate": share,
    }
    return _extraction_line(row), row


def _extraction_line(row: dict[str, Any]) -> str:
    slower, cost, hidden = (row[name]["median"] for name in ("ratio", "processor_ratio", "prepare_ratio"))
    return (
        f"{row['name']}: {row['images_per_second']:.1f} images/s, {slower:.2f}x the forward passes ({cost:.2f}x their "
        f"processor time; preparing takes {hidden:.2f} of it), {row['share_of_matmul_rate']:.0%} of matmul rate"
    )


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
