"""Images a second of the detector and of the extractors, of their full size and with random weights."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.gpu.job import Job
from benchmarks.speed.quality import _RANDOM as EXTRACTORS
from geneval.detector import Detector
from geneval.preprocessing import Preprocessing
from geneval.prompts import OBJECTS

BATCH = {"released": 16, "tiny": 2}
PIXELS = {"released": 256, "tiny": 64}


def judges(job: Job) -> None:
    """A row for the detector, float32 as its verdicts need, and one for each extractor."""
    size = PIXELS[job.sizes]
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (size, size, 3), np.uint8)) for _ in range(BATCH[job.sizes])]
    with tempfile.TemporaryDirectory() as folder:
        named: dict[str, Callable[[], Callable[[Sequence[Any]], Any]]] = {"detector": lambda: _detector(job).detect}
        for name, make in EXTRACTORS.items() if job.sizes == "released" else ():
            named[name] = partial(_extractor, make, Path(folder) / name, str(job.device))
        for name, make_network in named.items():
            try:
                row = _timed(job, make_network(), pictures)
            except Exception as error:
                row = {"failed": f"{type(error).__name__}: {str(error)[:200]}"}
            job.add(f"{name}: {row.get('images_per_second', row.get('failed'))} images/s", {"network": name, **row})


def _extractor(make: Callable[[Path, str], Any], folder: Path, device: str) -> Callable[[Sequence[Any]], Any]:
    extractor = make(folder, device)
    return lambda pictures: extractor([extractor.prepare(picture) for picture in pictures])


def _timed(job: Job, network: Callable[[Sequence[Any]], Any], pictures: Sequence[Any]) -> dict[str, Any]:
    job.memory()
    network(pictures)
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        network(pictures)
        job.synchronize()
        seconds.append(time.perf_counter() - begun)
        if job.left < 5:
            break
    rate = len(pictures) / sorted(seconds)[len(seconds) // 2]
    return {"batch": len(pictures), "pixels": list(pictures[0].size), "seconds": seconds,
            "images_per_second": round(rate, 2), **job.memory()}  # fmt: skip


def _detector(job: Job) -> Detector:
    """GenEval's own, Swin-S at 800 pixels, with random weights; a small one for tiny sizes."""
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    torch.manual_seed(0)
    is_tiny = job.sizes == "tiny"
    swin: dict[str, Any] = {"embed_dim": 96, "depths": [2, 2, 18, 2], "num_heads": [3, 6, 12, 24], "window_size": 7}
    if is_tiny:
        swin = {"embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 4], "window_size": 4}
    swin["out_features"] = [f"stage{number}" for number in range(1, 5)]
    backbone = SwinConfig(**swin)
    widths: dict[str, Any] = {} if not is_tiny else {
        "feature_size": 16, "mask_feature_size": 16, "hidden_dim": 16, "encoder_layers": 1, "decoder_layers": 2,
        "encoder_feedforward_dim": 16, "dim_feedforward": 16, "num_attention_heads": 2,
    }  # fmt: skip
    config = Mask2FormerConfig(
        backbone_config=backbone, id2label=dict(enumerate(OBJECTS)), num_queries=20 if is_tiny else 100, **widths
    )
    settings = Preprocessing(shortest_edge=64, longest_edge=128) if is_tiny else Preprocessing()
    model = Mask2FormerForUniversalSegmentation(config).eval().to(job.device)
    return Detector(model, settings, OBJECTS, {"preprocessing": {"resize": "pillow"}})
