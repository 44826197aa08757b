"""The head: an AdaLN MLP that denoises one token, given the trunk's vector for it.

D token channels, C trunk width, W head width; every function works on any leading shape.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightgen.model.blocks import EPSILON

TIME_CHANNELS = 256


class Head(nn.Module):
    """AdaLN-zero residual MLP (Peebles and Xie 2023; per token as in Li et al. 2024): x_t (..., D) to (..., out)."""

    blocks: "Sequence[HeadBlock]"  # an nn.ModuleList, whose items torch types as bare modules

    def __init__(self, channels: int, out_channels: int, condition_channels: int, width: int, depth: int):
        super().__init__()
        self.input = nn.Linear(channels, width)
        self.time_in = nn.Linear(TIME_CHANNELS, width)
        self.time_out = nn.Linear(width, width)
        self.condition = nn.Linear(condition_channels, width)
        self.blocks = nn.ModuleList([HeadBlock(width) for _ in range(depth)])  # type: ignore[assignment]
        self.final = FinalLayer(width, out_channels)

    def forward(self, x: Tensor, times: Tensor, z: Tensor) -> Tensor:
        """The prediction (..., out) for x_t (..., D) at `times` (...,), given z (..., C)."""
        return self.denoise(x, self.embed_times(times) + self.condition(z))

    def embed_times(self, times: Tensor) -> Tensor:
        """(..., W) from times on the 0..1000 scale, through 256 sinusoids and a two-layer MLP."""
        half = TIME_CHANNELS // 2
        steps = torch.arange(half, dtype=torch.float32, device=times.device)
        angles = times.unsqueeze(-1).float() * torch.exp(steps * (-math.log(10000) / half))
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1).to(self.time_in.weight.dtype)
        return self.time_out(F.silu(self.time_in(waves)))

    def denoise(self, x: Tensor, condition: Tensor) -> Tensor:
        """The prediction, given the sum of the time embedding and the embedded trunk vector (..., W)."""
        return self.modulated(x, self.modulations(condition))

    def modulations(self, condition: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Shift, scale and gate (..., W) for each block, then shift and scale for the final layer.

        They do not depend on x. One layer at a time: unless the caller collects them, memory holds one layer's.
        """
        condition = F.silu(condition)  # every layer modulates from this, so it is taken once
        for block in self.blocks:
            shift, scale, gate = block.modulation(condition).chunk(3, dim=-1)
            yield shift, scale + 1, gate
        shift, scale = self.final.modulation(condition).chunk(2, dim=-1)
        yield shift, scale + 1

    def modulated(self, x: Tensor, modulations: Iterable[tuple[Tensor, ...]]) -> Tensor:
        """The prediction for x_t (..., D), given the `modulations` of its condition."""
        x = self.input(x.to(self.input.weight.dtype))
        for layer, modulation in zip([*self.blocks, self.final], modulations, strict=True):
            x = layer(x, *modulation)
        return x


class HeadBlock(nn.Module):
    """x + gate * MLP(scale and shift of norm(x)), modulated by the condition."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=EPSILON)
        self.fc1 = nn.Linear(width, width)
        self.fc2 = nn.Linear(width, width)
        self.modulation = nn.Linear(width, 3 * width)

    def forward(self, x: Tensor, shift: Tensor, scale: Tensor, gate: Tensor) -> Tensor:
        update = self.fc2(F.silu(self.fc1(add_product(shift, self.norm(x), scale))))
        return add_product(x, gate, update)


class FinalLayer(nn.Module):
    """Modulated norm without weights, then a linear to the output channels."""

    def __init__(self, width: int, out_channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=EPSILON, elementwise_affine=False)
        self.linear = nn.Linear(width, out_channels)
        self.modulation = nn.Linear(width, 2 * width)

    def forward(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return self.linear(add_product(shift, self.norm(x), scale))


def add_product(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """x + a * b. Fused where no gradient is wanted: the fused operation's gradient multiplies once more, by 1."""
    return x + a * b if torch.is_grad_enabled() else torch.addcmul(x, a, b)


def guide(output: Tensor, guidance: float, channels: int) -> Tensor:
    """One output (..., out) from the head's (G, ..., out): null + guidance (given - null) on the first `channels`.

    What follows them, the variance, is the given half's (released: models/diffloss.py:252-260).
    """
    if len(output) == 1:
        return output[0]
    given, null = output
    guided = torch.lerp(null[..., :channels], given[..., :channels], guidance)
    return guided if guided.shape == given.shape else torch.cat([guided, given[..., channels:]], dim=-1)


def initialize(head: Head) -> None:
    """Xavier everywhere, small time MLP, and zero modulations and output: the head starts as the zero function."""
    for module in head.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    for linear in (head.time_in, head.time_out):
        nn.init.normal_(linear.weight, std=0.02)
    for modulation in (*(block.modulation for block in head.blocks), head.final.modulation):
        nn.init.zeros_(modulation.weight)
    nn.init.zeros_(head.final.linear.weight)
