"""What training draws at random: masks, timesteps, noise, dropped captions; and the masked counts of generation."""

import hashlib
import math
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor

from lightgen.model.config import MARConfig


@dataclass(frozen=True, kw_only=True)
class Draws:
    """The randomness of one training step, drawn beforehand so that several models or images can share it."""

    mask: Tensor  # (B, N) bool, true = masked
    timesteps: Tensor  # (K, B, N) long for ddpm, float in (0, 1) for flow
    noise: Tensor  # (K, B, N, D)
    text_dropped: Tensor  # (B,) bool, true = the caption is replaced by the null text
    masked_range: tuple[int, int]  # fewest and most masked tokens of an image, known on the host: no synchronization

    @classmethod
    def of(cls, mask: Tensor, timesteps: Tensor, noise: Tensor, text_dropped: Tensor) -> Self:
        """Draws from given tensors; reads the masked counts back from the device."""
        counts = mask.sum(1)
        least, most = int(counts.min()), int(counts.max())
        return cls(mask=mask, timesteps=timesteps, noise=noise, text_dropped=text_dropped, masked_range=(least, most))

    def repeat(self, times: int) -> Self:
        """The draws tiled along the batch, so that `times` images of one row share them: order w1 w2 l1 l2."""
        return self.select(torch.arange(len(self.mask), device=self.mask.device).repeat(times))

    def select(self, index: Tensor) -> Self:
        """The draws of the images at `index` (long)."""
        timesteps, noise = self.timesteps[:, index], self.noise[:, index]
        mask, dropped = self.mask[index], self.text_dropped[index]
        return replace(self, mask=mask, timesteps=timesteps, noise=noise, text_dropped=dropped)

    def bucketed(self, config: MARConfig) -> Self:
        """The same draws, their masked counts rounded outward to eighths of the tokens (ragged draws: to all that the
        config allows): a program compiled for its shapes is compiled a few times. Losses round differently."""
        num_tokens, (least, most) = self.mask.shape[1], self.masked_range
        size = math.ceil(num_tokens / 8)
        lowest = most if least == most else math.ceil(config.mask_minimum * num_tokens)
        begin = (lowest - 1) // size * size
        end = min(num_tokens, begin + size) if least == most else num_tokens
        return replace(self, masked_range=(begin, end))

    def to(self, device: torch.device | str) -> Self:
        """The draws on another device."""
        names = ("mask", "timesteps", "noise", "text_dropped")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in names})


class Layout(NamedTuple):
    """Which tokens are visible and masked, as ascending index tensors; ragged rows are filled and marked invalid."""

    batch: int
    visible: Tensor | None  # (B, V) long, None when every token is masked
    masked: Tensor | None  # (B, M) long, None when every token is masked
    visible_valid: Tensor | None  # (B, V) bool, None when all are
    masked_valid: Tensor | None  # (B, M) bool, None when all are


def draw(
    config: MARConfig,
    batch: int,
    grid: tuple[int, int],
    generator: torch.Generator,
    *,
    drop_text: bool = True,
    noise_copies: int | None = None,
    per_image_ratio: bool = False,
) -> Draws:
    """Draws for a batch of `batch` images of grid (h, w) tokens, on the generator's device.

    One mask ratio holds for the whole batch, as in the release (models/fluid_arbitrary.py:180-188); with
    `per_image_ratio` each image has its own. `noise_copies` overrides the config's. The ratios, from which shapes
    follow, are drawn on the host.
    """
    num_tokens = grid[0] * grid[1]
    copies = config.noise_copies if noise_copies is None else noise_copies
    device = generator.device
    host = host_generator(generator)
    uniform = torch.rand(batch if per_image_ratio else 1, generator=host, dtype=torch.float64)
    order = torch.rand(batch, num_tokens, generator=generator, device=device)
    timesteps = draw_timesteps(config, (copies, batch, num_tokens), generator)
    dropped = torch.rand(batch, generator=generator, device=device) < (config.text_drop if drop_text else 0.0)
    noise = torch.randn(copies, batch, num_tokens, config.token_dim, generator=generator, device=device)
    return draws_of_numbers(config, uniform, order, timesteps, noise, dropped)


def host_generator(generator: torch.Generator) -> torch.Generator:
    """The generator itself where it is the host's, else one of the host that follows from its state, which the host
    knows without asking the device."""
    if generator.device.type == "cpu":
        return generator
    state = bytes(generator.get_state().tolist())
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(state).digest()[:8]) >> 1)


def draw_timesteps(config: MARConfig, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Long steps of the ddpm schedule, or logit-normal times in (0, 1) for flow."""
    if config.head_objective == "flow":
        return torch.randn(shape, generator=generator, device=generator.device).sigmoid()
    return torch.randint(config.diffusion_steps, shape, generator=generator, device=generator.device)


def draws_of_numbers(
    config: MARConfig, uniform: Tensor, order: Tensor, timesteps: Tensor, noise: Tensor, text_dropped: Tensor
) -> Draws:
    """Draws from uniform numbers, (B,) or (1,) float64 of the host for the mask ratios and (B, N) for the order of
    tokens."""
    counts = torch.ceil(mask_ratios(config, uniform) * order.shape[1])
    # The ratio is a float64 and 1 - 1e-16 of N tokens must still be N, never N + 1.
    counts = counts.clamp(1, order.shape[1]).long()
    least, most = (int(counts.min()), int(counts.max()))
    bounds = counts[:, None].to(order.device, non_blocking=True)
    mask = order.argsort(1) < bounds  # the ranks are a permutation of 0..N-1
    return Draws(mask=mask, timesteps=timesteps, noise=noise, text_dropped=text_dropped, masked_range=(least, most))


def mask_ratios(config: MARConfig, uniform: Tensor) -> Tensor:
    """Float64 mask ratios in [mask_minimum, 1] of uniform numbers, by the truncated normal's inverse distribution."""
    edges = torch.tensor([config.mask_minimum, 1.0], dtype=torch.float64)
    low, high = torch.special.ndtr((edges - config.mask_mean) / config.mask_std)
    ratios = config.mask_mean + config.mask_std * torch.special.ndtri(torch.lerp(low, high, uniform))
    return ratios.clamp(config.mask_minimum, 1.0)


def mask_layout(draws: Draws) -> Layout:
    """The index tensors of `draws.mask`; shapes follow from counts known on the host."""
    mask = draws.mask
    batch, num_tokens = mask.shape
    least, most = draws.masked_range
    if least == num_tokens:
        return Layout(batch, None, None, None, None)
    order = mask.byte().argsort(dim=1, stable=True)  # visible ascending, then masked ascending
    visible = order[:, : num_tokens - least]
    if least == most:
        return Layout(batch, visible, order[:, num_tokens - least :], None, None)
    masked = (~mask).byte().argsort(dim=1, stable=True)[:, :most]
    return Layout(batch, visible, masked, ~mask.gather(1, visible), mask.gather(1, masked))


def masked_counts(num_tokens: int, num_steps: int) -> list[int]:
    """Tokens still masked before each of `num_steps` steps and after the last: the cosine schedule, N ... 0.

    floor(N cos(pi/2 (s + 1)/S)), with at least one token predicted in every step (Chang et al. 2022, section 3.3).
    """
    if not 1 <= num_steps <= num_tokens:
        raise ValueError(f"{num_steps} autoregressive steps for {num_tokens} tokens; give 1 to {num_tokens}")
    counts = [num_tokens]
    for step in range(1, num_steps):
        planned = math.floor(num_tokens * math.cos(math.pi / 2 * step / num_steps))
        counts.append(max(1, min(counts[-1] - 1, planned)))
    return [*counts, 0]
