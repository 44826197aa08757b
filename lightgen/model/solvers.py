"""The head's way from noise to tokens: DDPM, DDIM, and Euler's and Heun's steps of a flow.

B images, n tokens predicted at once, D token channels.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from lightgen.model.config import SOLVERS, MARConfig, SamplingConfig
from lightgen.model.diffusion import Schedule, cosine_schedule, ddim_step, ddpm_step, flow_times
from lightgen.model.mar import FLOW_TIME_SCALE

Predict = Callable[[Tensor, int], Tensor]  # the head's output for tokens (B, n, D) at a solver's time number


class Solver(NamedTuple):
    """Steps from noise to tokens: the times it asks the head about, its draws per token, and the way itself."""

    times: tuple[float, ...]
    num_draws: int
    run: Callable[[Predict, Tensor], Tensor]  # tokens (B, n, D) from draws (num_draws, B, n, D)


def make_solver(model: MARConfig, config: SamplingConfig) -> Solver:
    """The solver that the config names; ValueError where the model's head has another objective."""
    if config.solver not in SOLVERS[model.head_objective]:
        choices = ", ".join(SOLVERS[model.head_objective])
        raise ValueError(f"solver {config.solver!r} does not fit a {model.head_objective} head; valid: {choices}")
    steps, temperature = config.num_head_steps, config.temperature
    if config.solver in SOLVERS["flow"]:
        times = flow_times(steps)
        way = _heun if config.solver == "heun" else _euler
        scaled = tuple(time * FLOW_TIME_SCALE for time in times)
        return Solver(scaled, 1, lambda predict, noise: way(predict, noise[0] * temperature, times))
    schedule = cosine_schedule(model.diffusion_steps, steps)
    if config.solver == "ddim":
        return Solver(schedule.timesteps, 1, lambda predict, noise: _ddim(predict, noise[0] * temperature, schedule))
    return Solver(schedule.timesteps, steps + 1, lambda predict, noise: _ddpm(predict, noise, schedule, temperature))


def _ddpm(predict: Predict, noise: Tensor, schedule: Schedule, temperature: float) -> Tensor:
    """Learned-variance DDPM; noise[0] is the start, noise[1:] one draw a step, the last of them unused."""
    x = noise[0]
    for draw, step in zip(noise[1:], reversed(range(len(schedule))), strict=True):
        epsilon, position = predict(x, step).chunk(2, dim=-1)
        x = ddpm_step(x, epsilon, position, draw, schedule, step, temperature)
    return x


def _ddim(predict: Predict, x: Tensor, schedule: Schedule) -> Tensor:
    for step in reversed(range(len(schedule))):
        x = ddim_step(x, predict(x, step).chunk(2, dim=-1)[0], schedule, step)
    return x


def _euler(predict: Predict, x: Tensor, times: tuple[float, ...]) -> Tensor:
    for step in range(len(times) - 1):
        x = x + (times[step + 1] - times[step]) * predict(x, step)
    return x


def _heun(predict: Predict, x: Tensor, times: tuple[float, ...]) -> Tensor:
    """Heun's second-order steps: the slope is averaged over both ends of a step."""
    for step in range(len(times) - 1):
        length = times[step + 1] - times[step]
        slope = predict(x, step)
        x = x + length / 2 * (slope + predict(x + length * slope, step + 1))
    return x
