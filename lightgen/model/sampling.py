"""The autoregressive loop: tokens are predicted in random order, a few each step, by the head given the trunk's z.

B images, N tokens, n predicted in a step, D token channels.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightgen.model.blocks import take
from lightgen.model.config import MARConfig, SamplingConfig
from lightgen.model.image_draws import GeneratorDraws, ImageDraws
from lightgen.model.mar import MAR
from lightgen.model.masking import masked_counts
from lightgen.model.solvers import Solver, make_solver
from lightgen.model.trunk import Prediction, Trunk

MOST_PROGRAMS = 64  # of a compiled head: one or two for each number of tokens that a step predicts


@contextmanager
def compiled_head(model: MAR) -> Iterator[None]:
    """Within the block the head's steps are compiled for each number of tokens, on CUDA as graphs that are launched at
    once: their many small operations take longer to launch than to compute where few images are made at a time."""
    run = torch.compile(model.head.modulated, mode="reduce-overhead", dynamic=False)

    def modulated(x: Tensor, modulations: Iterable[tuple[Tensor, ...]]) -> Tensor:
        return run(x, tuple(modulations)).clone()  # a graph's next launch writes over its output

    model.head.modulated = modulated  # type: ignore[method-assign]
    try:
        with torch._dynamo.config.patch(recompile_limit=MOST_PROGRAMS):
            yield
    finally:
        del model.head.modulated


class Parts(NamedTuple):
    """What a generation is computed by; `released.py` has others, which give the same images for the same draws."""

    trunk: Any = Trunk
    prediction: Any = Prediction
    make_solver: Callable[[MARConfig, SamplingConfig], Solver] = make_solver
    # The head's operations are small and many: what inference mode saves on each of them counts.
    unrecorded: Callable[[], AbstractContextManager] = torch.inference_mode


def generate_latents(
    model: MAR,
    text: Tensor,
    text_lengths: Tensor,
    grid: tuple[int, int],
    config: SamplingConfig,
    generators: Sequence[torch.Generator],
    *,
    parts: Parts = Parts(),  # noqa: B008
    start: Tensor | None = None,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Latents (B, C, H, W) for text features (B, L, text_channels) of true lengths (B,), one generator an image.

    `start`, latents (B, C, H, W) of standard normal numbers, is what the head begins with instead of the generators'
    first draws. `on_step(step, tokens)` is called after each autoregressive step with the tokens (B, N, D) so far.
    ValueError for more steps than tokens, and for a solver that does not fit the head.
    """
    if len(generators) != len(text):
        raise ValueError(f"{len(generators)} generators for {len(text)} images; give one for each image")
    draws = GeneratorDraws(generators, text.device)
    return generate_from_draws(
        model, text, text_lengths, grid, config, draws, parts=parts, start=start, on_step=on_step
    )


@torch.no_grad()
def generate_from_draws(
    model: MAR,
    text: Tensor,
    text_lengths: Tensor,
    grid: tuple[int, int],
    config: SamplingConfig,
    draws: ImageDraws,
    *,
    parts: Parts = Parts(),  # noqa: B008
    start: Tensor | None = None,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """As `generate_latents`, with the orders and every normal number from `draws`."""
    num_tokens, channels = grid[0] * grid[1], model.mar_config.token_dim
    solver = parts.make_solver(model.mar_config, config)
    counts = masked_counts(num_tokens, config.num_steps)
    was_training = model.training
    model.eval()  # dropout would make the two guidance halves disagree
    try:
        trunk = parts.trunk(model, text, text_lengths, grid, config.guidance_scale != 1)
        times = torch.tensor(solver.times, dtype=torch.float32).to(text.device, non_blocking=True)
        table = parts.prediction.table(model, times)
        begin = None if start is None else model.patchify(start.to(text.device, torch.float32))
        order = draws.orders(num_tokens)  # drawn in any case: what is drawn after it stays the same
        if config.order == "raster":
            order = torch.arange(num_tokens - 1, -1, -1, device=order.device).expand_as(order)
        tokens = torch.zeros(*order.shape, channels, device=text.device)
        for step, (now, after) in enumerate(itertools.pairwise(counts)):
            visible = order[:, now:].sort(1).values if now < num_tokens else None
            predicted = order[:, after:now].sort(1).values
            z = trunk(tokens, visible, predicted)
            noise = draws.normal(solver.num_draws, now - after, channels)
            if begin is not None:
                noise[0] = take(begin, predicted)
            predict = parts.prediction(model, z, table, guidance_at(config, after, num_tokens))
            with parts.unrecorded():
                new = solver.run(predict, noise)
            tokens = tokens.scatter(1, predicted[..., None].expand(-1, -1, channels), new)
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
