"""The release's own way to the same loss and images, with all of its work: kept to compare with, in tests and speed.

`reference_loss` is `MAR.forward`, and `PATHS["reference"]` gives `generate_latents` the images of `PATHS["fast"]`.

B images, N tokens, n predicted in a step, G = 2 with guidance and 1 without, W width, D token channels, K noise copies.
"""

import math

import numpy as np
import torch
from torch import Tensor

from lightgen.model.blocks import take
from lightgen.model.config import MARConfig, SamplingConfig
from lightgen.model.diffusion import (
    Schedule,
    add_noise,
    cosine_schedule,
    discretized_log_likelihood,
    flow_noised,
    learned_range,
)
from lightgen.model.head import guide
from lightgen.model.mar import FLOW_TIME_SCALE, MAR, MARLoss, mean_loss
from lightgen.model.masking import Draws, Layout, mask_layout
from lightgen.model.sampling import Parts
from lightgen.model.solvers import Predict, Solver, make_solver


def reference_loss(model: MAR, latents: Tensor, text: Tensor, text_lengths: Tensor, draws: Draws) -> MARLoss:
    """What `MAR.forward` gives without dropout, computed as the release does (models/fluid_arbitrary.py:299-305): every
    token through the last decoder block, the cross stack and the head, each noise copy on its own, masked last."""
    tokens, grid, config = model.patchify(latents), model.token_grid(latents), model.mar_config
    aligned, key_mask = model.align_text(text, text_lengths)
    aligned = torch.where(draws.text_dropped[:, None, None], model.null_text, aligned)
    layout = mask_layout(draws)
    encoded = model.encode(tokens, model.positions(model.encoder_positions, grid), layout)
    joined = model.decoder_text(aligned, key_mask, draws.text_dropped)
    x = model.decode(encoded, model.positions(model.decoder_positions, grid), layout, text=joined)
    z = model.cross(x, model.positions(model.cross_positions, grid), aligned, key_mask, None)
    clean, z = tokens.float().expand_as(draws.noise), z.expand(len(draws.noise), *z.shape)
    if config.head_objective == "flow":
        noisy = flow_noised(clean, draws.noise, draws.timesteps)
        prediction = model.head(noisy, draws.timesteps * FLOW_TIME_SCALE, z)
        return mean_loss(prediction.float() - (draws.noise - clean), None, draws.mask)
    noisy = add_noise(clean, draws.noise, draws.timesteps, config.diffusion_steps)
    prediction = model.head(noisy, draws.timesteps, z)
    parts = learned_range(prediction, draws.noise, draws.timesteps, config.diffusion_steps)
    # The last step's likelihood is computed at every step before one of the two is chosen.
    likelihood = discretized_log_likelihood(clean, parts.centered, parts.log_scale).mean(-1) / math.log(2)
    return mean_loss(parts.residual, torch.where(draws.timesteps == 0, -likelihood, parts.bound), draws.mask)


class ReferenceTrunk:
    """z (G, B, n, W) of the predicted tokens as the release computes it: every part, both halves, all tokens."""

    def __init__(self, model: MAR, text: Tensor, lengths: Tensor, grid: tuple[int, int], guided: bool):
        self.model, self.grid, self.halves = model, grid, 2 if guided else 1
        self.aligned, self.key_mask = model.align_text(text, lengths)
        dropped = torch.zeros_like(lengths, dtype=torch.bool)
        if guided:
            dropped = torch.cat([dropped, ~dropped])
            self.aligned = torch.cat([self.aligned, model.null_text.expand_as(self.aligned)])
            self.key_mask = None if self.key_mask is None else torch.cat([self.key_mask, self.key_mask])
        self.joined = model.decoder_text(self.aligned, self.key_mask, dropped)

    def __call__(self, tokens: Tensor, visible: Tensor | None, predicted: Tensor) -> Tensor:
        model, halves = self.model, self.halves
        tokens = tokens.repeat(halves, 1, 1)
        if visible is None:
            visible = predicted[:, :0]
        layout = Layout(len(tokens), visible.repeat(halves, 1), None, None, None)
        encoded = model.encode(tokens, model.positions(model.encoder_positions, self.grid), layout)
        x = model.decode(encoded, model.positions(model.decoder_positions, self.grid), layout, text=self.joined)
        z = model.cross(x, model.positions(model.cross_positions, self.grid), self.aligned, self.key_mask, None)
        return take(z, predicted.repeat(halves, 1)).unflatten(0, (halves, -1))


class ReferencePrediction:
    """The guided output of the head for x (B, n, D) at entry `step` of the times, embedding everything anew."""

    def __init__(self, model: MAR, z: Tensor, times: Tensor, guidance: float):
        self.model, self.z, self.times, self.guidance = model, z, times, guidance

    @staticmethod
    def table(model: MAR, times: Tensor) -> Tensor:
        return times

    def __call__(self, x: Tensor, step: int) -> Tensor:
        x = x.expand(len(self.z), *x.shape).contiguous()
        output = self.model.head(x, self.times[step].expand(x.shape[:-1]), self.z)
        return guide(output.float(), self.guidance, x.shape[-1])


def make_reference_solver(model: MARConfig, config: SamplingConfig) -> Solver:
    """The release's DDPM; it has no other solver, so that the others are the method's own."""
    solver = make_solver(model, config)
    if config.solver != "ddpm":
        return solver
    halves = 2 if config.guidance_scale != 1 else 1
    tables = released_tables(cosine_schedule(model.diffusion_steps, config.num_head_steps))
    return solver._replace(run=lambda predict, noise: _ddpm(predict, noise, tables, config.temperature, halves))


PATHS = {
    "fast": Parts(),
    # Not inference_mode(False), which would record gradients.
    "reference": Parts(ReferenceTrunk, ReferencePrediction, make_reference_solver, torch.no_grad),
}


def released_tables(schedule: Schedule) -> dict[str, Tensor]:
    """The eight float64 tables that the released sampler reads in every step; it uses six of them."""
    alpha_bar = schedule.alpha_bar
    previous = np.append(1.0, alpha_bar[:-1])
    betas = 1 - alpha_bar / previous
    tables = {
        "log_variance_low": schedule.log_variance_low,
        "log_variance_high": schedule.log_variance_high,
        "clean_from_noisy": np.sqrt(1 / alpha_bar),
        "clean_from_noise": np.sqrt(1 / alpha_bar - 1),
        "mean_from_clean": betas * np.sqrt(previous) / (1 - alpha_bar),
        "mean_from_noisy": (1 - previous) * np.sqrt(1 - betas) / (1 - alpha_bar),
        "variance": betas * (1 - previous) / (1 - alpha_bar),
        "log_variance": schedule.log_variance_low,
    }
    return {name: torch.from_numpy(table) for name, table in tables.items()}


def _ddpm(predict: Predict, noise: Tensor, tables: dict[str, Tensor], temperature: float, halves: int) -> Tensor:
    """Learned-variance DDPM with the release's own work: a state for each guidance half, of which the first alone
    counts, the clean tokens estimated first, and every constant looked up for every row
    (diffusion/gaussian_diffusion.py:865-877)."""
    x = noise[0].expand(halves, *noise[0].shape).contiguous()
    for draw, step in zip(noise[1:], reversed(range(len(noise) - 1)), strict=True):
        timesteps = torch.full(x.shape[:-1], step, device=x.device)
        now = {name: _for_rows(table, timesteps, x) for name, table in tables.items()}
        epsilon, position = torch.cat([predict(x[0], step)[None]] * halves).chunk(2, dim=-1)
        fraction = (position + 1) / 2
        log_variance = fraction * now["log_variance_high"] + (1 - fraction) * now["log_variance_low"]
        clean = now["clean_from_noisy"] * x - now["clean_from_noise"] * epsilon
        mean = now["mean_from_clean"] * clean + now["mean_from_noisy"] * x
        is_not_last = (timesteps != 0).float().unsqueeze(-1)
        x = mean + is_not_last * torch.exp(0.5 * log_variance) * draw.expand_as(x).contiguous() * temperature
    return x[0]


def _for_rows(table: Tensor, timesteps: Tensor, x: Tensor) -> Tensor:
    return table.to(x.device)[timesteps].float().unsqueeze(-1) + torch.zeros_like(x)
