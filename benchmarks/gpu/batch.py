"""How many images of a training step fit: arithmetic over parameters and over what autograd keeps, without a device.

B images a step, W trunk width. Under autocast to bf16 over float32 weights, with AdamW and an average of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from lightgen.model.config import MARConfig
from lightgen.model.diffusion import add_noise
from lightgen.model.mar import MAR
from lightgen.model.masking import Draws
from lightgen.training.forward import BLOCKS

BYTES_PER_PARAMETER = 22  # weight 4, gradient 4, AdamW 8, average 4, bf16 copy 2
SPARE = 0.9  # of the memory: the allocator's gaps, the library's own work space
MASKED = 0.867  # mean share of masked tokens of the released masks


@dataclass(frozen=True)
class Activations:
    """Bytes that one image adds to what a step holds."""

    plain: float
    checkpointed: float  # the blocks' inputs, and what is kept outside of blocks


def fitting_batch(config: MARConfig, memory: float, *, checkpoint: bool = False) -> int:
    """Images a step that fit into so many bytes; 0 where not even one does."""
    by_image = activations(config)
    each = by_image.checkpointed if checkpoint else by_image.plain
    return max(0, int((SPARE * memory - BYTES_PER_PARAMETER * num_parameters(config)) // each))


def num_parameters(config: MARConfig) -> int:
    with torch.device("meta"):
        return MAR(config).num_parameters()


@lru_cache(maxsize=8)
def activations(config: MARConfig) -> Activations:
    """What autograd keeps of a forward pass on fake tensors: of two batches, so that what is kept once falls out."""
    (small_plain, small_kept), (plain, kept) = _held(config, 2), _held(config, 4)
    return Activations((plain - small_plain) / 2, (kept - small_kept) / 2)


def _held(config: MARConfig, batch: int) -> tuple[float, float]:
    counter, tokens = _Counter(), config.position_grid**2
    masked, side = round(MASKED * tokens), config.position_grid * config.patch_size
    # Tables that are kept for later calls must be real ones.
    add_noise(torch.zeros(1), torch.zeros(1), torch.zeros((), dtype=torch.long), config.diffusion_steps)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = MAR(config).train()
        counter.watch(model)
        draws = Draws(
            mask=torch.zeros(batch, tokens, dtype=torch.bool),
            timesteps=torch.zeros(config.noise_copies, batch, tokens, dtype=torch.long),
            noise=torch.zeros(config.noise_copies, batch, tokens, config.token_dim),
            text_dropped=torch.zeros(batch, dtype=torch.bool),
            masked_range=(masked, masked),
        )
        inputs = (
            torch.zeros(batch, config.vae_channels, side, side),
            torch.zeros(batch, config.max_text_length, config.text_channels),
            torch.zeros(batch, dtype=torch.long),
        )
        hooks = torch.autograd.graph.saved_tensors_hooks(counter.keep, lambda tensor: tensor)
        # A fake weight's cast cannot be cached; the bound, 3 MB an image at 792 M, cannot be run on fake tensors.
        with hooks, torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            model(*inputs, draws, variational=False)
    return float(sum(counter.all.values())), float(sum(counter.outside.values()))


class _Counter:
    """Storages that autograd keeps, and those it would keep if blocks kept their inputs alone."""

    def __init__(self) -> None:
        self.all: dict[int, int] = {}
        self.outside: dict[int, int] = {}
        self.own: set[int] = set()
        self.depth = 0

    def watch(self, model: nn.Module) -> None:
        self.own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
        for module in model.modules():
            if isinstance(module, BLOCKS):
                module.register_forward_pre_hook(self._enter)
                module.register_forward_hook(self._leave)

    def keep(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.own:
            self.all[storage._cdata] = storage.nbytes()
            if not self.depth:
                self.outside[storage._cdata] = storage.nbytes()
        return tensor

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        for tensor in inputs:
            if isinstance(tensor, torch.Tensor):
                self.outside[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        self.depth += 1

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.depth -= 1
