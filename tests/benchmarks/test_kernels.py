"""KID and CMMD against direct sums, repeats, and the field's libraries."""

import numpy as np
import pytest

from benchmarks.quality import kernels
from benchmarks.quality.kernels import cmmd, kid


def features(num_samples, dimensions=16, seed=0, shift=0.0):
    return np.random.default_rng(seed).normal(size=(num_samples, dimensions)) + shift


def direct_kid(a, b):
    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3

    m, n = len(a), len(b)
    within_a = (kernel(a, a).sum() - np.trace(kernel(a, a))) / (m * (m - 1))
    within_b = (kernel(b, b).sum() - np.trace(kernel(b, b))) / (n * (n - 1))
    return within_a + within_b - 2 * kernel(a, b).mean()


def test_value_and_error_equal_the_direct_sums():
    a, b = features(30), features(20, seed=1, shift=0.3)
    value, stderr = kid(a, b)
    assert value == pytest.approx(direct_kid(a, b), rel=1e-12)
    without_a = [direct_kid(np.delete(a, i, 0), b) for i in range(30)]
    without_b = [direct_kid(a, np.delete(b, j, 0)) for j in range(20)]
    assert stderr == pytest.approx(np.sqrt(29 * np.var(without_a) + 19 * np.var(without_b)), rel=1e-10)


def kid_between(a, b, ours, theirs):
    """KID by its definition over pairs of different prompts."""

    def mean(x, y, p, q):
        kernel, differ = (x @ y.T / x.shape[1] + 1) ** 3, np.asarray(p)[:, None] != np.asarray(q)[None]
        return kernel[differ].sum() / differ.sum()

    return mean(a, a, ours, ours) + mean(b, b, theirs, theirs) - 2 * mean(a, b, ours, theirs)


def test_pairs_of_one_prompt_are_left_out_of_all_three_means():
    a, b = features(30), features(20, seed=1, shift=0.3)
    ours, theirs = np.arange(30) // 3, np.arange(20) // 2
    same = kid(a, b, clusters_a=ours.tolist(), clusters_b=theirs.tolist())
    assert same.value == pytest.approx(kid_between(a, b, ours, theirs), rel=1e-10)
    keep = [(ours != c, theirs != c) for c in range(10)]
    together = [kid_between(a[i], b[j], ours[i], theirs[j]) for i, j in keep]
    assert same.stderr == pytest.approx(np.sqrt(9 * np.var(together)), rel=1e-10)


def test_prompts_that_only_one_side_has_are_left_out_there():
    a, b = features(30), features(20, seed=1, shift=0.3)
    ours, alone = np.arange(30) // 3, np.arange(20) + 100
    apart = kid(a, b, clusters_a=ours.tolist())
    assert apart.value == pytest.approx(kid_between(a, b, ours, alone), rel=1e-10)
    expected = 9 * np.var([kid_between(a[ours != c], b, ours[ours != c], alone) for c in range(10)])
    expected += 19 * np.var([kid_between(a, np.delete(b, j, 0), ours, np.delete(alone, j)) for j in range(20)])
    assert apart.stderr == pytest.approx(np.sqrt(expected), rel=1e-10)
    half = np.arange(20) // 2 + 5  # five prompts in common, five of each side alone
    some = kid(a, b, clusters_a=ours.tolist(), clusters_b=half.tolist())
    assert some.value == pytest.approx(kid_between(a, b, ours, half), rel=1e-10)
    with pytest.raises(ValueError, match="2 prompts or more"):
        kid(a, b, clusters_a=["x"] * 30)


def test_a_perfect_model_scores_zero_where_prompts_repeat():
    """Images scatter around their prompt's place, which both sides share: 0 is right; pairs of one prompt hide it."""
    found, plain = [], []
    for seed in range(60):
        places = np.repeat(features(8, seed=seed), 4, axis=0)
        a, b = (places + 0.5 * features(32, seed=seed + shift) for shift in (1000, 2000))
        prompts = np.repeat(range(8), 4).tolist()
        found.append(kid(a, b, clusters_a=prompts, clusters_b=prompts).value)
        plain.append(kid(a, b).value)
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found)) < 3 * error
    assert np.mean(plain) < -5 * np.std(plain) / np.sqrt(len(plain))


@pytest.mark.slow
def test_the_teachers_own_pictures_score_zero():
    """The icon world's teacher against itself, the same prompts drawn from other seeds."""
    from ablations.icons.teacher import IconTeacher
    from ablations.icons.world import WORLDS
    from benchmarks.quality.extractors import load_extractor
    from geneval.prompts import prompt_suite

    world, network = WORLDS["cpu"], load_extractor("icon-clip", device="cpu")
    texts = [p.prompt for p in prompt_suite(world.classes, colors=world.colors, num_prompts=6)][:24] * 4
    teacher = IconTeacher(world)
    sides = [teacher(texts, range(start, start + len(texts))) for start in (0, 10_000)]
    a, b = (network([network.prepare(picture) for picture in side]) for side in sides)
    found = kid(a, b, clusters_a=texts, clusters_b=texts)
    assert abs(found.value) < 3 * found.stderr < 0.3
    assert kid(a, b).value < -0.05


def test_clusters_of_one_image_change_nothing():
    a, b = features(15), features(12, seed=1)
    assert kid(a, b, clusters_a=range(15)).stderr == pytest.approx(kid(a, b).stderr, rel=1e-10)
    with pytest.raises(ValueError, match="3 prompts were given for 15"):
        kid(a, b, clusters_a=["x", "y", "z"])


def test_images_of_one_prompt_widen_the_error_as_repeats_show():
    def repeat(seed):
        prompts = np.repeat(features(20, seed=seed), 4, axis=0)
        return kid(
            prompts + 0.1 * features(80, seed=seed + 10_000),
            features(80, seed=seed + 20_000, shift=0.4),
            clusters_a=np.repeat(range(20), 4),
        )

    repeats = [repeat(seed) for seed in range(100)]
    spread = np.std([value for value, _ in repeats])
    assert np.mean([stderr for _, stderr in repeats]) == pytest.approx(spread, rel=0.3)


def test_blocks_of_rows_do_not_change_it(monkeypatch):
    a, b = features(100), features(70, seed=1)
    whole = kid(a, b), cmmd(a, b)
    monkeypatch.setattr(kernels, "_ROWS", 17)
    np.testing.assert_allclose(kid(a, b), whole[0], rtol=1e-10)
    assert cmmd(a, b) == pytest.approx(whole[1], rel=1e-9)


def test_samples_of_one_distribution_average_to_zero():
    values = np.array([kid(features(60, seed=2 * i), features(60, seed=2 * i + 1)).value for i in range(200)])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))


def test_standard_error_matches_the_spread_over_repeats():
    repeats = [kid(features(80, seed=2 * i, shift=0.4), features(80, seed=2 * i + 1)) for i in range(150)]
    spread = np.std([value for value, _ in repeats])
    assert np.mean([stderr for _, stderr in repeats]) == pytest.approx(spread, rel=0.25)


def test_subsets_equal_torch_fidelity():
    import torch
    from torch_fidelity.metric_kid import kid_features_to_metric

    a, b = features(120), features(100, seed=1, shift=0.2)
    generator = np.random.RandomState(2020)
    ours = [kid(*(x[generator.choice(len(x), 40, replace=False)] for x in (a, b))).value for _ in range(10)]
    theirs = kid_features_to_metric(
        torch.from_numpy(a), torch.from_numpy(b), kid_subsets=10, kid_subset_size=40, rng_seed=2020, verbose=False
    )
    assert np.mean(ours) == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-10)
    assert np.std(ours) == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-10)


def test_whole_set_equals_torchmetrics():
    import torch
    from torchmetrics.image.kid import poly_mmd

    a, b = features(60), features(60, seed=1, shift=0.2)
    assert kid(a, b).value == pytest.approx(float(poly_mmd(torch.from_numpy(a), torch.from_numpy(b))), rel=1e-10)


def test_cmmd_is_zero_on_itself_and_unbiased_around_zero():
    a = features(50)
    assert cmmd(a, a) == pytest.approx(0, abs=1e-10)
    values = np.array([cmmd(features(40, seed=i), features(40, seed=999 + i), biased=False) for i in range(100)])
    assert abs(values.mean()) < 3 * values.std() / 10
    assert cmmd(features(40), features(40, seed=1)) > 0


def test_cmmd_equals_the_direct_sums():
    a, b = features(40), features(30, seed=1, shift=0.5)
    x, y = (values / np.linalg.norm(values, axis=1, keepdims=True) for values in (a, b))

    def mean(first, second):
        return np.exp(-((first[:, None] - second[None]) ** 2).sum(2) / 200).mean()

    assert cmmd(a, b) == pytest.approx(1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y)), rel=1e-9)
    pairs = [(len(v) ** 2 * mean(v, v) - len(v)) / (len(v) * (len(v) - 1)) for v in (x, y)]  # of two images
    assert cmmd(a, b, biased=False) == pytest.approx(1000 * (sum(pairs) - 2 * mean(x, y)), rel=1e-9)


def test_cmmd_ignores_the_length_of_features():
    a, b = features(40), features(40, seed=1, shift=0.5)
    assert cmmd(3 * a, b) == pytest.approx(cmmd(a, b), rel=1e-9)


def test_bad_input_is_refused():
    a = features(10)
    with pytest.raises(ValueError, match="at least 2 images"):
        kid(a[:1], a)
    with pytest.raises(ValueError, match="different extractors"):
        kid(a, a[:, :3])
    for pair in ((a, np.where(a == a.max(), np.nan, a)), (np.where(a == a.min(), np.inf, a), a)):
        with pytest.raises(ValueError, match="NaN"):
            kid(*pair)


def test_an_error_needs_two_images_that_are_left_on_each_side():
    a, b = features(3), features(3, seed=1)
    without = (
        [direct_kid(np.delete(a, i, 0), b) for i in range(3)],
        [direct_kid(a, np.delete(b, i, 0)) for i in range(3)],
    )
    assert kid(a, b).stderr == pytest.approx(np.sqrt(2 * np.var(without[0]) + 2 * np.var(without[1])), rel=1e-9)
    assert kid(a, b, clusters_a=range(3)).stderr == pytest.approx(kid(a, b).stderr, rel=1e-9)
    for first, second in ((a[:2], b), (a, b[:2])):
        assert np.isnan(kid(first, second).stderr) and np.isfinite(kid(first, second).value)
        assert np.isnan(kid(first, second, clusters_a=range(len(first))).stderr)


def test_no_pairs_have_no_distance_whatever_rounding_left_of_their_sum():
    for empty in range(3):
        numbers = [0 if side == empty else 6 for side in range(3)]
        assert np.isnan(kernels._mean_of_pairs(kernels._Pairs(1e-12, 1e-12, 1e-12, *numbers)))
