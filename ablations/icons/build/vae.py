"""The image tokenizer: a KL-VAE in diffusers' own format, 8 px a latent, so that a 2x2 patch holds one object cell."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ablations.icons.build.pictures import random_drawings, stack
from ablations.icons.world import WORLDS, World


def architecture():
    """An `AutoencoderKL` with four levels (stride 8) and four latent channels; about 1 M parameters."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=32,
        mid_block_add_attention=False,
    )


def train_vae(out: Path, *, world: World = WORLDS["components"], seed: int = 0, steps: int = 5000) -> dict[str, Any]:
    """Train on the teacher's pictures (L1 and a weak KL term), save under `out`; returns the measured quality."""
    import torch

    torch.manual_seed(seed)
    model, batch = architecture(), 32
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.95), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.05)
    started, model = time.perf_counter(), model.to(memory_format=torch.channels_last)
    for step in range(steps):
        pixels = torch.from_numpy(stack(random_drawings(world, batch, (seed, 11, step), loose=0.2)))
        posterior = model.encode(pixels).latent_dist
        restored = model.decode(posterior.sample()).sample
        distance = (restored - pixels).abs()
        # Object pixels are few; a restoration that paints only background must not look good.
        ink = ((pixels - pixels.flatten(2).median(-1).values[..., None, None]).abs().amax(1, True) > 0.15).float()
        kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
        loss = (distance * (1 + 2 * ink)).mean() + 2e-3 * kl
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 200 == 0:
            print(f"vae {step} loss {loss.item():.4f} L1 {distance.mean().item():.4f} kl {kl.item():.3f}", flush=True)
    quality = _calibrate(model, world, seed)
    quality |= {"seed": seed, "steps": steps, "batch": batch, "world": world.name}
    quality["train_seconds"] = round(time.perf_counter() - started)
    model.save_pretrained(out)
    return quality


def _calibrate(model, world: World, seed: int) -> dict[str, Any]:
    """Set the latents' shift and scale from data, so that the model sees zero mean and unit variance."""
    import torch

    pixels = torch.from_numpy(stack(random_drawings(world, 1000, (seed, 12))))
    model.eval()
    with torch.no_grad():
        latents = model.encode(pixels).latent_dist.mean
        restored = model.decode(latents).sample
    shift, scale = latents.mean().item(), 1 / latents.std().item()
    model.register_to_config(shift_factor=shift, scaling_factor=scale)
    error = (restored - pixels).abs().mean().item() * 127.5
    return {"mean_absolute_error_grey_levels": round(error, 3), "pictures": 1000, "parameters": model.num_parameters()}
