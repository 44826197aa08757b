"""What preference training minimizes: functions of a pair's denoising errors, policy and reference, winner and loser.

All errors are (B,), the mean squared error of the head over an image's masked tokens, channels and noise draws, without
the variational term; lower is likelier. With d = policy - reference, the logit of a pair is

    -(beta / 2) (d_winner - d_loser)

which is Diffusion-DPO's (Wallace et al. 2023, arXiv 2311.12908, equation 14; the factor 1/2 as in that paper's code,
and its T w(lambda) is part of beta). LightGen's equation 7 is the same with its own beta.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

LOSSES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": lambda logits: -F.logsigmoid(logits),  # Diffusion-DPO
    "hinge": lambda logits: F.relu(1 - logits),  # SLiC (Zhao et al. 2023, arXiv 2305.10425)
    "ipo": lambda logits: (logits - 0.5).square(),  # IPO (Azar et al. 2023, arXiv 2310.12036), times beta^2 / 4
}


def dpo_loss(
    policy_winner: Tensor,
    policy_loser: Tensor,
    reference_winner: Tensor,
    reference_loser: Tensor,
    *,
    beta: float,
    kind: Literal["sigmoid", "ipo", "hinge"] = "sigmoid",
    dpop: float = 0.0,
) -> Tensor:
    """The loss of each pair, (B,), from errors (B,); log 2 for `sigmoid` where policy and reference agree.

    `dpop` is DPO-positive's penalty (Pal et al. 2024, arXiv 2402.13228): d_winner counts `dpop` times more where it is
    above 0, that is where the winner's error has risen. ValueError for a beta that is not positive or another kind.
    """
    _require_positive(beta)
    if kind not in LOSSES:
        raise ValueError(f"kind is {kind!r}; valid: {', '.join(LOSSES)}")
    winner_drift, loser_drift = policy_winner - reference_winner, policy_loser - reference_loser
    penalty = dpop * F.relu(winner_drift)
    return LOSSES[kind](-0.5 * beta * (winner_drift - loser_drift + penalty))


def simpo_loss(policy_winner: Tensor, policy_loser: Tensor, *, beta: float, margin: float = 0.0) -> Tensor:
    """SimPO's loss (Meng et al. 2024, arXiv 2405.14734) of each pair, (B,), without a reference.

    -log sigmoid(-(beta / 2) (e_winner - e_loser) - margin). The errors are means over tokens and channels already, as
    that paper normalizes by length; `margin` is its gamma.
    """
    _require_positive(beta)
    return -F.logsigmoid(-0.5 * beta * (policy_winner - policy_loser) - margin)


def safeguard(winner: Tensor, overlap: Tensor, mu: float) -> Tensor:
    """How much of the loser's gradient may be kept, (B,) in [0, 1], after Diffusion-SDPO (arXiv 2511.03317).

    In the space of the head's outputs the gradients of the two errors are the residuals r_winner and r_loser; `winner`
    is the mean of r_winner^2 (the error itself) and `overlap` the mean of r_winner r_loser. A step along
    r_winner - s r_loser raises the winner's error to first order only where s * overlap > winner. So the factor is
    min(1, (1 - mu) winner / overlap) where the two overlap, else 1.
    """
    allowed = (1 - mu) * winner.detach() / overlap.clamp(min=1e-12)
    return allowed.clamp(max=1.0).masked_fill(overlap <= 0, 1.0)


def scale_gradient(value: Tensor, factor: Tensor) -> Tensor:
    """`value` itself, whose gradient is multiplied by `factor`."""
    return factor * value + (1 - factor) * value.detach()


def _require_positive(beta: float) -> None:
    if not beta > 0:
        raise ValueError(f"beta is {beta}, must be above 0")
