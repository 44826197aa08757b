"""FID against closed forms and the field's libraries, on the same features."""

import warnings

import numpy as np
import pytest

from benchmarks.quality.frechet import RankDeficientWarning, fid, fid_infinity, frechet_distance
from benchmarks.quality.moments import Moments, Statistics, load_statistics, save_statistics


def features(num_samples, dimensions, seed=0, shift=0.0):
    """Non-negative features with a decaying spectrum, as a network's last layer gives."""
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(dimensions, dimensions)) * np.arange(1, dimensions + 1) ** -0.5
    return np.maximum(generator.normal(size=(num_samples, dimensions)) @ mixing.T / 4 + 0.2 + shift, 0)


def test_two_gaussians_follow_the_closed_form():
    # With A = diag(a) and B = diag(b), the distance is |m|^2 + sum (sqrt a - sqrt b)^2.
    a, b, mean = np.array([1.0, 4.0, 9.0]), np.array([4.0, 4.0, 1.0]), np.array([1.0, -2.0, 0.5])
    expected = mean @ mean + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert frechet_distance(mean, np.diag(a), np.zeros(3), np.diag(b)) == pytest.approx(expected, rel=1e-14)


def test_rotation_leaves_the_distance():
    a, b = features(300, 16), features(300, 16, seed=1, shift=0.1)
    rotation, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(16, 16)))
    assert fid(a @ rotation, b @ rotation) == pytest.approx(fid(a, b), rel=1e-10)


def test_distance_is_symmetric_and_zero_on_itself():
    a, b = features(300, 16), features(300, 16, seed=1)
    assert fid(a, b) == pytest.approx(fid(b, a), rel=1e-10)
    assert fid(a, a) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("num_samples", [2000, 40])
def test_agrees_with_a_float64_reference_and_the_libraries(num_samples):
    import torch
    from scipy.linalg import eigvals
    from torch_fidelity.metric_fid import fid_statistics_to_metric
    from torchmetrics.image.fid import _compute_fid

    a, b = features(num_samples, 64), features(num_samples, 64, seed=1, shift=0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RankDeficientWarning)
        ours = fid(a, b)
    means, covariances = [a.mean(0), b.mean(0)], [np.cov(a, rowvar=False), np.cov(b, rowvar=False)]
    roots = np.sqrt(eigvals(covariances[0] @ covariances[1]).astype(complex)).real.sum()
    reference = ((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0] + covariances[1]) - 2 * roots
    assert ours == pytest.approx(reference, rel=1e-6)
    statistics = [{"mu": mean, "sigma": covariance} for mean, covariance in zip(means, covariances)]
    fidelity = fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"]
    assert ours == pytest.approx(fidelity, rel=1e-6)
    tensors = [torch.from_numpy(array) for pair in zip(means, covariances) for array in pair]
    assert ours == pytest.approx(float(_compute_fid(*tensors)), rel=1e-6)


def test_agrees_with_torchmetrics_own_interface():
    """torchmetrics accumulates by itself and returns float32, hence the wider tolerance."""
    import torch
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Identity(torch.nn.Module):
        num_features = 32

        def forward(self, x):
            return x

    a, b = features(500, 32).astype(np.float32), features(500, 32, seed=1, shift=0.1).astype(np.float32)
    metric = FrechetInceptionDistance(feature=Identity())
    metric.update(torch.from_numpy(a), real=True)
    metric.update(torch.from_numpy(b), real=False)
    assert fid(a, b) == pytest.approx(float(metric.compute()), rel=1e-4)


def test_fewer_samples_than_dimensions_warn_and_stay_finite():
    with pytest.warns(RankDeficientWarning, match="N = 20") as told:
        value = fid(features(20, 64), features(20, 64, seed=1))
    assert np.isfinite(value) and value > 0
    assert {warning.filename for warning in told} == {__file__}  # the line that asked is what a reader is shown
    with pytest.warns(RankDeficientWarning, match="N = 64"):  # a mean is taken off: 64 images span 63 dimensions
        fid(features(64, 64), features(500, 64, seed=1))


def test_extrapolation_undoes_the_bias_of_small_sets():
    reference = Statistics.of(features(20_000, 24, seed=7))
    generated = features(600, 24, seed=8)
    limit = fid_infinity(generated, reference)
    assert limit.distances[0] > limit.distances[-1]
    assert abs(limit.value) < 0.2 * fid(generated, reference)
    assert limit.sizes[-1] == 600 and len(limit.sizes) == 8


def test_extrapolation_is_a_least_squares_line_through_subsets():
    from scipy.stats import linregress

    reference, generated = Statistics.of(features(500, 4, seed=7)), features(60, 4, seed=8)
    found = fid_infinity(generated, reference)
    assert found == fid_infinity(generated, reference, num_sizes=8, smallest=12, repeats=4, seed=0)
    assert found.sizes == [12, 14, 16, 18, 22, 28, 38, 60]  # evenly in 1 / N
    generator = np.random.default_rng(0)
    subsets = [[generated[generator.permutation(60)[:size]] for _ in range(4)] for size in found.sizes[:-1]]
    expected = [np.mean([fid(subset, reference) for subset in drawn]) for drawn in subsets] + [
        fid(generated, reference)
    ]
    assert found.distances == pytest.approx(expected, rel=1e-9)
    line = linregress(1 / np.array(found.sizes), expected)
    assert found.value == pytest.approx(line.intercept, rel=1e-7)
    assert found.stderr == pytest.approx(line.intercept_stderr, rel=1e-7)


def test_the_smallest_sets_that_can_be_extrapolated():
    reference = Statistics.of(features(50, 2))
    for smallest in (2, 3):
        assert fid_infinity(features(20, 2), reference, smallest=smallest).sizes[0] == smallest
    for count, smallest in ((19, 5), (30, 1), (30, 30)):
        with pytest.raises(ValueError, match=f"from {smallest} to {count} images"):
            fid_infinity(features(count, 2), reference, smallest=smallest)


@pytest.mark.parametrize("place", range(4))
def test_one_number_that_is_none_is_refused(place):
    arrays = [np.zeros(3), np.eye(3), np.zeros(3), np.eye(3)]
    arrays[place].flat[1] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        frechet_distance(*arrays)


def test_streamed_moments_equal_the_whole_even_far_from_zero():
    values = features(500, 8) + 1e6
    moments = Moments()
    for batch in np.array_split(values, 7):
        moments.update(batch)
    streamed = moments.statistics()
    np.testing.assert_allclose(streamed.mean, values.mean(0), rtol=1e-14)
    np.testing.assert_allclose(streamed.covariance, np.cov(values, rowvar=False), rtol=1e-7)


def test_statistics_are_saved_and_other_tools_files_read(tmp_path):
    statistics = Statistics.of(features(100, 8), {"extractor": {"name": "icon-clip"}})
    loaded = load_statistics(save_statistics(statistics, tmp_path / "ref.safetensors"))
    np.testing.assert_array_equal(loaded.covariance, statistics.covariance)
    assert loaded.num_samples == 100 and loaded.meta == statistics.meta
    np.savez(tmp_path / "ref.npz", mu=statistics.mean, sigma=statistics.covariance)
    assert fid(load_statistics(tmp_path / "ref.npz"), statistics) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("content", ["pickled", "other arrays", "not an npz"])
def test_foreign_npz_files_are_refused(tmp_path, content):
    path = tmp_path / "bad.npz"
    if content == "pickled":
        np.savez(path, mu=np.array([{}], dtype=object), sigma=np.eye(1))
    elif content == "other arrays":
        np.savez(path, a=np.eye(2))
    else:
        path.write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(ValueError, match=r"bad\.npz"):
        load_statistics(path)


def test_bad_features_are_refused():
    good = features(50, 8)
    with pytest.raises(ValueError, match="NaN"):
        fid(np.where(good == good.max(), np.nan, good), good)
    with pytest.raises(ValueError, match="at least 2 images"):
        fid(good[:1], good)
    with pytest.raises(ValueError, match="8 and 6 dimensions"):
        fid(good, good[:, :6])
    with pytest.raises(ValueError, match="at least 20"):
        fid_infinity(good[:4], good)
