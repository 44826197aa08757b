"""The same numbers as clean-fid."""

import warnings

import numpy as np
import pytest

from benchmarks.quality.extractors import _bicubic_299
from benchmarks.quality.frechet import fid
from benchmarks.quality.kernels import kid

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from cleanfid import fid as clean
    from cleanfid import resize


@pytest.fixture
def features():
    generator = np.random.default_rng(0)
    return generator.normal(size=(400, 24)), generator.normal(size=(400, 24)) * 1.1 + 0.1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_frechet_distance(features):
    a, b = features
    theirs = clean.frechet_distance(a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False))
    assert fid(a, b) == pytest.approx(theirs, rel=1e-6)


def test_kernel_distance_of_one_subset_that_holds_all(features):
    a, b = features
    assert kid(a, b).value == pytest.approx(clean.kernel_distance(a, b, num_subsets=1, max_subset_size=400), rel=1e-9)


@pytest.mark.parametrize("size", [64, 512])
def test_resize(picture, size):
    image = picture(0, size=size)
    theirs = resize.make_resizer("PIL", False, "bicubic", (299, 299))(np.asarray(image))
    np.testing.assert_array_equal(_bicubic_299(image).permute(1, 2, 0).numpy(), theirs)
