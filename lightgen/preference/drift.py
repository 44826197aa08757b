"""How far preference training moved a model: the change of its errors on draws that training did not choose."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightgen.model.mar import MAR
from lightgen.model.masking import Draws
from lightgen.preference.encoded import EncodedPairs, pair_errors


@torch.no_grad()
def fixed_errors(
    model: MAR,
    pairs: EncodedPairs,
    count: int,
    draws_of: Callable[[Tensor, Tensor], Draws],
    *,
    batch_size: int,
    device: torch.device,
) -> Tensor:
    """Errors (2, count) of the chosen and rejected images of the first pairs, under the first draws of each.

    Always of the conditional prediction, so that runs with and without guidance in their loss can be compared.
    """
    found = []
    for ids in torch.arange(count).split(batch_size):
        errors = pair_errors(model, pairs, ids, draws_of(ids, torch.zeros_like(ids)), device)
        found.append(torch.stack([errors.chosen, errors.rejected]).float().cpu())
    return torch.cat(found, 1) if found else torch.empty(2, 0)


def drift(now: Tensor, then: Tensor) -> dict[str, Any]:
    """Mean and standard error of the change of winners' and losers' errors (2, P), and the share of pairs whose margin
    is positive."""
    winner, loser = now - then
    count = len(winner)
    return {
        "pairs": count,
        "winner": float(winner.mean()),
        "winner_stderr": float(winner.std() / math.sqrt(count)) if count > 1 else 0.0,
        "loser": float(loser.mean()),
        "loser_stderr": float(loser.std() / math.sqrt(count)) if count > 1 else 0.0,
        "accuracy": float((loser > winner).float().mean()),
    }
