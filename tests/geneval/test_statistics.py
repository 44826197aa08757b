"""Intervals cover, contrasts pair, and nothing depends on the order of rows."""

from statistics import NormalDist

import numpy as np
import pytest

from geneval.statistics import compare, contrast, minimum_detectable_effect, summarize, summarize_runs


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
def test_intervals_cover_as_often_as_they_say(correlation):
    """Three tasks of 80 prompts; 95 % of 600 runs is 570 +- 5 (standard error)."""
    rng = np.random.default_rng(5)
    thresholds = (-1.0, 0.2, 0.8)
    truth = np.mean([1 - NormalDist().cdf(t) for t in thresholds])
    hits = 0
    for run in range(600):
        rows = [r for t in thresholds for r in _rows(_correlated(rng, correlation, t), f"task {t}")]
        low, high = summarize(rows, resamples=200, seed=run)["overall"]["ci"]
        hits += low <= truth <= high
    assert 0.93 <= hits / 600 <= 0.97


def test_seeds_as_a_second_level_cover():
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
    assert summarize(_rows(np.ones((20, 4))))["overall"]["ci"][1] == 1


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


def test_p_values_are_uniform_without_a_difference():
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
    assert minimum_detectable_effect(1.0) == pytest.approx(1.96 + 0.8416, abs=0.01)
    assert minimum_detectable_effect(1.0, degrees=4) > minimum_detectable_effect(1.0)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda rows: contrast([rows], [rows], "colours"), "valid are overall, task"),
        (lambda rows: contrast([rows], [rows[4:]]), "other prompts"),
        (lambda rows: contrast([], [rows]), "at least one run"),
        (lambda rows: summarize([]), "no rows"),
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
