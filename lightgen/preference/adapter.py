"""Low-rank adapters through peft: a policy that is its own reference once the adapters are switched off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from lightgen.model.mar import MAR


def add_adapters(model: MAR, rank: int, *, part: str = "all", seed: int = 0) -> None:
    """Put a LoRA of `rank` (Hu et al. 2021, arXiv 2106.09685; scale 1) beside each linear layer of the part, in place.

    Everything else is frozen. Before the first step the model computes what it did. ImportError says how to get peft.
    """
    peft = _peft()
    settings = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=_targets(model, part), lora_dropout=0.0)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(settings, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """Within the block the model computes what it did before adapters were added."""
    layers = _layers(model)
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def merge_adapters(model: MAR) -> None:
    """Add the adapters' products to the weights and take them out, in place: a plain model again."""
    names = {module: name for name, module in model.named_modules()}
    for layer in _layers(model):
        layer.merge()
        place, _, leaf = names[layer].rpartition(".")
        setattr(model.get_submodule(place), leaf, layer.get_base_layer())
    del model.peft_config
    for parameter in model.parameters():
        parameter.requires_grad_(True)


def _targets(model: MAR, part: str) -> list[str]:
    # The last decoder block takes slices of its qkv weight instead of calling the layer: an adapter there would train
    # nothing and still be merged.
    skipped = f"decoder_blocks.{len(model.decoder_blocks) - 1}.attn.qkv"
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and name != skipped
        and (part == "all" or (part == "head") == name.startswith("head."))
    ]


def _layers(model: nn.Module) -> list[Any]:
    from peft.tuners.lora import LoraLayer

    return [module for module in model.modules() if isinstance(module, LoraLayer)]


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ImportError("LoRA needs peft: pip install 'lightgen-bench[lora]'") from error
    return peft
