"""The object detector: a tiny Mask2Former in transformers' own format, trained to be sober about imperfect pictures.

It learns in two phases: backbone and pixel decoder on per-pixel labels (a from-scratch Mask2Former otherwise stays flat
for its first thousand steps), then everything on sets of masks, with the per-pixel loss kept beside it.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from ablations.icons.build.pictures import degrade, random_drawings
from ablations.icons.world import WORLDS, World

BATCH = 16
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet, grey levels, as in the full-size detector


def architecture(world: World):
    """A Mask2Former with a one-pixel-patch Swin backbone, 10 queries and three decoder layers; about 1 M parameters."""
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    backbone = SwinConfig(
        image_size=world.height, patch_size=1, embed_dim=24, depths=[1, 1, 2, 1], num_heads=[2, 4, 6, 8], window_size=4,
        drop_path_rate=0.0, out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = Mask2FormerConfig(
        backbone_config=backbone, num_labels=len(world.classes), num_queries=10, hidden_dim=64, feature_size=64,
        mask_feature_size=64, encoder_layers=1, decoder_layers=4, encoder_feedforward_dim=128, dim_feedforward=128,
        num_attention_heads=4, no_object_weight=0.3, train_num_points=256, dropout=0.0,
        id2label=dict(enumerate(world.classes)), label2id={name: index for index, name in enumerate(world.classes)},
    )  # fmt: skip
    return Mask2FormerForUniversalSegmentation(config)


class Pool:
    """Pictures with their masks and classes, some of them degraded; objects past recognition are taken away.

    In a `local` pool part of the pictures is ruined in one or two cells only: what stands beside a smudge still counts.
    """

    def __init__(self, world: World, vae: Path, size: int, seed: int, *, local: bool = False) -> None:
        drawings = random_drawings(world, size, (seed, 34 if local else 31), loose=0.25)
        rng = np.random.default_rng((seed, 35 if local else 32))
        self.pixels = np.stack([drawing.pixels for _, drawing in drawings])
        self.masks = [drawing.masks for _, drawing in drawings]
        self.classes = [np.array([world.classes.index(o.name) for o in scene.objects], int) for scene, _ in drawings]
        lost = np.zeros(self.pixels.shape[:3], bool)  # pixels whose objects are past recognition
        through_vae = rng.permutation(size)[: size * (3 if local else 2) // 4]
        whole, in_cells = (through_vae[: size // 4], through_vae[size // 4 :]) if local else (through_vae, [])
        self.pixels[whole], ruined = _through_vae(self.pixels[whole], vae, rng)
        lost[whole[ruined]] = True
        if len(in_cells):
            self.pixels[in_cells], lost[in_cells] = _ruined_cells(self.pixels[in_cells], world, vae, rng)
        for index in np.setdiff1d(np.arange(size), through_vae):
            self.pixels[index], lost[index] = degrade(self.pixels[index], rng)
        for index in range(size):
            seen = [
                i
                for i, mask in enumerate(self.masks[index])
                if mask.sum() >= 40 and (mask & lost[index]).sum() <= 0.25 * mask.sum()
            ]
            self.masks[index], self.classes[index] = self.masks[index][seen], self.classes[index][seen]

    def batch(self, rows: np.ndarray):
        """Network input (B, 3, H, W), masks and classes per picture, and per-pixel labels (B, H, W), 0 = background."""
        import torch

        pixels = (self.pixels[rows].astype(np.float32) - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
        labels = np.zeros(self.pixels[rows].shape[:3], np.int64)
        for index, row in enumerate(rows):
            for mask, kind in zip(self.masks[row], self.classes[row]):
                labels[index][mask] = kind + 1
        masks = [torch.from_numpy(self.masks[row].astype(np.float32)) for row in rows]
        classes = [torch.from_numpy(self.classes[row]) for row in rows]
        return torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()), masks, classes, torch.from_numpy(labels)


def _through_vae(pixels: np.ndarray, vae: Path, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Reconstructions from clean, noised and mixed latents, and which of them are ruined."""
    count = len(pixels)
    kind = rng.choice(3, count, p=[0.5, 0.3, 0.2])  # clean, noised, mixed with another picture's latents
    hopeless = rng.random(count) < 0.5
    sigma = np.where(hopeless, rng.uniform(0.9, 1.5, count), rng.uniform(0, 0.4, count)) * (kind == 1)
    share = np.where(hopeless, rng.uniform(0.4, 0.6, count), rng.uniform(0, 0.15, count)) * (kind == 2)
    everywhere = np.ones((count, 1, 1))
    return _decoded(pixels, vae, rng, sigma[:, None, None] * everywhere, share[:, None, None] * everywhere), (
        hopeless & (kind > 0)
    )


def _ruined_cells(
    pixels: np.ndarray, world: World, vae: Path, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Reconstructions in which the tokens of one or two cells are ruined, and the pixels (B, H, W) of those cells."""
    count, cells = len(pixels), world.rows * world.columns
    chosen = rng.random((count, cells)).argsort(1) < rng.integers(1, 3, (count, 1))
    mixed = rng.random((count, cells)) < 0.6
    grid = (count, world.rows, world.columns)

    def spread(values: np.ndarray, side: int) -> np.ndarray:
        return values.reshape(grid).repeat(side, 1).repeat(side, 2)

    share = np.where(chosen & mixed, rng.uniform(0.35, 0.65, (count, cells)), 0)
    sigma = np.where(chosen & ~mixed, rng.uniform(0.7, 1.3, (count, cells)), 0)
    side = world.cell // 8  # latents per cell
    return _decoded(pixels, vae, rng, spread(sigma, side), spread(share, side)), spread(chosen, world.cell)


def _decoded(
    pixels: np.ndarray, vae: Path, rng: np.random.Generator, sigma: np.ndarray, share: np.ndarray
) -> np.ndarray:
    """Reconstructions after mixing in noise and another picture; sigma and share are (B, h or 1, w or 1)."""
    import torch
    from diffusers import AutoencoderKL

    model = AutoencoderKL.from_pretrained(vae, use_safetensors=True).eval()
    restored = np.empty_like(pixels)
    for start in range(0, len(pixels), 250):
        rows = slice(start, start + 250)
        inputs = torch.from_numpy(pixels[rows].transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)
        with torch.no_grad():
            latents = model.encode(inputs).latent_dist.mean
            noise = torch.from_numpy(rng.normal(size=latents.shape).astype(np.float32)) / model.config.scaling_factor
            latents = latents + noise * torch.from_numpy(sigma[rows].astype(np.float32))[:, None]
            mixed = torch.from_numpy(share[rows].astype(np.float32))[:, None]
            decoded = model.decode(latents * (1 - mixed) + latents.roll(1, 0) * mixed).sample
        restored[rows] = (decoded.clamp(-1, 1) * 127.5 + 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return restored


def train_detector(
    out: Path,
    *,
    vae: Path,
    world: World = WORLDS["components"],
    seed: int = 0,
    steps: int = 7000,
    local_steps: int = 2500,
    pool: int = 30_000,
) -> dict[str, Any]:
    """Train on whole pictures, then on locally ruined ones; save under `out`. `measure` gives the accuracy."""
    import torch

    torch.manual_seed(seed)
    model, started = architecture(world), time.perf_counter()
    first = _fit(model, Pool(world, vae, pool, seed), seed, steps=steps, warm=steps // 8, rate=1e-3)
    _save(model, out, world)
    last = train_local(model, vae=vae, world=world, seed=seed, steps=local_steps, pool=pool)
    _save(model, out, world)
    return {
        "seed": seed, "steps": steps, "local_steps": local_steps, "batch": BATCH, "pool": pool, "world": world.name,
        "final_loss": round(first, 4), "final_local_loss": round(last, 4),
        "parameters": model.num_parameters(), "train_seconds": round(time.perf_counter() - started),
    }  # fmt: skip


def train_local(model, *, vae: Path, world: World, seed: int, steps: int, pool: int) -> float:
    """The second phase, which depends on the first one's weights and the seed alone; returns its final loss."""
    import torch

    torch.manual_seed(seed + 1)
    pictures = Pool(world, vae, pool, seed, local=True)
    return _fit(model, pictures, seed + 1, steps=steps, warm=0, rate=4e-4)


def _fit(model, pictures: Pool, seed: int, *, steps: int, warm: int, rate: float) -> float:
    """AdamW on the pool, the first `warm` steps on per-pixel labels only; returns the mean of the last 200 losses."""
    import torch
    from torch.nn.functional import cross_entropy

    labeler = torch.nn.Conv2d(64, model.config.num_labels + 1, 1)
    weights = [*model.parameters(), *labeler.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.05)
    rng, losses, started = np.random.default_rng((seed, 33)), [], time.perf_counter()
    model.train()
    for step in range(steps):
        pixels, masks, classes, labels = pictures.batch(rng.integers(len(pictures.pixels), size=BATCH))
        if step < warm:
            features = model.model.pixel_level_module(pixels, output_hidden_states=True).decoder_last_hidden_state
            loss = cross_entropy(labeler(features), labels)
        else:
            result = model(pixels, mask_labels=masks, class_labels=classes)
            loss = result.loss + cross_entropy(labeler(result.pixel_decoder_last_hidden_state), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 100 == 0:
            spent = time.perf_counter() - started
            print(f"detector {step} loss {np.mean(losses[-100:]):.4f} {spent:.0f} s", flush=True)
    model.eval()
    return float(np.mean(losses[-200:]))


def _save(model, out: Path, world: World) -> None:
    model.save_pretrained(out)
    settings = {
        "size": {"shortest_edge": world.height, "longest_edge": 4 * world.height},
        "size_divisor": 8,
        "pad_value": 128,
        "image_mean": MEAN,
        "image_std": STD,
    }
    (out / "preprocessor_config.json").write_text(json.dumps(settings, indent=1) + "\n")
