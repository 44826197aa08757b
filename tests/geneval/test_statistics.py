"""Intervals cover, contrasts pair, and nothing depends on the order of rows."""

import itertools
from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats

from geneval.statistics import NORMAL_95, compare, contrast, minimum_detectable_effect, summarize, summarize_runs


def _rows(correct, tag="task"):
    """(prompts, copies) of booleans as rows."""
    return [
        {"tag": tag, "metadata": f"{tag} {prompt}", "correct": bool(value)}
        for prompt, copies in enumerate(correct)
        for value in copies
    ]


def _correlated(rng, correlation, threshold=0.2, prompts=80, copies=4, shift=0.0):
    """Images whose correctness comes from a latent normal with this correlation inside a prompt."""
    shared, own = rng.normal(size=(prompts, 1)), rng.normal(size=(prompts, copies))
    return np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own + shift > threshold


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6])
def test_simulated_intervals_cover_as_often_as_they_say(correlation):
    """Three tasks of 80 prompts; 95 % of 600 runs is 570 +- 5 (standard error)."""
    rng = np.random.default_rng(5)
    thresholds = (-1.0, 0.2, 0.8)
    truth = np.mean([1 - NormalDist().cdf(t) for t in thresholds])
    hits = 0
    for run in range(600):
        rows = [r for t in thresholds for r in _rows(_correlated(rng, correlation, t), f"task {t}")]
        low, high = summarize(rows, resamples=400, seed=run)["overall"]["ci"]
        hits += low <= truth <= high
    assert 0.93 <= hits / 600 <= 0.97


def test_simulated_seeds_as_a_second_level_cover():
    """Three seeds whose models differ: an interval of one run's prompts would miss the seeds' scatter."""
    rng = np.random.default_rng(6)
    truth, hits = 1 - NormalDist().cdf(0.2 / np.sqrt(1.04)), 0
    for _ in range(300):
        runs = [_rows(_correlated(rng, 0.3, shift=rng.normal() * 0.2)) for _ in range(3)]
        low, high = summarize_runs(runs, resamples=200)["overall"]["ci"]
        hits += low <= truth <= high
    assert 0.9 <= hits / 300 <= 0.99


def test_values_are_means_of_task_means():
    rows = _rows([[1, 1], [1, 0]], "a") + _rows([[0, 0], [0, 1], [0, 0]], "b")
    found = summarize(rows)
    assert found["tasks"]["a"]["value"] == 0.75 and found["tasks"]["b"]["value"] == pytest.approx(1 / 6)
    assert found["overall"]["value"] == pytest.approx((0.75 + 1 / 6) / 2)
    assert (found["overall"]["n"], found["overall"]["clusters"]) == (10, 5)


def test_the_order_of_rows_does_not_matter():
    """Neither for intervals, nor for the p value of the randomization test; the last digit of a mean of tasks may."""
    rng = np.random.default_rng(0)
    rows, others = ([r for tag in "abc" for r in _rows(_correlated(rng, 0.3), tag)] for _ in range(2))
    shuffled = [rows[i] for i in rng.permutation(len(rows))]
    assert summarize(shuffled)["tasks"] == summarize(rows)["tasks"]
    mixed, ordered = contrast([shuffled], [others[::-1]]), contrast([rows], [others])
    assert mixed["p"] == ordered["p"]
    assert mixed["ci"] == pytest.approx(ordered["ci"], rel=1e-12)
    assert summarize(shuffled)["overall"]["ci"] == pytest.approx(summarize(rows)["overall"]["ci"], rel=1e-12)


def test_a_task_without_a_single_hit_has_an_upper_bound():
    """Zero of 20 prompts does not prove zero: the exact binomial bound."""
    found = summarize(_rows(np.zeros((20, 4))))["overall"]
    assert found["value"] == 0 and found["ci"] == [0, pytest.approx(1 - 0.025 ** (1 / 20))]
    assert summarize(_rows(np.ones((20, 4))))["overall"]["ci"] == [pytest.approx(0.025 ** (1 / 20)), 1]


def test_a_run_does_not_differ_from_itself():
    rows = _rows(_correlated(np.random.default_rng(1), 0.3))
    found = contrast([rows], [rows])
    assert found["value"] == 0 and found["ci"] == [0, 0] and found["p"] == 1


def test_pairing_on_prompts_narrows_the_interval():
    rng = np.random.default_rng(2)
    a = _correlated(rng, 0.0)
    b = a & (rng.random(a.shape) > 0.1)
    found = contrast([_rows(a)], [_rows(b)])
    own = summarize(_rows(a))["overall"]["ci"]
    assert found["value"] > 0 and found["p"] < 0.01
    assert found["ci"][0] > 0 and found["ci"][1] - found["ci"][0] < 0.7 * (own[1] - own[0])


def test_simulated_p_values_are_uniform_without_a_difference():
    rng = np.random.default_rng(3)
    p = [
        contrast(*([_rows(_correlated(rng, 0.3, prompts=40))] for _ in range(2)), resamples=200)["p"]
        for _ in range(300)
    ]
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.09


def test_compare_reports_every_task_and_overall():
    rows_a = _rows([[1, 1], [1, 1]], "a") + _rows([[1, 0], [0, 0]], "b")
    rows_b = _rows([[0, 0], [0, 1]], "a") + _rows([[1, 0], [0, 0]], "b")
    found = compare(rows_a, rows_b)
    assert found["tasks"]["a"]["value"] == 0.75 and found["tasks"]["b"]["value"] == 0
    assert found["overall"]["value"] == 0.375


def test_contrast_of_contrasts_is_the_interaction():
    ones, zeros, half = _rows(np.ones((9, 2))), _rows(np.zeros((9, 2))), _rows(np.tile([1, 0], (9, 1)))
    found = contrast([ones], [zeros], minus=([ones], [half]))
    assert found["value"] == pytest.approx(0.5) and found["seeds"] == [1, 1, 1, 1]


SHARES = np.array([0.0, 0.25, 0.25, 0.5, 0.75, 1.0])  # of six prompts


def _shares(shares, copies=4, tag="task"):
    return _rows([[copy < round(share * copies) for copy in range(copies)] for share in shares], tag)


def test_the_standard_error_of_few_prompts_is_that_of_their_mean():
    """Six prompts: without the correction for their number it would be 9 % lower."""
    a, b = _shares(SHARES), _shares(np.full(6, 0.25))
    found = contrast([a], [b], resamples=20_000)
    assert found["value"] == pytest.approx((SHARES - 0.25).mean())
    assert found["standard_error"] == pytest.approx(SHARES.std(ddof=1) / np.sqrt(6), rel=0.015)
    half = stats.t.ppf(0.975, 5) / stats.t.ppf(0.975, 1000)
    low, high = np.subtract(found["ci"], found["value"])
    draws = np.random.default_rng(0).choice(SHARES, (20_000, 6)).mean(1) - SHARES.mean()
    expected = np.percentile(draws * np.sqrt(6 / 5) * half, [2.5, 97.5])
    assert [low, high] == pytest.approx(list(expected), abs=0.03)
    assert found["detectable"] == minimum_detectable_effect(found["standard_error"], degrees=5)


def test_prompts_with_more_images_weigh_more_in_a_task():
    rows = _rows([[1, 1, 1, 1], [0, 0]])
    assert summarize(rows)["overall"]["value"] == pytest.approx(4 / 6)
    assert contrast([rows], [_rows([[0, 0, 0, 0], [0, 0]])])["value"] == pytest.approx(4 / 6)


def test_a_task_s_interval_does_not_depend_on_the_other_tasks():
    a, b = _shares(SHARES, tag="a"), _shares(SHARES, tag="b")
    assert summarize(a + b)["tasks"]["a"] == summarize(a)["tasks"]["a"]
    assert len({contrast([a], [_shares(SHARES[::-1], tag="a")], seed=seed)["standard_error"] for seed in (0, 1)}) == 2
    both = contrast([a + b], [_shares(SHARES[::-1], tag="a") + b], resamples=20_000)
    assert both["standard_error"] == pytest.approx(
        contrast([a], [_shares(SHARES[::-1], tag="a")], resamples=20_000)["standard_error"] / 2, rel=1e-12
    )


def test_the_randomization_test_counts_sign_flips_of_prompts():
    shares = np.array([0.75, 0.25, 0.0, 0.5, 0.25, 1.0, 0.0])
    others = np.array([0.25, 0.25, 0.25, 0.0, 0.25, 0.5, 0.25])
    difference = shares - others
    sums = [np.dot(signs, difference) for signs in itertools.product((-1, 1), repeat=7)]
    exact = np.mean(np.abs(sums) >= abs(difference.sum()) - 1e-9)
    found = contrast([_shares(shares)], [_shares(others)], resamples=40_000)
    assert 0.1 < exact < 0.5 and found["p"] == pytest.approx(exact, abs=0.01)
    one = contrast([_rows([[1]])], [_rows([[0]])], resamples=99)
    assert one["p"] == 1.0  # one prompt proves nothing, and p counts the data themselves
    many = contrast([_rows(np.ones((40, 1)))], [_rows(np.zeros((40, 1)))], resamples=99)
    assert many["p"] == pytest.approx(1 / 100)


def _uneven(seed, prompts=80):
    """Prompts of 1 to 9 images, so that resampled means take many values."""
    rng = np.random.default_rng(seed)
    return _rows([rng.random(int(rng.integers(1, 10))) < 0.6 for _ in range(prompts)])


def test_both_ends_of_an_interval_are_student_s():
    rows = _uneven(0)
    found, alone = contrast([rows], [_rows(np.zeros((80, 1)))], resamples=20_000), summarize(rows, resamples=20_000)
    for value, ci in ((found["value"], found["ci"]), (alone["overall"]["value"], alone["overall"]["ci"])):
        half = stats.t.ppf(0.975, 79) * found["standard_error"]
        assert np.subtract(ci, value) == pytest.approx([-half, half], rel=0.04)


def test_two_prompts_have_one_degree_of_freedom():
    found = contrast([_rows([[1] * 4, [1, 0, 0, 0]])], [_rows([[0] * 4] * 2)], resamples=20_000)
    assert found["standard_error"] == pytest.approx(np.std([1, 0.25], ddof=1) / np.sqrt(2), rel=0.015)
    assert found["detectable"] == minimum_detectable_effect(found["standard_error"], degrees=1)


def test_an_interaction_weighs_each_of_its_four_sides():
    a, b, c, d = ([_shares(np.full(4, share))] for share in (1.0, 0.25, 0.5, 0.25))
    found = contrast(a * 2, b * 2, minus=(c * 2, d * 2))
    assert found["value"] == pytest.approx((1.0 - 0.25) - (0.5 - 0.25)) and found["seeds"] == [2] * 4


def test_an_interval_ends_at_one():
    found = summarize(_rows([[1, 1], [1, 1], [0, 1]]))["overall"]
    assert found["value"] < 1 and found["ci"][1] == 1.0


def test_flips_are_of_the_sign_alone():
    ones, zeros = _rows(np.ones((12, 1))), _rows(np.zeros((12, 1)))
    assert contrast([ones], [zeros], resamples=20_000)["p"] == pytest.approx(2 / 2**12, abs=7e-4)


def test_prompts_weigh_alike_in_both_runs_whatever_their_number_of_images():
    four, two = _shares([1.0, 0.5] * 6), _shares([0.5, 1.0] * 6, copies=2)
    assert contrast([four], [two])["p"] == 1.0  # the differences cancel


def _constant(*shares):
    """A run for each share, all its prompts alike: nothing but the runs differs."""
    return [_shares(np.full(3, share)) for share in shares]


def test_seeds_alone_give_student_s_interval():
    found = contrast(_constant(0.5, 0.75, 1.0), _constant(0.5, 0.5, 0.5))
    error = 0.25 / np.sqrt(3)
    assert (found["value"], found["standard_error"]) == (pytest.approx(0.25), pytest.approx(error))
    half = stats.t.ppf(0.975, 2) * error
    assert found["ci"] == pytest.approx([0.25 - half, 0.25 + half], rel=2e-4)
    assert found["p"] == pytest.approx(2 * stats.t.sf(0.25 / error, 2), rel=1e-3)


def test_the_defaults_are_2000_resamples_of_seed_0():
    rows, zeros = _rows(_correlated(np.random.default_rng(0), 0.3)), _rows(np.zeros((80, 4)))
    assert summarize(rows) == summarize(rows, resamples=2000, seed=0) == summarize_runs([rows])
    assert contrast([rows], [zeros])["p"] == pytest.approx(1 / 2001)
    assert compare(rows, zeros) == compare(rows, zeros, resamples=2000, seed=0)
    uneven, other = _uneven(0), _uneven(0)[::-1]
    assert summarize(uneven) == summarize(uneven, resamples=2000) != summarize(uneven, resamples=2001)
    assert summarize_runs([uneven]) == summarize_runs([uneven], resamples=2000, seed=0)
    assert contrast([uneven], [other]) == contrast([uneven], [other], resamples=2000, seed=0)
    zeros = [{**row, "correct": False} for row in uneven]
    assert contrast([uneven], [zeros]) == contrast([uneven], [zeros], resamples=2000, seed=0)
    assert pytest.approx(stats.norm.ppf(0.975), abs=1e-6) == NORMAL_95


def test_equal_prompts_leave_no_interval_unless_all_or_none_are_correct():
    assert summarize(_rows(np.tile([1, 0], (9, 1))))["overall"]["ci"] == [0.5, 0.5]


def test_one_run_on_a_side_leaves_the_other_side_s_seeds():
    found = contrast(_constant(0.5, 0.75, 1.0), _constant(0.5))
    assert found["p"] == pytest.approx(2 * stats.t.sf(0.25 / (0.25 / np.sqrt(3)), 2), rel=1e-3)


def test_sides_of_unlike_sizes_are_welch_s():
    found = contrast(_constant(0.5, 0.75, 1.0), _constant(0.25, 0.5))
    parts = [(0.0625 / 3, 2), (0.03125 / 2, 1)]
    variance = sum(v for v, _ in parts)
    degrees = variance**2 / sum(v**2 / d for v, d in parts)
    assert found["standard_error"] == pytest.approx(np.sqrt(variance))
    assert found["p"] == pytest.approx(2 * stats.t.sf(0.375 / np.sqrt(variance), degrees), rel=1e-3)


def test_prompts_and_seeds_together_add_their_variances_and_degrees():
    shares = [SHARES, np.minimum(SHARES + 0.25, 1)]
    found = contrast([_shares(each) for each in shares], [_shares(np.zeros(6))] * 2, resamples=4000)
    means = [each.mean() for each in shares]
    of_seeds = np.var(means, ddof=1) / 2
    of_prompts = found["standard_error"] ** 2 - of_seeds
    assert of_prompts == pytest.approx(np.mean(shares, axis=0).var(ddof=1) / 6, rel=0.05)
    degrees = found["standard_error"] ** 4 / (of_prompts**2 / 5 + of_seeds**2)
    assert found["p"] == pytest.approx(2 * stats.t.sf(np.mean(means) / found["standard_error"], degrees), rel=1e-3)
    low, high = found["ci"]
    assert low < np.mean(means) < high
    plain = contrast([_shares(np.mean(shares, axis=0), copies=8)], [_shares(np.zeros(6), copies=8)], resamples=4000)
    widths = (high - low) / np.subtract(*plain["ci"][::-1])
    expected = stats.t.ppf(0.975, degrees) * found["standard_error"] / stats.t.ppf(0.975, 5) / plain["standard_error"]
    assert widths == pytest.approx(expected, rel=0.03)


def test_runs_that_agree_differ_by_nothing_or_surely():
    same, other = _constant(0.5, 0.5), _constant(0.25, 0.25)
    assert (contrast(same, same)["p"], contrast(same, other)["p"]) == (1.0, 0.0)


def test_more_seeds_count_as_a_second_level():
    rng = np.random.default_rng(4)
    runs_a = [_rows(_correlated(rng, 0.3, shift=0.8)) for _ in range(3)]
    runs_b = [_rows(_correlated(rng, 0.3)) for _ in range(3)]
    found = contrast(runs_a, runs_b)
    assert found["seeds"] == [3, 3] and found["n"] == 6 * 320 and found["clusters"] == 80
    assert found["ci"][0] > 0 and found["p"] < 0.05
    uneven = contrast(runs_a, runs_b[:2])
    assert uneven["seeds"] == [3, 2] and uneven["ci"][0] < uneven["value"] < uneven["ci"][1]


def test_where_filters_rows():
    rows = _rows([[1, 1], [0, 0]])
    found = contrast([rows], [_rows([[0, 0], [0, 0]])], where=lambda row: row["metadata"].endswith("0"))
    assert found["value"] == 1 and found["clusters"] == 1


def test_detectable_effect_is_what_a_test_of_80_percent_power_finds():
    for degrees in (1.0, 2.0, 4.5, 30.0, 1000.0):
        expected = 3 * (stats.t.ppf(0.975, degrees) + stats.norm.ppf(0.8))
        assert minimum_detectable_effect(3.0, degrees=degrees) == pytest.approx(expected, rel=2e-4)
    assert minimum_detectable_effect(1.0) == minimum_detectable_effect(1.0, degrees=1000.0)
    found = minimum_detectable_effect(1.0, power=0.9)
    assert found == pytest.approx(stats.t.ppf(0.975, 1000) + stats.norm.ppf(0.9), rel=2e-4)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda rows: contrast([rows], [rows], "colours"), "valid are overall, task"),
        (lambda rows: contrast([rows], [rows[4:]]), "run 2 has other prompts than run 1: 1 differ"),
        (lambda rows: contrast([], [rows]), "at least one run"),
        (lambda rows: summarize([]), "no rows"),
        (lambda rows: summarize_runs([rows, []]), "no rows"),
    ],
)
def test_wrong_calls_are_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call(_rows(np.ones((3, 4))))


def test_the_bound_of_a_share_of_one_is_each_tasks_own():
    """A task of 2 prompts is not made sure by another of 50: the mean of both exact bounds."""
    rows = [
        {"tag": tag, "metadata": f"{tag} {i}", "correct": True} for tag, n in (("a", 2), ("b", 50)) for i in range(n)
    ]
    found = summarize(rows)
    bounds = {tag: 1 - 0.025 ** (1 / n) for tag, n in (("a", 2), ("b", 50))}
    for tag, bound in bounds.items():
        assert found["tasks"][tag]["ci"] == pytest.approx([1 - bound, 1])
    assert found["overall"]["ci"] == pytest.approx([1 - sum(bounds.values()) / 2, 1])
    wrong = summarize([{**row, "correct": False} for row in rows])
    assert wrong["overall"]["ci"] == pytest.approx([0, sum(bounds.values()) / 2])
