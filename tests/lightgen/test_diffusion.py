import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from lightgen.model.diffusion import (
    add_noise,
    cosine_schedule,
    ddim_step,
    ddpm_step,
    discretized_log_likelihood,
    flow_noised,
    flow_times,
    kept_timesteps,
    learned_range_loss,
)
from lightgen.model.head import Head, initialize

OFFICIAL = Path(__file__).parents[1] / "golden" / "lightgen_official"


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
    assert kept_timesteps(1000, 1) == (0,) and kept_timesteps(1000, 2) == (0, 999)
    assert kept_timesteps(1000, 7) == (0, 166, 333, 500, 666, 832, 999)  # halves go to the even number
    assert kept_timesteps(5, 5) == (0, 1, 2, 3, 4) == cosine_schedule(5).timesteps
    assert len(cosine_schedule()) == 1000
    with pytest.raises(ValueError, match="1001 head steps"):
        kept_timesteps(1000, 1001)


@pytest.mark.parametrize(("step", "temperature"), [(24, 1.0), (7, 0.5), (1, 2.0), (0, 1.0)])
def test_a_ddpm_step_has_the_posterior_s_mean_and_the_learned_deviation(step, temperature):
    """From the definitions: the clean token that epsilon stands for, its posterior, and a variance between two bounds.

    Whole generations hardly show the deviation: next to a random network's means it is small.
    """
    schedule = cosine_schedule(1000, 25)
    x, epsilon, position, noise = torch.randn(4, 5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    now, before = schedule.alpha_bar[step], schedule.alpha_bar[step - 1] if step else 1.0
    beta = 1 - now / before
    clean = (x - math.sqrt(1 - now) * epsilon) / math.sqrt(now)
    mean = (math.sqrt(before) * beta * clean + math.sqrt(1 - beta) * (1 - before) * x) / (1 - now)
    low, high = beta * (1 - before) / (1 - now), beta
    share = (position + 1) / 2
    deviation = torch.sqrt(high**share * low ** (1 - share)) if step else 0.0
    found = ddpm_step(x, epsilon, position, noise, schedule, step, temperature)
    torch.testing.assert_close(found, mean + temperature * deviation * noise, rtol=1e-9, atol=1e-12)


def test_a_single_step_schedule_has_its_beta_for_a_variance():
    schedule = cosine_schedule(1000, 1)
    assert schedule.log_variance_low == schedule.log_variance_high == pytest.approx(math.log(1 - schedule.alpha_bar[0]))
    whole = cosine_schedule(1000)
    assert whole.log_variance_low[0] == whole.log_variance_low[1] < whole.log_variance_high[1]
    two = cosine_schedule(1000, 2)
    assert two.log_variance_low[0] == two.log_variance_low[1]


@pytest.mark.parametrize("position", [-1.0, 0.0, 1.0, 0.3])
def test_the_bound_is_the_divergence_of_two_gaussians(position):
    """In bits, averaged over channels, by the two distributions themselves."""
    timesteps, schedule = torch.tensor([1, 40, 700, 999]), cosine_schedule(1000)
    clean, noise, wrong = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0))
    prediction = torch.cat([noise + wrong, torch.full_like(noise, position)], -1)
    _, found = learned_range_loss(prediction, clean, noise, timesteps)
    for row, step in enumerate(timesteps.tolist()):
        low, high = schedule.log_variance_low[step], schedule.log_variance_high[step]
        log_variance = low + (high - low) * (position + 1) / 2
        posterior = torch.distributions.Normal(0.0, torch.tensor(math.exp(low / 2), dtype=torch.float64))
        shift = schedule.noise_scale[step] * wrong[row].double()
        predicted = torch.distributions.Normal(shift, math.exp(log_variance / 2))
        expected = torch.distributions.kl_divergence(posterior, predicted).mean() / math.log(2)
        assert found[row].item() == pytest.approx(expected.item(), rel=1e-3, abs=1e-6)


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


@pytest.mark.parametrize("step", [24, 7, 1, 0])
def test_a_ddim_step_keeps_token_and_noise_and_takes_the_next_level(step):
    schedule = cosine_schedule(1000, 25)
    clean, epsilon = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    now, before = schedule.alpha_bar[step], schedule.alpha_bar[step - 1] if step else 1.0
    x, expected = (math.sqrt(level) * clean + math.sqrt(1 - level) * epsilon for level in (now, before))
    torch.testing.assert_close(ddim_step(x, epsilon, schedule, step), expected, rtol=1e-9, atol=1e-12)


def test_the_loss_vanishes_for_a_perfect_head_with_the_posterior_variance():
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(4, 8, generator=generator) for _ in range(2))
    timesteps = torch.tensor([1, 10, 500, 999])
    prediction = torch.cat([noise, torch.full_like(noise, -1.0)], -1)  # -1: the lower bound, the posterior's own
    residual, variational = learned_range_loss(prediction, clean, noise, timesteps)
    squared = residual.square().mean(-1)
    assert squared.abs().max() == 0
    assert variational.abs().max() < 1e-6


END_BINS_AND_INTERIOR = torch.tensor([-2.5, -1.0, -0.9991, -0.9989, -0.4, 0.0, 0.3, 0.9989, 0.9991, 1.0, 2.5])


def bin_probability(x, mean, deviation):
    """Of x's bin, from the normal distribution itself; all float64 arrays."""
    low, high = (stats.norm.cdf((x + side / 255 - mean) / deviation) for side in (-1, 1))
    return np.where(x < -0.999, high, np.where(x > 0.999, 1 - low, high - low))


@pytest.mark.parametrize("deviation", [0.004, 0.02, 0.5])
@pytest.mark.parametrize("offset", [-0.012, -0.003, 0.0, 0.003, 0.012])
def test_the_likelihood_is_the_normal_distributions(offset, deviation):
    x = END_BINS_AND_INTERIOR.double()
    centered, log_scale = torch.full_like(x, offset), torch.full_like(x, math.log(deviation))
    found = discretized_log_likelihood(x, centered, log_scale).exp()
    expected = bin_probability(x.numpy(), (x - offset).numpy(), deviation)
    # The released tanh form of the distribution function is within 3.2e-4 of it.
    np.testing.assert_allclose(found, expected, rtol=0, atol=6.4e-4)


def test_a_bin_out_of_reach_has_the_least_probability():
    found = discretized_log_likelihood(torch.zeros(1), torch.ones(1), torch.tensor([math.log(1e-3)]))
    assert found.item() == pytest.approx(math.log(1e-12))


def test_only_what_lies_beyond_the_last_edge_is_in_an_open_bin():
    x = torch.tensor([-0.999, 0.999], dtype=torch.float64)
    found = discretized_log_likelihood(x, torch.zeros_like(x), torch.full_like(x, math.log(0.02))).exp()
    width = 2 * stats.norm.cdf(1 / 255 / 0.02) - 1
    np.testing.assert_allclose(found, [width, width], rtol=0, atol=6.4e-4)


def test_a_device_is_not_asked_which_tokens_are_at_the_last_step():
    """A device without values: reading one would fail."""
    with torch.device("meta"):
        prediction, clean, noise = torch.empty(2, 3, 5, 8), torch.empty(2, 3, 5, 4), torch.empty(2, 3, 5, 4)
        timesteps = torch.zeros(2, 3, 5, dtype=torch.long)
    residual, variational = learned_range_loss(prediction, clean, noise, timesteps)
    assert (residual.shape, variational.shape) == ((2, 3, 5, 4), (2, 3, 5))


@pytest.mark.parametrize("position", [-1.0, 0.5])
@pytest.mark.parametrize("epsilon_error", [-1.5, 0.4])
def test_the_last_step_is_scored_by_the_likelihood_of_the_clean_token(epsilon_error, position):
    """From the mean that sampling takes at step 0: the sign of its error counts in the open end bins."""
    clean = END_BINS_AND_INTERIOR[:, None]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    prediction = torch.cat([noise + epsilon_error, torch.full_like(noise, position)], -1)
    last = torch.zeros(len(clean), dtype=torch.long)
    residual, variational = learned_range_loss(prediction, clean, noise, last)
    torch.testing.assert_close(residual, torch.full_like(noise, epsilon_error))
    schedule, noisy = cosine_schedule(1000), add_noise(clean, noise, last)
    mean = ddpm_step(noisy.double(), prediction[:, :1].double(), noise, noise, schedule, 0, 1.0).numpy()[:, 0]
    low, high = schedule.log_variance_low[0], schedule.log_variance_high[0]
    deviation = math.exp((low + (high - low) * (position + 1) / 2) / 2)
    expected = bin_probability(clean.double().numpy()[:, 0], mean, deviation)
    np.testing.assert_allclose(0.5**variational, expected, rtol=0, atol=1e-3)


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
    assert flow_times(4) == (1.0, 0.75, 0.5, 0.25, 0.0) and flow_times(1) == (1.0, 0.0)
    with pytest.raises(ValueError, match="0 head steps"):
        flow_times(0)
    clean, noise = torch.zeros(2, 3), torch.ones(2, 3)
    torch.testing.assert_close(flow_noised(clean, noise, torch.tensor([0.25, 1.0])).mean(1), torch.tensor([0.25, 1.0]))
    times = torch.rand(2, 3)  # one for each token of each image
    expected = times[..., None].expand(2, 3, 4)
    torch.testing.assert_close(flow_noised(torch.zeros(2, 3, 4), torch.ones(2, 3, 4), times), expected)


def test_a_fresh_head_is_the_zero_function():
    head = Head(4, 8, 16, 32, 2)
    initialize(head)
    assert not head(torch.randn(3, 4), torch.tensor([0, 5, 999]), torch.randn(3, 16)).any()
    with pytest.raises(ValueError, match="shorter"):
        head.modulated(torch.randn(3, 4), list(head.modulations(torch.randn(3, 32)))[:-1])
