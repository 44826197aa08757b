"""Pairs as a model reads them, and the errors that preference training compares, under draws that all four share.

Each pair has a pool of draw seeds; epoch e uses number e modulo the pool's size. A pair's mask, order, timesteps and
noise follow from its seed alone, so the reference's errors can be computed once and kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from lightgen.disk.seeds import derive_seed
from lightgen.model.config import MARConfig
from lightgen.model.encoders import ImageTokenizer, TextEncoder
from lightgen.model.masking import Draws, draw_timesteps, draws_of_numbers
from lightgen.preference.pairs import Pair, pair_images


@dataclass(frozen=True)
class EncodedPairs:
    """P pairs as a model reads them."""

    chosen: Tensor  # (P, C, h, w) latents, the posteriors' modes
    rejected: Tensor  # (P, C, h, w)
    text: Tensor  # (T, D) features of the distinct prompts, end to end
    text_spans: Tensor  # (U,) positions of each in `text`
    text_lengths: Tensor  # (U,) without padding
    prompts: Tensor  # (P,) number of the pair's prompt

    @classmethod
    def of(cls, chosen: Tensor, rejected: Tensor, text: Tensor, lengths: Tensor, prompts: Tensor) -> Self:
        """Pairs whose prompts' features (U, L, D) have one length, padding kept."""
        return cls(chosen, rejected, text.flatten(0, 1), torch.full_like(lengths, text.shape[1]), lengths, prompts)

    def __len__(self) -> int:
        return len(self.chosen)

    def stacked(self, ids: Tensor, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """(latents, text, lengths) of the chosen and then the rejected images of the pairs `ids`."""
        rows = self.prompts[ids].repeat(2)
        parts = torch.cat([self.chosen[ids], self.rejected[ids]]), self._features(rows), self.text_lengths[rows]
        latents, text, lengths = (part.to(device, non_blocking=True) for part in parts)
        return latents, text, lengths

    def _features(self, rows: Tensor) -> Tensor:
        """(B, L, D) features of the prompts `rows`, zeros after their end; L, the longest prompt's of all, is the same
        in every batch."""
        spans, starts = self.text_spans[rows], (self.text_spans.cumsum(0) - self.text_spans)[rows]
        positions = torch.arange(int(self.text_spans.max()))
        inside = positions < spans[:, None]
        return self.text[starts[:, None] + positions * inside] * inside[..., None]


def encode_pairs(
    pairs: Sequence[Pair], tokenizer: ImageTokenizer, text: TextEncoder, config: MARConfig, *, batch_size: int = 64
) -> EncodedPairs:
    """The pairs' images and prompts, encoded for a model of that config; ValueError for images that do not fit it."""
    chosen: list[Tensor] = []
    rejected: list[Tensor] = []
    stream = pair_images(pairs)
    while batch := list(itertools.islice(stream, batch_size)):
        _refuse_size(batch[0][0].size, config)
        for images, latents in zip(zip(*batch), (chosen, rejected)):
            latents.append(tokenizer.latents(tokenizer.moments(images), None).cpu())
    unique = list(dict.fromkeys(pair.prompt for pair in pairs))
    numbers = {prompt: number for number, prompt in enumerate(unique)}
    prompts = _encode_prompts(unique, text, config.attend_to_padding, batch_size)
    rows = torch.tensor([numbers[pair.prompt] for pair in pairs])
    return EncodedPairs(torch.cat(chosen), torch.cat(rejected), *prompts, rows)


def _refuse_size(size: tuple[int, int], config: MARConfig) -> None:
    if size[0] % config.token_pixels or size[1] % config.token_pixels:
        raise ValueError(
            f"the pairs' images of {size[0]}x{size[1]} pixels do not divide into the model's tokens of "
            f"{config.token_pixels} pixels; resize them"
        )


def _encode_prompts(
    prompts: Sequence[str], text: TextEncoder, pad: bool, batch_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(features (T, D) end to end, positions (U,), true lengths (U,)); with `pad` all have positions for padding."""
    parts: list[Tensor] = []
    spans: list[Tensor] = []
    lengths: list[Tensor] = []
    for first in range(0, len(prompts), batch_size):
        features, true = (found.cpu() for found in text(list(prompts[first : first + batch_size]), pad=pad))
        span = torch.full_like(true, features.shape[1]) if pad else true
        parts.append(features[torch.arange(features.shape[1]) < span[:, None]])
        spans.append(span)
        lengths.append(true)
    return torch.cat(parts), torch.cat(spans), torch.cat(lengths)


def pair_draws(
    config: MARConfig, ids: Tensor, visits: Tensor, grid: tuple[int, int], *, seed: int, noise_draws: int
) -> Draws:
    """The draws of the pairs `ids` at their pool entries `visits`, each from its own seed; no caption is dropped."""
    tokens, copies = grid[0] * grid[1], noise_draws
    rows = []
    for pair, visit in zip(ids.tolist(), visits.tolist()):
        generator = torch.Generator().manual_seed(derive_seed(seed, "pair", pair, visit))
        rows.append(
            (
                torch.rand((), generator=generator, dtype=torch.float64),
                torch.rand(tokens, generator=generator),
                draw_timesteps(config, (copies, tokens), generator),
                torch.randn(copies, tokens, config.token_dim, generator=generator),
            )
        )
    uniform, order, timesteps, noise = zip(*rows)
    kept = torch.zeros(len(rows), dtype=torch.bool)
    return draws_of_numbers(
        config, torch.stack(uniform), torch.stack(order), torch.stack(timesteps, 1), torch.stack(noise, 1), kept
    )


class PairErrors(NamedTuple):
    """The denoising errors of B pairs under shared draws."""

    chosen: Tensor  # (B,)
    rejected: Tensor  # (B,)
    residuals: Tensor  # (K, 2B, M, D), of the chosen and then the rejected images; 0 where filled

    @property
    def overlap(self) -> Tensor:
        """The mean product of both images' residuals, (B,), over what the errors are means over."""
        first, second = self.residuals.chunk(2, dim=1)
        counts = first.any(-1).sum((0, 2)) * first.shape[-1]
        return (first * second).sum((0, 2, 3)) / counts


def pair_errors(
    forward: Callable[..., Any],
    pairs: EncodedPairs,
    ids: Tensor,
    draws: Draws,
    device: torch.device,
    guidance: float = 1.0,
) -> PairErrors:
    """The errors of the pairs `ids`, winner and loser in one forward pass; of the prediction at that guidance."""
    images = pairs.stacked(ids, device)
    found = forward(*images, draws.to(device).repeat(2), variational=False, guidance=guidance)
    chosen, rejected = found.errors.chunk(2)
    return PairErrors(chosen, rejected, found.residuals)
