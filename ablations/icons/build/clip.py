"""The image-text model: a tiny CLIP of open_clip's architecture and loss, saved as an open_clip folder.

It serves as the color classifier of the GenEval scorer (masked crops), for the CLIP score (whole pictures and their
captions) and as the feature extractor of `fid[icon-clip]`.
"""

from __future__ import annotations

import json
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ablations.icons.build import COMPONENTS
from ablations.icons.build.pictures import degrade, random_drawings
from ablations.icons.compositions import compositions
from ablations.icons.glyphs import COLORS
from ablations.icons.scenes import arrange
from ablations.icons.teacher import draw
from ablations.icons.world import TASKS, WORLDS, World

MODEL = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 32, "layers": 4, "width": 96, "head_width": 24, "patch_size": 4},
    "text_cfg": {
        "context_length": 32, "vocab_size": 768, "width": 64, "heads": 4, "layers": 3,
        "hf_tokenizer_name": "icon-captions", "pool_type": "eos", "eos_id": 1, "pad_id": 0,
    },
}  # fmt: skip
PREPROCESS = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic", "resize_mode": "shortest"}
GREY = (153, 153, 153)  # GenEval's background behind a masked object


def crop_of(pixels: np.ndarray, mask: np.ndarray, side: int):
    """A masked object on grey, cut to its box, scaled and center-cropped to `side`: what the color classifier sees."""
    from PIL import Image

    ys, xs = np.nonzero(mask)
    image = Image.fromarray(np.where(mask[..., None], pixels, np.uint8(GREY[0])))
    image = image.crop((int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1))
    scale = side / min(image.size)
    width, height = max(side, round(image.width * scale)), max(side, round(image.height * scale))
    left, top = (width - side) // 2, (height - side) // 2
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((left, top, left + side, top + side)))


def _crops(world: World, rng: np.random.Generator, size: int) -> tuple[np.ndarray, list[tuple[str, str]]]:
    drawings = random_drawings(world, size, int(rng.integers(2**62)), loose=0.2)
    crops, names = [], []
    for scene, drawing in drawings:
        pixels = drawing.pixels
        if rng.random() < 0.4:
            pixels, lost = degrade(pixels, rng)
            if lost:
                continue
        for item, mask in zip(scene.objects, drawing.masks):
            if mask.sum() >= 40:
                crops.append(crop_of(pixels, mask, world.height))
                names.append((item.name, item.color))
    return np.stack(crops), names


def _unique(rng: np.random.Generator, texts: list[str], size: int) -> list[int]:
    """Row numbers with pairwise different texts: two equal texts would be each other's false negatives."""
    chosen: dict[str, int] = {}
    for row in rng.permutation(len(texts)):
        chosen.setdefault(texts[row], int(row))
    return list(chosen.values())[:size]


@lru_cache(maxsize=4)
def _captions(world: World) -> dict[str, tuple[dict[str, Any], ...]]:
    return dict(compositions(world, "all"))


def scene_pairs(world: World, rng: np.random.Generator, size: int) -> tuple[np.ndarray, list[str]]:
    """Pictures of `size` different captions of the world, all tasks alike."""
    choices = _captions(world)
    asked: dict[str, dict[str, Any]] = {}
    while len(asked) < size:
        options = choices[TASKS[int(rng.integers(len(TASKS)))]]
        request = options[int(rng.integers(len(options)))]
        asked[request["prompt"]] = request
    drawn = [draw(arrange(request, world, int(rng.integers(2**62))), world).pixels for request in asked.values()]
    return np.stack(drawn), list(asked)


def train_clip(
    out: Path,
    *,
    text: Path = COMPONENTS / "text",
    world: World = WORLDS["components"],
    seed: int = 0,
    steps: int = 2500,
) -> dict[str, Any]:
    """Train on crops and scenes, save an open_clip folder under `out`; returns its measured accuracies."""
    import open_clip
    import torch
    from open_clip.model import CLIP
    from transformers import AutoTokenizer

    torch.manual_seed(seed)
    started, tokenizer = time.perf_counter(), AutoTokenizer.from_pretrained(text)
    model, loss_of = CLIP(**MODEL), open_clip.ClipLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-3, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.5e-3, total_steps=steps, pct_start=0.1)
    rng = np.random.default_rng((seed, 41))
    for step in range(steps):
        crops, names = _crops(world, rng, 90)
        scenes, captions = scene_pairs(world, rng, 64)
        style = ["a photo of a {1} {0}", "a photo of a {1}-colored {0}", "a photo of a {1} object"][int(rng.choice(3))]
        texts = [style.format(*pair) for pair in names]
        rows = _unique(rng, texts, 64)
        images = _inputs(np.concatenate([scenes, crops[rows]]))
        words = tokenizer(
            captions + [texts[row] for row in rows], padding="max_length", max_length=32, truncation=True,
            return_tensors="pt",
        ).input_ids  # fmt: skip
        image, phrase = model.encode_image(images, normalize=True), model.encode_text(words, normalize=True)
        scale, split = model.logit_scale.exp(), len(scenes)
        loss = loss_of(image[:split], phrase[:split], scale) + loss_of(image[split:], phrase[split:], scale)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, np.log(100))
        if step % 200 == 0:
            print(f"clip {step} loss {loss.item():.4f} {time.perf_counter() - started:.0f} s", flush=True)
    model.eval()
    quality = {"seed": seed, "steps": steps, "world": world.name} | _measure(model, tokenizer, world, seed)
    _save(model, tokenizer, out)
    parameters = sum(weight.numel() for weight in model.parameters())
    return quality | {"parameters": parameters, "train_seconds": round(time.perf_counter() - started)}


def _inputs(pixels: np.ndarray):
    import torch

    return torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)


def _save(model, tokenizer, out: Path) -> None:
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()}, out / "open_clip_model.safetensors"
    )
    settings = {"model_cfg": MODEL, "preprocess_cfg": PREPROCESS}
    (out / "open_clip_config.json").write_text(json.dumps(settings, indent=1) + "\n")
    tokenizer.save_pretrained(out)


def _measure(model, tokenizer, world: World, seed: int) -> dict[str, float]:
    """Color accuracy on fresh crops with GenEval's three prompts; how often a caption finds its picture among 100."""
    import torch

    def encode(texts):
        words = tokenizer(texts, padding="max_length", max_length=32, truncation=True, return_tensors="pt").input_ids
        return model.encode_text(words, normalize=True)

    rng = np.random.default_rng((seed, 42))
    crops, names = _crops(world, rng, 1000)
    scenes, captions = scene_pairs(world, rng, 100)
    with torch.no_grad():
        images = model.encode_image(_inputs(crops), normalize=True)
        right = 0
        for name in world.classes:
            forms = (f"a photo of a {{}} {name}", f"a photo of a {{}}-colored {name}", "a photo of a {} object")
            means = [encode([form.format(color) for form in forms]).mean(0) for color in COLORS]
            directions = torch.nn.functional.normalize(torch.stack(means), dim=1)
            rows = [row for row, pair in enumerate(names) if pair[0] == name]
            answers = (images[rows] @ directions.T).argmax(1).tolist()
            right += sum(names[row][1] == list(COLORS)[answer] for row, answer in zip(rows, answers))
        similarity = encode(captions) @ model.encode_image(_inputs(scenes), normalize=True).T
    found = (similarity.argmax(1) == torch.arange(100)).float().mean().item()
    return {"color_accuracy": round(right / len(names), 4), "retrieval_at_1_of_100": round(found, 4)}
