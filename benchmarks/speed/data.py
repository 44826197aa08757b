"""One's own data: where import and prepare spend their time, what a mapped cache costs training, how fast subsets are.

Import and prepare read JPEGs of 200 to 1,024 px, drawn here or one's own, with the embedded encoders at `pixels`;
shares are of processor time, memory is the process's peak, for a quarter of the pictures and for all of them. Training
steps (tiny preset) on a cache of random numbers that is larger than what is held in memory alternate with the same
steps on the same cache in memory. The last line is JSON.
"""

import cProfile
import json
import pstats
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmarks.speed.config import DataSpeed
from benchmarks.speed.memory import peak_bytes, reset_peak
from benchmarks.speed.models import make_model
from benchmarks.speed.report import Report
from benchmarks.speed.timer import in_turn, ratio, summary
from lightgen.console import component
from lightgen.data.cache_files import SCHEMA, index_identity
from lightgen.data.clusters import clusters
from lightgen.data.config import EncodeConfig, ImportConfig, SubsetConfig
from lightgen.data.encoding import encode_dataset
from lightgen.data.importing import import_images
from lightgen.data.latents import RAM_LIMIT, LatentDataset
from lightgen.data.pool import Pool
from lightgen.data.subsets import Grouped, draw
from lightgen.disk.folders import file_sha256
from lightgen.model.encoders import ImageTokenizer, TextEncoder
from lightgen.presets import PRESETS
from lightgen.training.config import LoopConfig
from lightgen.training.processes import make_accelerator
from lightgen.training.train import TrainingRun

SIDES = (200, 1024)  # px, of the pictures
SHARD = 1000  # samples of the random cache
POSITIONS = 12  # of its captions
# (file, function) whose processor time is told, by the word for it.
IMPORT = {
    "decode": ("images.py", "read_image"), "resize": ("squares.py", "_cut"), "png": ("images.py", "png_bytes"),
}  # fmt: skip
PREPARE = {
    "decode": ("images.py", "read_image"), "forward, images": ("encoders.py", "moments"),
    "forward, text": ("encoding.py", "encode_captions"),
}  # fmt: skip
USEFUL = ("decode", "resize", "forward, images", "forward, text")


def run_benchmark(config: DataSpeed) -> dict[str, Any]:
    """Measure and print."""
    report = Report("data", config, threads=config.threads)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        if "stages" in config.parts:
            for count in dict.fromkeys((max(1, config.images // 4), config.images)):
                row = measure_stages(scratch / str(count), count, config)
                report.add_row(_stages_line(row), row)
        if "mapped" in config.parts:
            found = measure_mapped(scratch / "cache", config.cached, config.steps, config.repetitions)
            spread = found["ratio"]["processor"]
            line = "mapped / in memory, processor time of {steps} steps: {median:.3f} [{least:.3f}, {most:.3f}]"
            report.add(line.format(steps=config.steps, **spread), mapped=found)
        if "subset" in config.parts:
            found = measure_subset(config.ids)
            report.add(f"{found['images']} of {found['ids']} ids: {found['seconds']:.1f} s of one core", subset=found)
    return report.finish()


def measure_stages(scratch: Path, count: int, config: DataSpeed) -> dict[str, Any]:
    """Import and prepare of `count` pictures: processor seconds, their shares, peaks in bytes."""
    place, pixels = scratch / "pictures", config.pixels
    if config.pictures is None:
        draw_pictures(place, count)
    else:
        _link_pictures(config.pictures, place, count)
    importing = ImportConfig(size=pixels, smallest=SIDES[0])
    imported = _profiled(lambda: import_images(place, scratch / "dataset", importing), IMPORT)
    parts: Any = {name: component(Path("icons"), name) for name in ("vae", "text")}
    encoders: Any = {
        "tokenizer": ImageTokenizer.from_pretrained(parts["vae"]),
        "text": TextEncoder.from_pretrained(parts["text"], 32),
    }
    encoding = EncodeConfig(batch_size=config.batch_size)
    prepared = _profiled(
        lambda: encode_dataset(scratch / "dataset", scratch / "latents", encoding, **encoders), PREPARE
    )
    useful = sum(stage["seconds"].get(name, 0.0) for stage in (imported, prepared) for name in USEFUL)
    share = useful / (imported["total"] + prepared["total"])
    drawn = config.pictures is None
    return {
        "images": count,
        "drawn": drawn,
        "pixels": pixels,
        "import": imported,
        "prepare": prepared,
        "useful_share": round(share, 3),
    }


def draw_pictures(folder: Path, count: int) -> None:
    """Captioned JPEGs with the detail of photographs, sides drawn evenly between `SIDES`."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(count)
    for number in range(count):
        width, height = (int(side) for side in rng.integers(SIDES[0], SIDES[1] + 1, 2))
        coarse = Image.fromarray(rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{number:06d}.jpg", quality=90)
        (folder / f"{number:06d}.txt").write_text(f"picture {number} of {count}, {width} by {height}")


def _link_pictures(source: Path, folder: Path, count: int) -> None:
    """The first `count` captioned JPEGs of a folder."""
    folder.mkdir(parents=True)
    found = [path for path in sorted(source.glob("*.jpg")) if path.with_suffix(".txt").is_file()][:count]
    if len(found) < count:
        raise ValueError(f"{source} holds {len(found)} JPEGs with a .txt beside them, not {count}; give fewer --images")
    for path in found:
        for file in (path, path.with_suffix(".txt")):
            (folder / file.name).symlink_to(file.resolve())


def _profiled(work: Callable[[], Any], names: dict[str, tuple[str, str]]) -> dict[str, Any]:
    reset_peak(torch.device("cpu"))
    profile = cProfile.Profile(time.process_time)
    begun = time.process_time()
    profile.runcall(work)
    total = time.process_time() - begun
    table = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    seconds = {
        word: round(sum(row[3] for key, row in table.items() if key[0].endswith(file) and key[2] == function), 3)
        for word, (file, function) in names.items()
    }
    return {"total": round(total, 3), "seconds": seconds, "peak": peak_bytes(torch.device("cpu"))}


def _stages_line(row: dict[str, Any]) -> str:
    parts = [f"{row['images']} pictures to {row['pixels']} px: {row['useful_share']:.1%} decoding, resizing, forward"]
    for name in ("import", "prepare"):
        told = ", ".join(f"{word} {found / row[name]['total']:.0%}" for word, found in row[name]["seconds"].items())
        parts.append(f"{name} {row[name]['total']:.1f} s ({told}), {row[name]['peak'] / 1e9:.2f} GB")
    return "; ".join(parts)


def measure_mapped(folder: Path, count: int, steps: int, repetitions: int) -> dict[str, Any]:
    """Seconds of `steps` training steps on a mapped cache of `count` samples and on the same in memory, in turn."""
    write_random_cache(folder, count)
    row, runs = PRESETS["tiny"], {}
    for name, limit in (("mapped", 0 if count * 2000 < RAM_LIMIT else RAM_LIMIT), ("in memory", 2**60)):
        data = LatentDataset(folder, ram_limit=limit)
        assert data.is_mapped == (name == "mapped")
        endless = replace(row.train, samples_seen=10**9)
        model = make_model(row.model, torch.device("cpu"))
        run = TrainingRun(endless, model, data, folder / name, make_accelerator("fp32", "cpu"), LoopConfig())
        runs[name] = lambda run=run: [run.one_step() for _ in range(steps)]
    for task in runs.values():
        task()
    clocks = in_turn(runs, repetitions, time.process_time, time.perf_counter)
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    words = ("processor", "wall")
    return {
        "bytes": size,
        "limit": RAM_LIMIT,
        "batch_size": row.train.batch_size,
        "steps": steps,
        "seconds": {word: {n: summary(v) for n, v in found.items()} for word, found in zip(words, clocks)},
        "ratio": {word: ratio(found, "mapped", "in memory") for word, found in zip(words, clocks)},
    }


def write_random_cache(folder: Path, count: int) -> None:
    """A cache of random numbers as the tiny preset reads it, a caption of `POSITIONS` a sample."""
    model = PRESETS["tiny"].model
    side = model.position_grid * model.patch_size
    folder.mkdir(parents=True)
    generator, entries = torch.Generator().manual_seed(0), []
    for first in range(0, count, SHARD):
        size, path = min(SHARD, count - first), folder / f"latents_{first // SHARD:06d}.safetensors"
        shapes: dict[str, tuple[int, ...]] = {"moments": (size, 2 * model.vae_channels, side, side)}
        shapes["features"] = (size * POSITIONS, model.text_channels)
        tensors = {name: torch.randn(shape, generator=generator).bfloat16() for name, shape in shapes.items()}
        tensors |= {"caption": torch.arange(size), "lengths": torch.full((size,), POSITIONS)}
        save_file(tensors, path)
        entries.append({"file": path.name, "samples": size, "bytes": path.stat().st_size, "sha256": file_sha256(path)})
    index: dict[str, Any] = {
        "schema": SCHEMA,
        "vae": {"channels": model.vae_channels, "stride": model.vae_stride, "shift": 0.0, "scale": 1.0},
        "text": {"channels": model.text_channels, "max_length": model.max_text_length},
        **{"flips": False, "keep_padding": False, "once": False, "dtype": "bfloat16"},
        **{"num_samples": count, "num_captions": count, "grid": [side, side], "shards": entries},
    }
    index["identity"] = index_identity(index)
    (folder / "index.json").write_text(json.dumps(index))


def measure_subset(count: int, dimensions: int = 64, groups: int = 64) -> dict[str, Any]:
    """Processor seconds of clustering `count` samples, drawing a tenth of them from 16 clusters, and all measures."""
    rng = np.random.default_rng(0)
    center = rng.integers(0, groups, count)
    spread = rng.integers(-90, 90, (groups, dimensions))
    features = (spread[center] + rng.normal(0, 10, (count, dimensions))).clip(-127, 127).round().astype(np.int16)
    lengths = 20 + center + rng.integers(0, 30, count)
    captions = [f"{'x' * (int(length) - 9)} {number:08d}" for number, length in enumerate(lengths)]
    pool = Pool("random", captions, np.arange(count), [f"key{number}" for number in range(count)])
    begun = time.process_time()
    found_clusters = clusters(features, groups)
    data = Grouped(pool, found_clusters, found_clusters, features, pool.caption)
    narrow, diverse = (
        draw(data, SubsetConfig(images=count // 10, diversity=level, held_out=0.05, clusters=groups))
        for level in (str(groups // 4), "diverse")
    )
    seconds = time.process_time() - begun
    apart = [found["balance"][0]["difference"] for found in (narrow, diverse)]
    return {
        "ids": count,
        "images": count // 10,
        "subsets": 2,
        "seconds": round(seconds, 2),
        "length_differences": apart,
    }
