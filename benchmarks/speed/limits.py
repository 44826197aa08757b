"""What cannot be beaten: the arithmetic and the weight traffic of the exact method, over a machine's own rates.

Operations are counted as twice the multiply-accumulates of linear layers and attention; everything else is free.
D token channels, W trunk width, H head width, L text positions, N tokens.
"""

import itertools
import time
from dataclasses import dataclass
from typing import Any

import torch

from lightgen.model.config import MARConfig, SamplingConfig
from lightgen.model.masking import masked_counts

MEAN_MASK_RATIO = 0.867  # of the released truncated normal
USABLE = 0.8  # of the peak: the most that dense matrix products reach


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Published peaks of an accelerator."""

    flops: float  # dense bf16 operations a second
    bandwidth: float  # bytes a second


MACHINES = {
    "NVIDIA H200": Machine(flops=989e12, bandwidth=4.8e12),
    "NVIDIA H100": Machine(flops=989e12, bandwidth=3.35e12),
}


def known_machine(device: torch.device) -> Machine | None:
    """The published peaks of this device, where they are in the table."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((peak for known, peak in MACHINES.items() if name.startswith(known)), None)


def share_of_limit(
    gflop: float, images: int, seconds: float, device: torch.device, dtype: torch.dtype
) -> dict[str, Any]:
    """The share that `images` of `gflop` in all, made in `seconds`, reach of what the device can do at best."""
    if device.type == "cpu":
        rate = matmul_rate(device, dtype)
        return {"matmul_gflops": round(rate / 1e9, 1), "share": round(gflop * 1e9 / rate / seconds, 3)}
    known = known_machine(device)
    if known is None:
        return {}
    best = USABLE * known.flops * images / (gflop * 1e9)
    return {"images_per_second": round(best, 2), "share": round(images / seconds / best, 3)}


def head_flops(config: MARConfig) -> float:
    """Operations of the head for one token, the condition embedded once and times taken from a table."""
    width = config.head_width
    modulation = config.head_depth * 3 * width**2 + 2 * width**2
    body = config.head_depth * 2 * width**2 + width * (config.token_dim + config.head_channels)
    return 2.0 * (modulation + body)


def sampling_flops(config: MARConfig, sampling: SamplingConfig, num_tokens: int, text_length: int) -> dict[str, float]:
    """Operations of one image by the fast path, part by part."""
    halves = 2 if sampling.guidance_scale != 1 else 1
    counts = masked_counts(num_tokens, sampling.num_steps)
    # A decoder that sees text is computed for both halves; the other one is the same for them.
    joined, passes = (text_length, halves) if config.text_in_decoder else (0, 1)
    parts = {"encoder": 0.0, "decoder": 2.0 * passes * joined * config.width**2}
    for now, after in itertools.pairwise(counts):
        parts["encoder"] += config.encoder_depth * block_flops(config, num_tokens - now)
        parts["decoder"] += passes * (config.decoder_depth - 1) * block_flops(config, num_tokens + joined)
        parts["decoder"] += passes * block_flops(config, num_tokens + joined, queries=now - after)
    parts["cross"] = config.cross_depth * cross_flops(config, num_tokens, text_length, halves)
    parts["text"] = text_flops(config, text_length)
    condition = 2.0 * halves * num_tokens * config.width * config.head_width
    parts["head"] = condition + sampling.num_head_steps * halves * num_tokens * head_flops(config)
    return parts


def training_flops(config: MARConfig, num_tokens: int, text_length: int) -> dict[str, float]:
    """Operations of one image's forward and backward pass (three forwards) by the fast path, part by part."""
    masked = MEAN_MASK_RATIO * num_tokens
    condition = 2.0 * masked * config.width * config.head_width
    joined = text_length if config.text_in_decoder else 0
    seen = num_tokens + joined
    forward = {
        "encoder": config.encoder_depth * block_flops(config, num_tokens - masked),
        "decoder": (config.decoder_depth - 1) * block_flops(config, seen)
        + block_flops(config, seen, queries=masked)
        + 2.0 * joined * config.width**2,
        "cross": config.cross_depth * cross_flops(config, masked, text_length, 1),
        "text": text_flops(config, text_length) * (1 - config.text_drop),
        "head": condition + config.noise_copies * masked * head_flops(config),
    }
    return {name: 3 * value for name, value in forward.items()}


def block_flops(config: MARConfig, tokens: float, queries: float | None = None) -> float:
    """Operations of a self-attention block over `tokens`, of which the output of `queries` is wanted."""
    queries = tokens if queries is None else queries
    width, mlp = config.width, config.mlp_ratio
    linear = width**2 * (2 * tokens + (2 + 2 * mlp) * queries)
    return 2.0 * (linear + 2 * width * tokens * queries)


def cross_flops(config: MARConfig, tokens: float, text_length: int, halves: int) -> float:
    """Operations of a cross block over `tokens`; the null half's attention is a constant."""
    width, mlp = config.width, config.mlp_ratio
    attention = 2 * width**2 * tokens + 2 * width * tokens * text_length + 2 * width**2 * text_length
    return 2.0 * (attention + halves * 2 * mlp * width**2 * tokens)


def text_flops(config: MARConfig, text_length: int) -> float:
    projection = 2.0 * text_length * (config.text_channels * config.width + config.width**2)
    return projection + config.text_depth * block_flops(config, text_length)


def latency_floor(config: MARConfig, sampling: SamplingConfig, bandwidth: float, bytes_per_weight: int = 2) -> float:
    """Seconds of one image if every pass only read the weights it needs, once.

    Of a program that evaluates the whole head in every head step, as the release does. The fast path reads the weights
    of the modulations, 0.6 of the head, once for several head steps and may fall below this.
    """
    head = (config.head_depth * 5 + 2) * config.head_width**2
    head += config.head_width * (config.token_dim + config.head_channels + config.width)
    blocks = config.encoder_depth + config.decoder_depth + config.cross_depth
    trunk = blocks * config.width**2 * (4 + 2 * config.mlp_ratio)
    steps = sampling.num_steps
    return bytes_per_weight * (steps * sampling.num_head_steps * head + steps * trunk) / bandwidth


def matmul_rate(device: torch.device, dtype: torch.dtype, seconds: float = 0.5) -> float:
    """Operations a second of dense matrix products here and now: the limit that a CPU's times are held against."""
    size = 1024 if device.type == "cpu" else 8192
    x = torch.randn(size, size, device=device, dtype=dtype)
    x @ x
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    begun, products = clock(), 0
    while clock() - begun < seconds:
        x @ x
        products += 1
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
    return 2.0 * size**3 * products / (clock() - begun)
