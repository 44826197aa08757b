"""The randomness of generation: orders of tokens and normal numbers."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class ImageDraws(Protocol):
    """Where generation takes its randomness from."""

    def orders(self, num_tokens: int) -> Tensor:
        """(B, N) permutations; tokens are predicted from the last entry to the first."""
        ...

    def normal(self, count: int, num_tokens: int, channels: int) -> Tensor:
        """(count, B, num_tokens, channels) standard normal numbers for one autoregressive step, float32."""
        ...


class GeneratorDraws:
    """Draws of each image from its own generator, so that an image does not depend on the batch it is made in."""

    def __init__(self, generators: Sequence[torch.Generator], device: torch.device):
        self.generators, self.device = generators, device

    def orders(self, num_tokens: int) -> Tensor:
        return self._stack([torch.rand(num_tokens, generator=g, device=g.device) for g in self.generators], 0).argsort(
            1
        )

    def normal(self, count: int, num_tokens: int, channels: int) -> Tensor:
        shape = (count, num_tokens, channels)
        return self._stack([torch.randn(shape, generator=g, device=g.device) for g in self.generators], 1)

    def _stack(self, tensors: list[Tensor], dim: int) -> Tensor:
        return torch.stack(tensors, dim).to(self.device, non_blocking=True)
