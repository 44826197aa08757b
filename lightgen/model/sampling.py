"""The autoregressive loop: tokens are predicted in random order, a few each step, by the head given the trunk's z.

Two paths give the same images for the same draws. `reference` computes what the release computes. `fast` leaves out
what cannot change the result: the trunk is text-blind, so both guidance halves share one pass; cross blocks act per
token, so they run on the tokens of this step only; text keys and values and the null text's attention are constants.

B images, N tokens, n predicted in a step, G = 2 with guidance and 1 without, W width, D token channels.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from lightgen.model.blocks import take
from lightgen.model.config import SOLVERS, SamplingConfig
from lightgen.model.diffusion import Schedule, cosine_schedule, ddim_step, ddpm_step, flow_times, released_tables
from lightgen.model.head import guide
from lightgen.model.mar import FLOW_TIME_SCALE, MAR
from lightgen.model.masking import Layout, masked_counts

MODULATED_ROWS = 256  # most rows (head steps times tokens times halves) whose modulations are held at once


class ImageDraws(Protocol):
    """Where generation takes its randomness from."""

    def orders(self, num_tokens: int) -> Tensor:
        """(B, N) permutations; tokens are predicted from the last entry to the first."""
        ...

    def normal(self, count: int, num_tokens: int, channels: int) -> Tensor:
        """(count, B, num_tokens, channels) standard normal numbers for one autoregressive step, float32."""
        ...


class GeneratorDraws:
    """Draws of each image from its own generator, so that an image does not depend on the batch it is made in."""

    def __init__(self, generators: Sequence[torch.Generator], device: torch.device):
        self.generators = generators
        self.device = device

    def orders(self, num_tokens: int) -> Tensor:
        return self._stack([torch.rand(num_tokens, generator=g, device=g.device) for g in self.generators], 0).argsort(
            1
        )

    def normal(self, count: int, num_tokens: int, channels: int) -> Tensor:
        shape = (count, num_tokens, channels)
        return self._stack([torch.randn(shape, generator=g, device=g.device) for g in self.generators], 1)

    def _stack(self, tensors: list[Tensor], dim: int) -> Tensor:
        return torch.stack(tensors, dim).to(self.device, non_blocking=True)


def generate_latents(
    model: MAR,
    text: Tensor,
    text_lengths: Tensor,
    grid: tuple[int, int],
    config: SamplingConfig,
    generators: Sequence[torch.Generator],
    path: Literal["fast", "reference"] = "fast",
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Latents (B, C, H, W) for text features (B, L, text_channels) of true lengths (B,), one generator an image.

    `on_step(step, tokens)` is called after each autoregressive step with the tokens (B, N, D) so far.
    """
    if len(generators) != len(text):
        raise ValueError(f"{len(generators)} generators for {len(text)} images; give one for each image")
    draws = GeneratorDraws(generators, text.device)
    return generate_from_draws(model, text, text_lengths, grid, config, draws, path, on_step)


@torch.no_grad()
def generate_from_draws(
    model: MAR,
    text: Tensor,
    text_lengths: Tensor,
    grid: tuple[int, int],
    config: SamplingConfig,
    draws: ImageDraws,
    path: Literal["fast", "reference"] = "fast",
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """As `generate_latents`, with the orders and every normal number from `draws`."""
    _refuse_wrong_solver(model, config)
    if path not in ("fast", "reference"):
        raise ValueError(f"path is {path!r}; valid: fast, reference")
    num_tokens = grid[0] * grid[1]
    counts = masked_counts(num_tokens, config.num_steps)
    was_training = model.training
    model.eval()  # dropout would make the two guidance halves disagree
    try:
        trunk_type = FastTrunk if path == "fast" else ReferenceTrunk
        trunk = trunk_type(model, text, text_lengths, grid, config)
        solver = _solver(model, config, path)
        predict_type = FastPrediction if path == "fast" else ReferencePrediction
        # The head's operations are small and many: what inference mode saves on each of them counts. Not
        # inference_mode(False) for the other path, which would record gradients.
        unrecorded = torch.inference_mode if path == "fast" else torch.no_grad
        times = torch.tensor(solver.times, dtype=torch.float32).to(text.device, non_blocking=True)
        table = model.head.embed_times(times) if path == "fast" else times
        order = draws.orders(num_tokens)
        tokens = torch.zeros(*order.shape, model.mar_config.token_dim, device=text.device)
        for step, (now, after) in enumerate(itertools.pairwise(counts)):
            visible = order[:, now:].sort(1).values if now < num_tokens else None
            predicted = order[:, after:now].sort(1).values
            z = trunk(tokens, visible, predicted)
            noise = draws.normal(solver.num_draws, now - after, tokens.shape[-1])
            predict = predict_type(model, z, table, guidance_at(config, after, num_tokens))
            with unrecorded():
                new = solver(predict, noise)
            tokens = tokens.scatter(1, predicted[..., None].expand(-1, -1, tokens.shape[-1]), new)
            if on_step is not None:
                on_step(step, tokens)
    finally:
        model.train(was_training)
    return model.unpatchify(tokens, grid)


def guidance_at(config: SamplingConfig, masked_after: int, num_tokens: int) -> float:
    """The guidance scale of a step after which `masked_after` tokens are left.

    The release counts one token as left after the last step (models/fluid_arbitrary.py:333-409), hence the maximum.
    """
    if config.guidance_schedule == "constant":
        return config.guidance_scale
    return 1 + (config.guidance_scale - 1) * (num_tokens - max(1, masked_after)) / num_tokens


class ReferenceTrunk:
    """z (G, B, n, W) of the predicted tokens as the release computes it: every part, both halves, all tokens."""

    def __init__(self, model: MAR, text: Tensor, lengths: Tensor, grid: tuple[int, int], config: SamplingConfig):
        self.model, self.grid = model, grid
        self.aligned, self.key_mask = model.align_text(text, lengths)
        self.guided = config.guidance_scale != 1
        if self.guided:
            null = model.null_text.expand_as(self.aligned)
            self.aligned = torch.cat([self.aligned, null])
            self.key_mask = None if self.key_mask is None else torch.cat([self.key_mask, self.key_mask])

    def __call__(self, tokens: Tensor, visible: Tensor | None, predicted: Tensor) -> Tensor:
        model, halves = self.model, 2 if self.guided else 1
        tokens = tokens.repeat(halves, 1, 1)
        if visible is None:
            visible = predicted[:, :0]
        layout = Layout(len(tokens), visible.repeat(halves, 1), None, None, None)
        encoded = model.encode(tokens, model.positions(model.encoder_positions, self.grid), layout)
        x = model.decode(encoded, model.positions(model.decoder_positions, self.grid), layout)
        z = model.cross(x, model.positions(model.cross_positions, self.grid), self.aligned, self.key_mask, None)
        return take(z, predicted.repeat(halves, 1)).unflatten(0, (halves, -1))


class FastTrunk:
    """The same z (G, B, n, W), computing what the predicted tokens need and nothing twice."""

    def __init__(self, model: MAR, text: Tensor, lengths: Tensor, grid: tuple[int, int], config: SamplingConfig):
        self.model = model
        aligned, self.key_mask = model.align_text(text, lengths)
        self.guided = config.guidance_scale != 1
        self.contexts = [
            block.context(aligned, model.null_text if self.guided else None) for block in model.cross_blocks
        ]
        tables = (model.encoder_positions, model.decoder_positions, model.cross_positions)
        self.positions = [model.positions(table, grid) for table in tables]

    def __call__(self, tokens: Tensor, visible: Tensor | None, predicted: Tensor) -> Tensor:
        model = self.model
        layout = Layout(len(tokens), visible, None, None, None)
        encoded = model.encode(tokens, self.positions[0], layout)
        if encoded is None:
            x = take(model.decode(None, self.positions[1], layout).expand(len(tokens), -1, -1), predicted)
        else:
            x = model.decode(encoded, self.positions[1], layout, queries=predicted)
        x = model.cross_embed(x) + self.positions[2][0][predicted]
        return model.attend_text(x, self.contexts, self.key_mask, guided=self.guided).unflatten(
            0, (1 + self.guided, -1)
        )


class ReferencePrediction:
    """The guided output of the head for x (B, n, D) at entry `step` of the times, embedding everything anew."""

    def __init__(self, model: MAR, z: Tensor, times: Tensor, guidance: float):
        self.model, self.z, self.times, self.guidance = model, z, times, guidance

    def __call__(self, x: Tensor, step: int) -> Tensor:
        x = x.expand(len(self.z), *x.shape).contiguous()
        return guide(
            self.model.head(x, self.times[step].expand(x.shape[:-1]), self.z).float(), self.guidance, x.shape[-1]
        )


class FastPrediction:
    """The same output: the condition is embedded once a step, times come from a table, both halves share x; and the
    modulations, most of the head's arithmetic, do not depend on x: those of several head steps make one product."""

    def __init__(self, model: MAR, z: Tensor, time_table: Tensor, guidance: float):
        self.head, self.time_table, self.guidance = model.head, time_table, guidance
        self.condition = self.head.condition(z)
        self.span = MODULATED_ROWS // self.condition[..., 0].numel()  # head steps at once
        self.start = -1  # the first of the steps whose modulations are held
        self.held: list[tuple[tuple[Tensor, ...], ...]] = []  # for each step a layer's shift, scale and gate

    def __call__(self, x: Tensor, step: int) -> Tensor:
        if self.span > 1:
            output = self.head.modulated(x, self._modulations(step))
        else:
            output = self.head.denoise(x, self.condition + self.time_table[step])
        return guide(output.float(), self.guidance, x.shape[-1])

    def _modulations(self, step: int) -> tuple[tuple[Tensor, ...], ...]:
        """What `Head.modulations` yields for `step`, computed together with its neighbors'."""
        start = step - step % self.span
        if start != self.start:
            self.held = []  # freed before its successor is made
            self.start, times = start, self.time_table[start : start + self.span]
            layers = self.head.modulations(self.condition + times[:, None, None, None])
            # Each layer's shift, scale and gate hold all steps; they are taken apart once, not in every step.
            steps_of_layers = (zip(*(part.unbind() for part in layer), strict=True) for layer in layers)
            self.held = list(zip(*steps_of_layers, strict=True))
        return self.held[step - start]


class Solver(NamedTuple):
    """Steps from noise to tokens: the times it asks the head about, its draws per token, and the way itself."""

    times: tuple[float, ...]
    num_draws: int
    run: Callable[[Callable[[Tensor, int], Tensor], Tensor], Tensor]

    def __call__(self, predict: Callable[[Tensor, int], Tensor], noise: Tensor) -> Tensor:
        """Tokens (B, n, D) from draws (num_draws, B, n, D)."""
        return self.run(predict, noise)


def _solver(model: MAR, config: SamplingConfig, path: str) -> Solver:
    steps, temperature = config.num_head_steps, config.temperature
    if config.solver in SOLVERS["flow"]:
        times = flow_times(steps)
        run = _heun if config.solver == "heun" else _euler
        scaled = tuple(time * FLOW_TIME_SCALE for time in times)
        return Solver(scaled, 1, lambda predict, noise: run(predict, noise[0] * temperature, times))
    schedule = cosine_schedule(model.mar_config.diffusion_steps, steps)
    if config.solver == "ddim":
        return Solver(schedule.timesteps, 1, lambda predict, noise: _ddim(predict, noise[0] * temperature, schedule))
    if path == "reference":
        halves, tables = 2 if config.guidance_scale != 1 else 1, released_tables(schedule)
        return Solver(
            schedule.timesteps,
            steps + 1,
            lambda predict, noise: _ddpm_as_released(predict, noise, tables, temperature, halves),
        )
    return Solver(schedule.timesteps, steps + 1, lambda predict, noise: _ddpm(predict, noise, schedule, temperature))


def _ddpm(predict: Callable, noise: Tensor, schedule: Schedule, temperature: float) -> Tensor:
    """Learned-variance DDPM; noise[0] is the start, noise[1:] one draw a step, the last of them unused."""
    x = noise[0]
    for draw, step in zip(noise[1:], reversed(range(len(schedule))), strict=True):
        epsilon, position = predict(x, step).chunk(2, dim=-1)
        x = ddpm_step(x, epsilon, position, draw, schedule, step, temperature)
    return x


def _ddpm_as_released(
    predict: Callable, noise: Tensor, tables: dict[str, Tensor], temperature: float, halves: int
) -> Tensor:
    """`_ddpm` with the release's own work: a state for each guidance half, of which the first alone counts, the clean
    tokens estimated first, and every constant looked up for every row (diffusion/gaussian_diffusion.py:865-877)."""
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


def _ddim(predict: Callable, x: Tensor, schedule: Schedule) -> Tensor:
    for step in reversed(range(len(schedule))):
        x = ddim_step(x, predict(x, step).chunk(2, dim=-1)[0], schedule, step)
    return x


def _euler(predict: Callable, x: Tensor, times: tuple[float, ...]) -> Tensor:
    for step in range(len(times) - 1):
        x = x + (times[step + 1] - times[step]) * predict(x, step)
    return x


def _heun(predict: Callable, x: Tensor, times: tuple[float, ...]) -> Tensor:
    """Heun's second-order steps: the slope is averaged over both ends of a step."""
    for step in range(len(times) - 1):
        length = times[step + 1] - times[step]
        slope = predict(x, step)
        x = x + length / 2 * (slope + predict(x + length * slope, step + 1))
    return x


def _refuse_wrong_solver(model: MAR, config: SamplingConfig) -> None:
    objective = model.mar_config.head_objective
    if config.solver not in SOLVERS[objective]:
        choices = ", ".join(SOLVERS[objective])
        raise ValueError(f"solver {config.solver!r} does not fit a {objective} head; valid: {choices}")
