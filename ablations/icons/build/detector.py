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

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet, grey levels, as in the full-size detector


def architecture(world: World):
    """A Mask2Former with a one-pixel-patch Swin backbone, 10 queries and three decoder layers; about 1 M parameters."""
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    backbone = SwinConfig(  # type: ignore[call-arg]  # some settings are declared by its base class only
        image_size=world.height, patch_size=1, embed_dim=24, depths=[1, 1, 2, 1], num_heads=[2, 4, 6, 8], window_size=4,
        drop_path_rate=0.0, out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = Mask2FormerConfig(  # type: ignore[call-arg]
        backbone_config=backbone, num_labels=len(world.classes), num_queries=10, hidden_dim=64, feature_size=64,
        mask_feature_size=64, encoder_layers=1, decoder_layers=4, encoder_feedforward_dim=128, dim_feedforward=128,
        num_attention_heads=4, no_object_weight=0.3, train_num_points=256, dropout=0.0,
        id2label=dict(enumerate(world.classes)), label2id={name: index for index, name in enumerate(world.classes)},
    )  # fmt: skip
    return Mask2FormerForUniversalSegmentation(config)


class Pool:
    """Pictures with their masks and classes, some of them degraded; the objects of ruined ones are taken away."""

    def __init__(self, world: World, vae: Path, size: int, seed: int) -> None:
        drawings = random_drawings(world, size, (seed, 31), loose=0.25)
        rng = np.random.default_rng((seed, 32))
        self.pixels = np.stack([drawing.pixels for _, drawing in drawings])
        self.masks = [drawing.masks for _, drawing in drawings]
        self.classes = [
            np.array([world.classes.index(item.name) for item in scene.objects], int) for scene, _ in drawings
        ]
        lost = np.zeros(size, bool)
        through_vae = rng.permutation(size)[: size // 2]
        self.pixels[through_vae], lost[through_vae] = _through_vae(self.pixels[through_vae], vae, rng)
        for index in np.setdiff1d(np.arange(size), through_vae):
            self.pixels[index], lost[index] = degrade(self.pixels[index], rng)
        for index in range(size):
            visible = [] if lost[index] else [i for i, mask in enumerate(self.masks[index]) if mask.sum() >= 40]
            self.masks[index], self.classes[index] = self.masks[index][visible], self.classes[index][visible]

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
    """Reconstructions from clean, noised and mixed latents: a generator's good, poor and hopeless tokens."""
    import torch
    from diffusers import AutoencoderKL

    model = AutoencoderKL.from_pretrained(vae, use_safetensors=True).eval()
    kind = rng.choice(3, len(pixels), p=[0.5, 0.3, 0.2])  # clean, noised, mixed with another picture's latents
    hopeless = rng.random(len(pixels)) < 0.5
    sigma = np.where(
        kind == 1, np.where(hopeless, rng.uniform(0.9, 1.5, len(pixels)), rng.uniform(0, 0.4, len(pixels))), 0
    )
    share = np.where(
        kind == 2, np.where(hopeless, rng.uniform(0.4, 0.6, len(pixels)), rng.uniform(0, 0.15, len(pixels))), 0
    )
    restored = np.empty_like(pixels)
    for start in range(0, len(pixels), 250):
        rows = slice(start, start + 250)
        inputs = torch.from_numpy(pixels[rows].transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)
        with torch.no_grad():
            latents = model.encode(inputs).latent_dist.mean
            spread = torch.from_numpy(rng.normal(size=latents.shape).astype(np.float32)) / model.config.scaling_factor
            latents = latents + spread * torch.from_numpy(sigma[rows].astype(np.float32))[:, None, None, None]
            mixed = torch.from_numpy(share[rows].astype(np.float32))[:, None, None, None]
            decoded = model.decode(latents * (1 - mixed) + latents.roll(1, 0) * mixed).sample
        restored[rows] = (decoded.clamp(-1, 1) * 127.5 + 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return restored, hopeless & (kind > 0)


def train_detector(
    out: Path, *, vae: Path, world: World = WORLDS["components"], seed: int = 0, steps: int = 7000, pool: int = 30_000
) -> dict[str, Any]:
    """Train on pictures and reconstructions, save under `out`; returns steps and losses (`measure` gives accuracy)."""
    import torch
    from torch.nn.functional import cross_entropy

    torch.manual_seed(seed)
    model, batch, started = architecture(world), 16, time.perf_counter()
    pictures, warm = Pool(world, vae, pool, seed), steps // 8
    print(f"detector pool of {pool} after {time.perf_counter() - started:.0f} s", flush=True)
    labeler = torch.nn.Conv2d(64, len(world.classes) + 1, 1)
    weights = [*model.parameters(), *labeler.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps, pct_start=0.05)
    rng, running = np.random.default_rng((seed, 33)), []
    for step in range(steps):
        pixels, masks, classes, labels = pictures.batch(rng.integers(pool, size=batch))
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
        running.append(loss.item())
        if step % 100 == 0:
            spent = time.perf_counter() - started
            print(f"detector {step} loss {np.mean(running[-100:]):.4f} {spent:.0f} s", flush=True)
        if step and step % 1500 == 0:
            _save(model.eval(), out, world)
            model.train()
    _save(model.eval(), out, world)
    return {
        "seed": seed, "steps": steps, "batch": batch, "pool": pool, "world": world.name,
        "final_loss": round(float(np.mean(running[-200:])), 4),
        "parameters": model.num_parameters(), "train_seconds": round(time.perf_counter() - started),
    }  # fmt: skip


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
