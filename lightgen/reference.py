"""What DPO compares with: the pairs' latents and text, the draws that all four errors share, and the reference errors.

Each pair has a pool of draw seeds; epoch e uses number e modulo the pool's size. A pair's mask, order, timesteps and
noise follow from its seed alone, so the reference's errors can be computed once and kept.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightgen.atomic import atomic_file
from lightgen.encoders import ImageTokenizer, TextEncoder
from lightgen.mar import MAR, MARConfig
from lightgen.masking import Draws, draw
from lightgen.pairs import Pair, pair_images
from lightgen.seeds import derive_seed

if TYPE_CHECKING:
    from lightgen.pipeline import LightGenPipeline


@dataclass(frozen=True)
class EncodedPairs:
    """P pairs as a model reads them."""

    chosen: Tensor  # (P, C, h, w) latents, the posteriors' modes
    rejected: Tensor  # (P, C, h, w)
    text: Tensor  # (U, L, D) features of the distinct prompts
    text_lengths: Tensor  # (U,)
    prompts: Tensor  # (P,) row of `text`

    def __len__(self) -> int:
        return len(self.chosen)

    def stacked(self, ids: Tensor, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """(latents, text, lengths) of the chosen and then the rejected images of the pairs `ids`."""
        rows = self.prompts[ids].repeat(2)
        latents = torch.cat([self.chosen[ids], self.rejected[ids]])
        return latents.to(device), self.text[rows].to(device), self.text_lengths[rows].to(device)


def encode_pairs(pairs: Sequence[Pair], pipeline: LightGenPipeline, *, batch_size: int = 64) -> EncodedPairs:
    """The pairs' images and prompts, encoded by the pipeline's own VAE and text encoder."""
    tokenizer = ImageTokenizer(pipeline.vae)
    chosen: list[Tensor] = []
    rejected: list[Tensor] = []
    stream = pair_images(pairs)
    while batch := list(itertools.islice(stream, batch_size)):
        _refuse_size(batch[0][0].size, pipeline.transformer.mar_config)
        for images, latents in zip(zip(*batch), (chosen, rejected)):
            latents.append(tokenizer.latents(tokenizer.moments(images), None).cpu())
    unique = list(dict.fromkeys(pair.prompt for pair in pairs))
    numbers = {prompt: number for number, prompt in enumerate(unique)}
    text, lengths = encode_prompts(unique, pipeline, batch_size)
    rows = torch.tensor([numbers[pair.prompt] for pair in pairs])
    return EncodedPairs(torch.cat(chosen), torch.cat(rejected), text, lengths, rows)


def _refuse_size(size: tuple[int, int], config: MARConfig) -> None:
    if size[0] % config.token_pixels or size[1] % config.token_pixels:
        raise ValueError(
            f"the pairs' images of {size[0]}x{size[1]} pixels do not divide into the model's tokens of "
            f"{config.token_pixels} pixels; resize them"
        )


def encode_prompts(prompts: Sequence[str], pipeline: LightGenPipeline, batch_size: int) -> tuple[Tensor, Tensor]:
    """(features (U, L, D), lengths (U,)) with one L for all."""
    config = pipeline.transformer.mar_config
    encoder = TextEncoder(pipeline.text_encoder, pipeline.tokenizer, config.max_text_length)
    chunks = [
        encoder(list(prompts[first : first + batch_size]), pad=config.attend_to_padding)
        for first in range(0, len(prompts), batch_size)
    ]
    longest = max(features.shape[1] for features, _ in chunks)
    padded = [torch.nn.functional.pad(f, (0, 0, 0, longest - f.shape[1])) for f, _ in chunks]
    return torch.cat(padded).cpu(), torch.cat([lengths for _, lengths in chunks]).cpu()


def pair_draws(
    config: MARConfig, ids: Tensor, visits: Tensor, grid: tuple[int, int], *, seed: int, noise_draws: int
) -> Draws:
    """The draws of the pairs `ids` at their pool entries `visits`, each from its own seed; no caption is dropped."""
    draws = []
    for pair, visit in zip(ids.tolist(), visits.tolist()):
        generator = torch.Generator().manual_seed(derive_seed(seed, "pair", pair, visit))
        draws.append(draw(config, 1, grid, generator, drop_text=False, noise_copies=noise_draws))
    counts = [count for one in draws for count in one.masked_range]
    return Draws(
        mask=torch.cat([one.mask for one in draws]),
        timesteps=torch.cat([one.timesteps for one in draws], 1),
        noise=torch.cat([one.noise for one in draws], 1),
        text_dropped=torch.cat([one.text_dropped for one in draws]),
        masked_range=(min(counts), max(counts)),
    )


def pair_errors(
    forward: Callable[..., Any], pairs: EncodedPairs, ids: Tensor, draws: Draws, device: torch.device
) -> tuple[Tensor, Tensor]:
    """(chosen (B,), rejected (B,)) denoising errors under shared draws, in one forward pass."""
    errors = forward(*pairs.stacked(ids, device), draws.to(device).repeat(2)).errors
    chosen, rejected = errors.chunk(2)
    return chosen, rejected


class ReferenceErrors:
    """The reference's errors (pool size, P) of chosen and rejected images, in one file; NaN where not computed yet."""

    def __init__(self, path: Path, pool: int, num_pairs: int, identity: dict[str, Any]):
        self.path, self.identity = path, json.dumps(identity, sort_keys=True)
        self.values = torch.full((2, pool, num_pairs), float("nan"))
        if path.is_file():
            self._load()

    def fill(
        self,
        model: MAR,
        pairs: EncodedPairs,
        wanted: Sequence[tuple[int, int]],
        draws_of: Callable[[Tensor, Tensor], Draws],
        *,
        batch_size: int,
        device: torch.device,
        stop: Callable[[], bool] | None = None,
        save_every_seconds: float = 60.0,
    ) -> bool:
        """Compute what is missing of the (visit, pair) entries and save; False where `stop` ended it early."""
        todo = [entry for entry in wanted if self.values[0, entry[0], entry[1]].isnan()]
        saved = time.monotonic()
        for first in range(0, len(todo), batch_size):
            if stop is not None and stop():
                self._save()
                return False
            visits, ids = torch.tensor(todo[first : first + batch_size]).T
            with torch.no_grad():
                chosen, rejected = pair_errors(model, pairs, ids, draws_of(ids, visits), device)
            self.values[:, visits, ids] = torch.stack([chosen, rejected]).float().cpu()
            if time.monotonic() - saved > save_every_seconds:
                self._save()
                saved = time.monotonic()
        if todo:
            self._save()
        return True

    def at(self, ids: Tensor, visits: Tensor) -> tuple[Tensor, Tensor]:
        """(chosen (B,), rejected (B,)) errors."""
        chosen, rejected = self.values[:, visits, ids]
        return chosen, rejected

    def _save(self) -> None:
        from safetensors.torch import save

        with atomic_file(self.path) as file:
            file.write(save({"errors": self.values}, metadata={"identity": self.identity}))

    def _load(self) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, "pt") as file:
                identity, values = file.metadata().get("identity"), file.get_tensor("errors")
        except SafetensorError as error:
            raise ValueError(f"{self.path} is torn ({error}); remove it, it will be computed again") from None
        if identity != self.identity or values.shape != self.values.shape:
            raise ValueError(
                f"{self.path} belongs to another model, seed or set of pairs; remove it or choose another folder"
            )
        self.values = values
