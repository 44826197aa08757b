import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lightgen.model.convert import our_name
from lightgen.model.diffusion import (
    add_noise,
    cosine_schedule,
    ddim_step,
    ddpm_step,
    flow_noised,
    flow_times,
    kept_timesteps,
    learned_range_loss,
)
from lightgen.model.head import Head, initialize

OFFICIAL = Path(__file__).parents[1] / "golden" / "lightgen_official"


def test_the_released_heads_loss_and_gradients_are_reproduced():
    settings, tensors = json.loads((OFFICIAL / "head.json").read_text()), load_file(OFFICIAL / "head.safetensors")
    recorded = {name.removeprefix("resized."): value for name, value in tensors.items()}
    channels = recorded["tokens"].shape[-1]
    head = Head(channels, 2 * channels, recorded["z"].shape[-1], settings["head_width"], settings["head_depth"])
    weights = {our_name(name): value for name, value in tensors.items() if name.startswith("diffloss.")}
    head.load_state_dict({name.removeprefix("head."): value for name, value in weights.items()})
    shape = (settings["mul"], *recorded["mask"].shape)
    timesteps, noise = recorded["timesteps"].view(shape), recorded["noise"].view(*shape, channels)
    clean = recorded["tokens"].expand_as(noise)
    prediction = head(add_noise(clean, noise, timesteps), timesteps, recorded["z"].expand(shape[0], -1, -1, -1))
    residual, variational = learned_range_loss(prediction, clean, noise, timesteps)
    squared = residual.square().mean(-1)
    mask = recorded["mask"].expand(shape)
    mse, bound = ((term * mask).sum() / mask.sum() for term in (squared, variational))
    torch.testing.assert_close(mse, recorded["mse"], rtol=2e-5, atol=0)
    torch.testing.assert_close(mse + bound, recorded["loss"], rtol=2e-5, atol=0)
    (mse + bound).backward()
    parameters = dict(head.named_parameters())
    for name, expected in settings["grad_norms"].items():
        gradient = parameters[our_name(name).removeprefix("head.")].grad
        assert float(gradient.norm()) == pytest.approx(expected, rel=1e-4), name


def test_the_cosine_schedule_is_the_published_one():
    schedule = cosine_schedule(1000)
    steps = np.arange(1, 1001) / 1000
    expected = np.cos((steps + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    np.testing.assert_allclose(schedule.alpha_bar[:-1], expected[:-1], rtol=1e-9)
    assert schedule.alpha_bar[-1] == pytest.approx(schedule.alpha_bar[-2] * 0.001)  # beta is capped at 0.999


def test_respacing_keeps_both_ends_and_the_signal_levels():
    kept = kept_timesteps(1000, 100)
    assert len(set(kept)) == 100 and kept[0] == 0 and kept[-1] == 999
    np.testing.assert_array_equal(cosine_schedule(1000, 100).alpha_bar, cosine_schedule(1000).alpha_bar[list(kept)])
    assert kept_timesteps(1000, 1) == (0,)
    with pytest.raises(ValueError, match="1001 head steps"):
        kept_timesteps(1000, 1001)


def perfect_epsilon(x, clean, schedule, step):
    signal = schedule.alpha_bar[step]
    return (x - math.sqrt(signal) * clean) / math.sqrt(1 - signal)


@pytest.mark.parametrize("solver", ["ddpm", "ddim"])
def test_a_perfect_head_leads_back_to_the_clean_token(solver):
    generator = torch.Generator().manual_seed(0)
    clean, x = (torch.randn(5, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    schedule = cosine_schedule(1000, 25)
    for step in reversed(range(25)):
        epsilon = perfect_epsilon(x, clean, schedule, step)
        noise = torch.randn(5, 8, generator=generator, dtype=torch.float64)
        if solver == "ddim":
            x = ddim_step(x, epsilon, schedule, step)
        else:
            x = ddpm_step(x, epsilon, torch.zeros_like(x), noise, schedule, step, 1.0)
    torch.testing.assert_close(x, clean, rtol=0, atol=1e-6)


def test_the_loss_vanishes_for_a_perfect_head_with_the_posterior_variance():
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(4, 8, generator=generator) for _ in range(2))
    timesteps = torch.tensor([1, 10, 500, 999])
    prediction = torch.cat([noise, torch.full_like(noise, -1.0)], -1)  # -1: the lower bound, the posterior's own
    residual, variational = learned_range_loss(prediction, clean, noise, timesteps)
    squared = residual.square().mean(-1)
    assert squared.abs().max() == 0
    assert variational.abs().max() < 1e-6


def test_the_bound_moves_the_variance_alone():
    prediction = torch.randn(6, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    clean, noise = torch.zeros(6, 4), torch.ones(6, 4)
    _, variational = learned_range_loss(prediction, clean, noise, torch.tensor([0, 0, 1, 300, 700, 999]))
    variational.sum().backward()
    assert not prediction.grad[:, :4].any() and prediction.grad[:, 4:].any()


def test_added_noise_keeps_unit_variance():
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(20000, 1, generator=generator) for _ in range(2))
    for timestep in (0, 400, 999):
        noisy = add_noise(clean, noise, torch.full((20000,), timestep))
        assert float(noisy.var()) == pytest.approx(1, abs=0.04)


def test_flow_runs_from_noise_to_data():
    assert flow_times(4) == (1.0, 0.75, 0.5, 0.25, 0.0)
    clean, noise = torch.zeros(2, 3), torch.ones(2, 3)
    torch.testing.assert_close(flow_noised(clean, noise, torch.tensor([0.25, 1.0])).mean(1), torch.tensor([0.25, 1.0]))


def test_a_fresh_head_is_the_zero_function():
    head = Head(4, 8, 16, 32, 2)
    initialize(head)
    assert not head(torch.randn(3, 4), torch.tensor([0, 5, 999]), torch.randn(3, 16)).any()
