"""The one look at weights when they are loaded: NaN or an infinity among them would give scores all the same."""

import math
from itertools import chain
from typing import Any


def refuse_not_finite(network: Any, where: object) -> None:
    """ValueError, which names `where` it came from and the tensor, for a network with a number that is not finite."""
    import torch

    for name, tensor in chain(network.named_parameters(), network.named_buffers()):
        if tensor.numel() and tensor.is_floating_point() and tensor.device.type != "meta":
            low, high = torch.aminmax(tensor.detach())
            if not (math.isfinite(low.item()) and math.isfinite(high.item())) and not _is_mask(name):
                raise ValueError(
                    f"{where}: the weights hold NaN or infinite numbers (in {name}); fetch or copy them again"
                )


def _is_mask(name: str) -> bool:
    """Attention masks are buffers of minus infinity by design."""
    return name.rpartition(".")[2] in ("attn_mask", "attention_mask", "causal_mask")
