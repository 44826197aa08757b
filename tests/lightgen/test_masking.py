import hashlib
import math
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from scipy import stats

from lightgen.model.config import MARConfig
from lightgen.model.masking import (
    Draws,
    draw,
    draws_of_numbers,
    host_generator,
    mask_layout,
    mask_ratios,
    masked_counts,
)

CONFIG = MARConfig(vae_channels=2, patch_size=1, noise_copies=3)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_mask_ratios_follow_the_truncated_normal():
    ratios = mask_ratios(CONFIG, torch.rand(4000, generator=generator(), dtype=torch.float64)).numpy()
    expected = stats.truncnorm((0.7 - 1) / 0.25, 0, loc=1, scale=0.25)
    assert stats.kstest(ratios, expected.cdf).pvalue > 0.01
    assert ratios.min() >= 0.7 and ratios.max() <= 1


def test_one_ratio_holds_for_the_batch_unless_asked_otherwise():
    shared = draw(CONFIG, 64, (8, 8), generator())
    assert len(set(shared.mask.sum(1).tolist())) == 1
    assert shared.masked_range == (int(shared.mask[0].sum()),) * 2
    own = draw(CONFIG, 64, (8, 8), generator(), per_image_ratio=True)
    counts = own.mask.sum(1)
    assert own.masked_range == (int(counts.min()), int(counts.max()))
    assert own.masked_range[0] < own.masked_range[1]


def test_every_position_is_masked_equally_often():
    masks = torch.cat([draw(CONFIG, 256, (4, 4), generator(seed)).mask for seed in range(20)]).float()
    share = masks.mean(0)
    deviation = math.sqrt(float(masks.mean() * (1 - masks.mean())) / len(masks))
    assert (share - masks.mean()).abs().max() < 4.5 * deviation


def test_draws_depend_on_the_generator_alone():
    first, again, other = (draw(CONFIG, 4, (4, 4), generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.noise, again.noise) and torch.equal(first.mask, again.mask)
    assert not torch.equal(first.noise, other.noise)
    assert draw(CONFIG, 2, (2, 3), generator()).mask.shape == (2, 6)
    assert draw(CONFIG, 4, (4, 4), generator(), noise_copies=5).noise.shape == (5, 4, 16, 2)
    assert first.timesteps.shape == (3, 4, 16) and first.noise.shape == (3, 4, 16, 2)


def test_a_generator_of_another_device_has_one_of_the_host_that_its_state_decides():
    of_the_host = generator()
    assert host_generator(of_the_host) is of_the_host
    states = [torch.arange(16, dtype=torch.uint8) + i for i in range(3)]
    found = [host_generator(SimpleNamespace(device=torch.device("cuda"), get_state=lambda s=s: s)) for s in states]
    digests = [hashlib.sha256(bytes(state.tolist())).digest() for state in states]
    assert [one.initial_seed() for one in found] == [int.from_bytes(digest[:8]) // 2 for digest in digests]


def test_repeated_draws_are_shared_by_winner_and_loser():
    draws = draw(CONFIG, 2, (4, 4), generator())
    pair = draws.repeat(2)
    assert torch.equal(pair.noise[:, :2], pair.noise[:, 2:]) and torch.equal(pair.mask[:2], draws.mask)
    assert torch.equal(pair.select(torch.tensor([3, 2])).timesteps, draws.timesteps.flip(1))


def test_flow_times_are_logit_normal_and_captions_drop_only_where_wanted():
    flow = MARConfig(vae_channels=2, patch_size=1, head_objective="flow", text_drop=0.5)
    draws = draw(flow, 64, (8, 8), generator())
    assert stats.kstest(torch.logit(draws.timesteps.double()).flatten().numpy(), "norm").pvalue > 0.01
    assert 0 < draws.text_dropped.sum() < 64
    assert not draw(flow, 64, (8, 8), generator(), drop_text=False).text_dropped.any()


@pytest.mark.parametrize(("num_tokens", "num_steps"), [(256, 64), (64, 64), (4, 4), (4, 3), (9, 1), (1, 1), (1024, 64)])
def test_every_generation_step_predicts_at_least_one_token(num_tokens, num_steps):
    counts = masked_counts(num_tokens, num_steps)
    assert counts[0] == num_tokens and counts[-1] == 0 and len(counts) == num_steps + 1
    assert all(before > after for before, after in pairwise(counts))
    for step in range(1, num_steps):
        planned = math.floor(num_tokens * math.cos(math.pi / 2 * step / num_steps))
        assert counts[step] <= planned or planned == 0


@pytest.mark.parametrize(
    "expected",
    [
        [16, 14, 11, 6, 0],
        [6, 5, 4, 3, 1, 0],  # the cosine alone would give 5, 4, 3, 1 too
        [10, 9, 8, 7, 6, 5, 3, 1, 0],  # and 9, 9, 8, 7, 5, 3, 1 here: one token a step at least
        [2, 1, 0],
    ],
)
def test_the_schedule_is_the_cosine_s_floor_with_one_token_a_step(expected):
    assert masked_counts(expected[0], len(expected) - 1) == expected


def test_a_layout_holds_both_kinds_of_tokens_in_order_and_fills_ragged_rows():
    mask = torch.tensor([[1, 0, 1, 1, 0], [0, 1, 0, 0, 0]]).bool()
    nothing = torch.zeros(1, 2, 5)
    layout = mask_layout(Draws.of(mask, nothing, nothing[..., None], torch.zeros(2, dtype=torch.bool)))
    assert layout.batch == 2 and layout.visible.shape == (2, 4) and layout.masked.shape == (2, 3)
    for row, visible, masked, visible_valid, masked_valid in zip(mask, *layout[1:], strict=True):
        assert visible[visible_valid].tolist() == (~row).nonzero().flatten().tolist()
        assert masked[masked_valid].tolist() == row.nonzero().flatten().tolist()
    even = mask_layout(Draws.of(mask[:1], nothing[:, :1], nothing[:, :1, :, None], torch.zeros(1, dtype=torch.bool)))
    assert (even.visible.tolist(), even.masked.tolist(), even.visible_valid) == ([[1, 4]], [[0, 2, 3]], None)


@pytest.mark.parametrize(("uniform", "count"), [(0.0, 1), (1.0, 10), (0.5, 6)])
def test_the_masked_share_is_rounded_up_to_one_token_at_least_and_all_at_most(uniform, count):
    config = replace(CONFIG, mask_minimum=0.05, mask_mean=0.5, mask_std=100.0)  # all but uniform
    noise, none = torch.zeros(1, 1, 10, 2), torch.zeros(1, dtype=torch.bool)
    order = torch.rand(1, 10, generator=generator())
    uniform = torch.tensor([uniform], dtype=torch.float64)
    draws = draws_of_numbers(config, uniform, order, noise[..., 0], noise, none)
    assert int(draws.mask.sum()) == count and draws.masked_range == (count, count)
    # the tokens whose ranks in the order come first
    assert draws.mask[0].tolist() == [rank < count for rank in order.argsort(1)[0].tolist()]


def test_the_range_of_given_masks_is_counted_and_kept_by_every_form():
    mask = torch.tensor([[1, 0, 0], [1, 1, 0]]).bool()
    draws = Draws.of(mask, torch.zeros(1, 2, 3), torch.zeros(1, 2, 3, 4), torch.tensor([True, False]))
    assert draws.masked_range == (1, 2) == draws.repeat(2).masked_range == draws.to("cpu").masked_range
    assert draws.repeat(2).text_dropped.tolist() == [True, False, True, False]


def draws_of_counts(num_tokens, *counts):
    """Draws of an image for each of these numbers of masked tokens."""
    mask = torch.arange(num_tokens) < torch.tensor(counts)[:, None]
    nothing = torch.zeros(1, *mask.shape)
    return Draws.of(mask, nothing, nothing[..., None], torch.zeros(len(counts), dtype=torch.bool))


@pytest.mark.parametrize(("num_tokens", "size"), [(5, 1), (16, 2), (20, 3), (72, 9)])
def test_counts_are_rounded_outward_to_eighths_of_the_tokens(num_tokens, size):
    for count in range(1, num_tokens + 1):
        begin, end = draws_of_counts(num_tokens, count, count).bucketed(CONFIG).masked_range
        assert begin < count <= end == min(num_tokens, begin + size) and begin % size == 0


@pytest.mark.parametrize(("minimum", "begin"), [(0.7, 12), (0.65, 12), (0.6, 9)])
def test_ragged_counts_are_rounded_to_all_that_the_config_allows(minimum, begin):
    config = replace(CONFIG, mask_minimum=minimum)  # at least 14, 13 and 12 of the 20 tokens; buckets of 3
    for counts in ((15, 18), (14, 20)):
        assert draws_of_counts(20, *counts).bucketed(config).masked_range == (begin, 20)


def test_more_steps_than_tokens_are_refused():
    with pytest.raises(ValueError, match="5 autoregressive steps for 4 tokens"):
        masked_counts(4, 5)
