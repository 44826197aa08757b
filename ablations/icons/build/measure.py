"""The finished set of components, measured together: does the judge see what the teacher drew and the VAE restored?"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ablations.icons.build.pictures import degrade
from ablations.icons.compositions import compositions
from ablations.icons.scenes import arrange
from ablations.icons.teacher import draw
from ablations.icons.world import TASKS, WORLDS, World


def asked_pictures(world: World, count: int, seed: int) -> tuple[list[dict[str, Any]], np.ndarray]:
    """`count` requests, tasks in turn, and the teacher's pictures of them (count, H, W, 3) uint8."""
    rng, choices = np.random.default_rng((seed, 51)), compositions(world, "all")
    asked = []
    for index in range(count):
        options = choices[TASKS[index % len(TASKS)]]
        asked.append(options[int(rng.integers(len(options)))])
    pictures = [draw(arrange(request, world, int(rng.integers(2**62))), world).pixels for request in asked]
    return asked, np.stack(pictures)


def verdicts(asked: Sequence[dict[str, Any]], pixels: np.ndarray, components: Path) -> list[bool]:
    """GenEval's verdict on each picture, by the tiny detector and color classifier through the scorer's own code."""
    from PIL import Image

    from geneval.color import ColorClassifier, color_candidates, object_crop
    from geneval.detector import Detector
    from geneval.options import DEFAULTS
    from geneval.rules import check

    detector = Detector.from_pretrained(components / "detector")
    classifier = ColorClassifier.from_pretrained(components / "clip")
    found = []
    for start in range(0, len(pixels), 64):
        images = [Image.fromarray(picture) for picture in pixels[start : start + 64]]
        for request, image, seen in zip(asked[start : start + 64], images, detector.detect(images)):
            metadata = json.loads(json.dumps(request))
            colors: dict[str, list[str | None]] = {name: [None] * len(rows) for name, rows in seen.rows.items()}
            for name, index in color_candidates(metadata, seen.rows, DEFAULTS, DEFAULTS.threshold):
                crop = object_crop(image, seen.mask(name, index), seen.rows[name][index])
                colors[name][index] = classifier.classify([crop], [name])[0]
            found.append(check(metadata, seen.rows, colors).correct)
    return found


def restored(pixels: np.ndarray, components: Path) -> np.ndarray:
    """The pictures after a round trip through the VAE, latents sampled as in training."""
    import torch
    from diffusers import AutoencoderKL

    model = AutoencoderKL.from_pretrained(components / "vae", use_safetensors=True).eval()
    inputs = torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        outputs = [model.decode(model.encode(part).latent_dist.sample(generator)).sample for part in inputs.split(100)]
    return (torch.cat(outputs).clamp(-1, 1) * 127.5 + 127.5).round().byte().permute(0, 2, 3, 1).numpy()


def measure_components(components: Path, *, world: World = WORLDS["components"], count: int = 600) -> dict[str, Any]:
    """Accuracy on right, wrong, restored and ruined pictures; written to quality.json of detector and VAE."""
    asked, pixels = asked_pictures(world, count, seed=1)
    right = verdicts(asked, pixels, components)
    by_task = Counter(request["tag"] for request, correct in zip(asked, right) if correct)
    wrong_requests = [asked[(index + len(TASKS)) % count] for index in range(count)]
    different = [a["prompt"] != b["prompt"] for a, b in zip(asked, wrong_requests)]
    wrong = verdicts(wrong_requests, pixels, components)
    again = verdicts(asked, restored(pixels, components), components)
    ruined = _ruined(pixels)
    scores = {
        "pictures": count,
        "right_pictures_accepted": round(float(np.mean(right)), 4),
        "by_task": {task: round(by_task[task] / (count // len(TASKS)), 4) for task in TASKS},
        "wrong_pictures_accepted": round(float(np.mean(np.array(wrong)[different])), 4),
        "verdicts_equal_after_vae": round(float(np.mean(np.array(right) == np.array(again))), 4),
        "ruined_pictures_accepted": round(float(np.mean(verdicts(asked, ruined, components))), 4),
    }
    for part in ("detector", "vae"):
        path = components / part / "quality.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "measured": scores}, indent=1) + "\n")
    return scores


def _ruined(pixels: np.ndarray) -> np.ndarray:
    """Every picture past recognition: damages are drawn until one says so."""
    rng, found = np.random.default_rng(52), []
    for picture in pixels:
        lost = False
        while not lost:
            damaged, lost = degrade(picture, rng)
        found.append(damaged)
    return np.stack(found)
