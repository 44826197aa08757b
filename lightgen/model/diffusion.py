"""Diffusion of one token: the cosine schedule, the learned-range loss, DDPM/DDIM steps; rectified-flow steps.

Improved DDPM (Nichol and Dhariwal 2021) as MAR's head uses it: epsilon prediction, variance interpolated between its
two bounds, loss = squared error + variational bound.
Flow matching: x_t = (1 - t) x + t noise, the head predicts noise - x.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Schedule:
    """Per-step constants of a (possibly respaced) cosine schedule, in float64; entry 0 is the least noisy step."""

    timesteps: tuple[int, ...]  # the step of the full schedule that each entry stands for; what the head is told
    alpha_bar: np.ndarray  # signal power left after the step
    sample_scale: np.ndarray  # posterior mean = sample_scale * x_t - noise_scale * epsilon
    noise_scale: np.ndarray
    log_variance_low: np.ndarray  # of the posterior, its first entry replaced by the second
    log_variance_high: np.ndarray  # log beta

    def __len__(self) -> int:
        return len(self.timesteps)


@lru_cache(maxsize=32)
def cosine_schedule(num_steps: int = 1000, num_kept: int = 0) -> Schedule:
    """The cosine schedule of `num_steps` (betas capped at 0.999), respaced to `num_kept` steps (0 keeps all)."""
    edges = np.cos((np.arange(num_steps + 1, dtype=np.float64) / num_steps + 0.008) / 1.008 * math.pi / 2) ** 2
    alpha_bar = np.cumprod(1 - np.minimum(1 - edges[1:] / edges[:-1], 0.999))
    timesteps = kept_timesteps(num_steps, num_kept or num_steps)
    alpha_bar = alpha_bar[list(timesteps)]
    previous = np.append(1.0, alpha_bar[:-1])
    betas = 1 - alpha_bar / previous
    posterior_variance = betas * (1 - previous) / (1 - alpha_bar)
    # The posterior of the first step has no variance; one step alone has only its beta.
    posterior_variance[0] = posterior_variance[1] if len(betas) > 1 else betas[0]
    clean_coefficient = betas * np.sqrt(previous) / (1 - alpha_bar)
    sample_coefficient = (1 - previous) * np.sqrt(1 - betas) / (1 - alpha_bar)
    return Schedule(
        timesteps=timesteps,
        alpha_bar=alpha_bar,
        sample_scale=clean_coefficient / np.sqrt(alpha_bar) + sample_coefficient,
        noise_scale=clean_coefficient * np.sqrt(1 / alpha_bar - 1),
        log_variance_low=np.log(posterior_variance),
        log_variance_high=np.log(betas),
    )


def kept_timesteps(num_steps: int, num_kept: int) -> tuple[int, ...]:
    """`num_kept` of the steps 0..num_steps-1, evenly spread with both ends kept."""
    if not 1 <= num_kept <= num_steps:
        raise ValueError(f"{num_kept} head steps asked of a schedule of {num_steps}; give 1 to {num_steps}")
    stride = (num_steps - 1) / (num_kept - 1) if num_kept > 1 else 1.0
    position, kept = 0.0, []
    for _ in range(num_kept):
        # Accumulated, not multiplied, and rounded half to even: the rounding that respaced checkpoints are used with.
        kept.append(round(position))
        position += stride
    return tuple(kept)


@torch.compiler.assume_constant_result
def _loss_tables(num_steps: int, device: torch.device) -> Tensor:
    """`_made_tables`, which a compiled program takes as a constant."""
    return _made_tables(num_steps, device)


@lru_cache(maxsize=16)
def _made_tables(num_steps: int, device: torch.device) -> Tensor:
    """(steps, 5) float32: sqrt(alpha_bar), sqrt(1 - alpha_bar), noise scale, low and high log variance."""
    schedule = cosine_schedule(num_steps)
    columns = [
        np.sqrt(schedule.alpha_bar),
        np.sqrt(1 - schedule.alpha_bar),
        schedule.noise_scale,
        schedule.log_variance_low,
        schedule.log_variance_high,
    ]
    return torch.tensor(np.stack(columns, -1), dtype=torch.float32).to(device, non_blocking=True)


def add_noise(clean: Tensor, noise: Tensor, timesteps: Tensor, num_steps: int = 1000) -> Tensor:
    """x_t of the forward process for long `timesteps` (...,), `clean` and `noise` (..., D)."""
    scales = _loss_tables(num_steps, clean.device)[:, :2][timesteps]
    return scales[..., :1] * clean + scales[..., 1:] * noise


class LearnedRange(NamedTuple):
    """What the learned-range loss of a prediction is made of; D channels."""

    residual: Tensor  # (..., D), epsilon's
    bound: Tensor  # (...,) variational bound in bits, averaged over channels, as at every step but the last
    centered: Tensor  # (..., D), the clean tokens minus the predicted mean, as at the last step
    log_scale: Tensor  # (..., D), log of the predicted standard deviation


def learned_range(prediction: Tensor, noise: Tensor, timesteps: Tensor, num_steps: int) -> LearnedRange:
    """The parts of `learned_range_loss` for `prediction` (..., 2D): epsilon, then the variance's position between its
    bounds in [-1, 1].

    The bound trains the variance alone: epsilon is detached in it (Nichol and Dhariwal 2021, section 3.1, L_hybrid
    without its 0.001).
    """
    epsilon, position = prediction.float().split(noise.shape[-1], dim=-1)
    residual = epsilon - noise
    constants = _loss_tables(num_steps, noise.device)[:, 2:][timesteps].unsqueeze(-2)  # (..., 1, 3)
    noise_scale, low, high = constants.unbind(-1)
    log_variance = torch.lerp(low, high, (position + 1) / 2)
    # The posterior's mean minus the predicted one: they share their x_t part, so they differ by the error of epsilon
    # alone. Epsilon enters a mean with a minus, hence the plus. At the last step the posterior's mean is the token.
    centered = noise_scale * residual.detach()
    divergence = low - log_variance
    bound = 0.5 * (divergence.exp() - divergence - 1 + centered.square() * torch.exp(-log_variance))
    return LearnedRange(residual, bound.mean(-1) / math.log(2), centered, log_variance / 2)


def learned_range_loss(
    prediction: Tensor, clean: Tensor, noise: Tensor, timesteps: Tensor, num_steps: int = 1000
) -> tuple[Tensor, Tensor]:
    """Epsilon's residual (..., D), and the variational-bound term in bits, averaged over channels, (...,)."""
    residual, variational, centered, log_scale = learned_range(prediction, noise, timesteps, num_steps)
    is_last = timesteps == 0  # the last denoising step is scored by its likelihood
    if is_last.device.type != "cpu" or torch.compiler.is_compiling():
        # Of all tokens: which ones they are, the host would have to wait for.
        likelihood = discretized_log_likelihood(clean, centered, log_scale).mean(-1)
        return residual, torch.where(is_last, -likelihood / math.log(2), variational)
    first = is_last.nonzero(as_tuple=True)
    if first[0].numel():
        likelihood = discretized_log_likelihood(clean[first], centered[first], log_scale[first])
        variational = variational.index_put(first, -likelihood.mean(-1) / math.log(2))
    return residual, variational


def discretized_log_likelihood(x: Tensor, centered: Tensor, log_scale: Tensor) -> Tensor:
    """Log probability of x's bin [x - 1/255, x + 1/255] under a Gaussian; `centered` = x - mean.

    The bins of |x| > 0.999 are open at their outer end: all that lies beyond them counts.
    """
    inverse = torch.exp(-log_scale)
    above = _normal_cdf(inverse * (centered + 1 / 255))
    below = _normal_cdf(inverse * (centered - 1 / 255))
    probability = torch.where(x < -0.999, above, torch.where(x > 0.999, 1 - below, above - below))
    return probability.clamp(min=1e-12).log()


def _normal_cdf(x: Tensor) -> Tensor:
    """The tanh approximation of the standard normal distribution function that improved DDPM uses."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def ddpm_step(
    x: Tensor, epsilon: Tensor, position: Tensor, noise: Tensor, schedule: Schedule, step: int, temperature: float
) -> Tensor:
    """x_{t-1} by the learned-variance DDPM; at step 0 the mean alone. `temperature` scales the noise."""
    mean = torch.add(float(schedule.sample_scale[step]) * x, epsilon, alpha=-float(schedule.noise_scale[step]))
    if step == 0:
        return mean
    low, high = float(schedule.log_variance_low[step]), float(schedule.log_variance_high[step])
    # exp(log_variance / 2) with log_variance = low + (high - low) (position + 1) / 2, as a number times a tensor
    deviation = torch.exp(position * ((high - low) / 4))
    return torch.addcmul(mean, deviation, noise, value=temperature * math.exp((high + low) / 4))


def ddim_step(x: Tensor, epsilon: Tensor, schedule: Schedule, step: int) -> Tensor:
    """x_{t-1} by deterministic DDIM (eta 0)."""
    now = float(schedule.alpha_bar[step])
    previous = float(schedule.alpha_bar[step - 1]) if step else 1.0
    scale = math.sqrt(previous / now)
    return scale * x + (math.sqrt(1 - previous) - scale * math.sqrt(1 - now)) * epsilon


def flow_times(num_steps: int) -> tuple[float, ...]:
    """The num_steps + 1 times from pure noise (1) to data (0), evenly spread."""
    if num_steps < 1:
        raise ValueError(f"{num_steps} head steps asked; give at least 1")
    return tuple(1 - step / num_steps for step in range(num_steps + 1))


def flow_noised(clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """x_t = (1 - t) clean + t noise for `times` (...,) in (0, 1)."""
    return torch.lerp(clean, noise, times.unsqueeze(-1))
