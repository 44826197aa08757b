"""How a forward pass is carried out: compiled, or with activations computed again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from lightgen.model.blocks import Block, CrossBlock
from lightgen.model.head import HeadBlock
from lightgen.model.mar import MAR
from lightgen.training.config import LoopConfig

BLOCKS = (Block, CrossBlock, HeadBlock)  # of trunk and head, where the activations are


@contextmanager
def carried_out(model: MAR, wrapped: nn.Module, pace: LoopConfig) -> Iterator[Callable[..., Any]]:
    """Within the block the forward pass of `wrapped` (the model, or what shares it among processes), as `pace` says."""
    with ExitStack() as stack:
        if pace.checkpoint:
            stack.enter_context(checkpointed(model))
        # Shapes are few, in buckets: one program for each is faster than one for all.
        yield torch.compile(wrapped, dynamic=False) if pace.compile else wrapped


@contextmanager
def checkpointed(model: MAR) -> Iterator[None]:
    """Within the block each of the model's blocks keeps its inputs alone for the backward pass."""
    parts = [module for module in model.modules() if isinstance(module, BLOCKS)]
    for part in parts:
        part.forward = partial(_again, part.forward)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for part in parts:
            del part.forward


def _again(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return function(*args, **kwargs)
    return checkpoint(function, *args, use_reentrant=False, **kwargs)
