"""Precision, recall, density, coverage and Vendi score against brute force, closed forms and torch-fidelity."""

import numpy as np
import pytest

from benchmarks.quality import manifold
from benchmarks.quality.manifold import density_coverage, precision_recall, prompt_vendi, vendi


def features(num_samples, seed=0, shift=0.0):
    return np.random.default_rng(seed).normal(size=(num_samples, 6)) + shift


def test_identical_sets_are_precise_recalled_and_covered():
    a = features(50)
    assert precision_recall(a, a) == (1, 1)
    assert density_coverage(a, a).coverage == 1


def test_distant_sets_share_nothing():
    a, b = features(50), features(50, seed=1, shift=100)
    assert precision_recall(a, b) == (0, 0)
    assert density_coverage(a, b) == (0, 0)


def test_a_collapsed_generator_is_precise_and_does_not_recall():
    reference = features(200)
    collapsed = np.repeat(reference[:1], 50, 0) + 1e-3 * features(50, seed=2)
    precision, recall = precision_recall(collapsed, reference)
    assert precision == 1 and recall < 0.05
    density, coverage = density_coverage(collapsed, reference)
    assert density > 0.5 and coverage < 0.2


def test_equal_a_brute_force_over_all_pairs():
    generated, reference, k = features(40, shift=0.4), features(60, seed=1), 5
    across = np.linalg.norm(generated[:, None] - reference[None], axis=-1)
    radius = np.sort(np.linalg.norm(reference[:, None] - reference[None], axis=-1), axis=1)[:, k]
    inside = across < radius
    assert density_coverage(generated, reference, k=k) == pytest.approx(
        (inside.sum() / (k * 40), inside.any(0).mean()), rel=1e-12
    )


@pytest.mark.parametrize("rows", [2048, 13])
def test_precision_and_recall_equal_torch_fidelity(monkeypatch, rows):
    import torch
    from torch_fidelity.metric_prc import prc_features_to_metric

    monkeypatch.setattr(manifold, "_ROWS", rows)
    a, b = features(80, shift=0.5), features(70, seed=1)
    theirs = prc_features_to_metric(
        torch.from_numpy(a),
        torch.from_numpy(b),
        prc_neighborhood=3,
        prc_batch_size=50,
        save_cpu_ram=False,
        verbose=False,
    )
    # That library averages in float32.
    assert precision_recall(a, b) == pytest.approx((theirs["precision"], theirs["recall"]), abs=1e-6)


def test_an_offset_of_all_features_changes_nothing():
    a, b = features(50, shift=0.5), features(50, seed=1)
    assert precision_recall(a + 1e4, b + 1e4) == precision_recall(a, b)


def test_prompt_vendi_counts_the_distinct_samples_of_each_prompt():
    values = np.concatenate([np.repeat(np.eye(8)[:1], 4, 0), np.eye(8)[:4], np.repeat(np.eye(8)[:2], 2, 0)])
    prompts = [name for name in ("alike", "different", "pairs") for _ in range(4)]
    np.testing.assert_allclose(prompt_vendi(values, prompts, np.zeros(8)), [1, 4, 2])
    order = np.random.default_rng(0).permutation(12)[::-1]
    shuffled = prompt_vendi(values[order], [prompts[row] for row in order], np.zeros(8))
    np.testing.assert_allclose(np.sort(shuffled), [1, 2, 4])


def test_prompt_vendi_leaves_out_what_all_images_share():
    """A common part a hundred times as long hides every difference from the bare cosine."""
    common = np.zeros(8)
    common[7] = 100
    values, prompts = common + np.eye(8)[:4], ["a"] * 4
    assert vendi(values) == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(prompt_vendi(values, prompts, common), [4])


def test_a_model_that_always_draws_the_same_is_not_diverse():
    """Around the reference its noise counts for nothing; around its own mean it would be all there is."""
    generator = np.random.default_rng(0)
    values, prompts = 1 + 1e-3 * generator.normal(size=(40, 50)), [str(row // 4) for row in range(40)]
    assert prompt_vendi(values, prompts, np.zeros(50)).mean() == pytest.approx(1, abs=1e-3)
    assert prompt_vendi(values, prompts, values.mean(0)).mean() > 3.5


def test_vendi_counts_distinct_items():
    assert vendi(np.eye(7)) == pytest.approx(7)
    assert vendi(np.ones((7, 3))) == pytest.approx(1)
    assert vendi(np.repeat(np.eye(3), 5, 0)) == pytest.approx(3)
    # The two ways to the eigenvalues (items x items, dimensions x dimensions) agree.
    values = features(6)
    assert vendi(np.concatenate([values, values])) == pytest.approx(vendi(values), rel=1e-9)


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="3 neighbors need more than 3 images"):
        precision_recall(features(3), features(50))
    with pytest.raises(ValueError, match="NaN"):
        vendi(np.full((4, 2), np.nan))
