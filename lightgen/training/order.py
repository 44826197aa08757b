"""The order in which training sees its samples."""

import torch
from torch import Tensor

from lightgen.disk.seeds import derive_seed

_ORDERS: dict[tuple[int, int, int], Tensor] = {}


def order(seed: int, position: int, count: int, length: int) -> Tensor:
    """Sample numbers (count,) at the given position of an endless stream of shuffled epochs: a function of its
    arguments alone."""
    parts = []
    while count > 0:
        epoch, offset = divmod(position, length)
        key = (seed, epoch, length)
        if key not in _ORDERS:
            _ORDERS.clear()
            generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
            _ORDERS[key] = torch.randperm(length, generator=generator)
        part = _ORDERS[key][offset : offset + count]
        parts.append(part)
        position, count = position + len(part), count - len(part)
    return parts[0] if len(parts) == 1 else torch.cat(parts)
