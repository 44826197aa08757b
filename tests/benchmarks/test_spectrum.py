import numpy as np
import pytest
from PIL import Image, ImageFilter

from benchmarks.quality.spectrum import compare_detail, detail, laplacian_variance, radial_power


def noise(seed, size=64):
    return np.random.default_rng(seed).normal(128, 20, (size, size))


def test_white_noise_has_its_variance_at_every_frequency():
    power = np.mean([radial_power(noise(seed)) for seed in range(200)], axis=0)
    np.testing.assert_allclose(power[2:], 400, rtol=0.12)


def test_a_wave_lies_at_its_frequency():
    wave = 128 + 50 * np.sin(2 * np.pi * 8 * np.arange(64) / 64)
    # Rings start at one cycle an image, so eight cycles are ring 7.
    assert radial_power(np.tile(wave, (64, 1))).argmax() == 7


def test_laplacian_variance_of_white_noise_is_twenty_times_its_own():
    # The kernel's squared weights sum to 4 x 1 + 16.
    assert laplacian_variance(noise(0, 512)) == pytest.approx(20 * 400, rel=0.03)
    assert laplacian_variance(np.full((8, 8), 3.0)) == 0


def write(folder, images):
    folder.mkdir()
    for index, image in enumerate(images):
        image.save(folder / f"{index:02d}.png")
    return folder


def test_blur_widens_both_gaps(tmp_path):
    sharp = [Image.fromarray(noise(seed).clip(0, 255).astype(np.uint8)) for seed in range(12)]
    reference = write(tmp_path / "reference", sharp[:6])
    same = write(tmp_path / "same", sharp[6:])
    blurred = write(tmp_path / "blurred", [image.filter(ImageFilter.GaussianBlur(1)) for image in sharp[6:]])
    near = compare_detail(same, reference)["metrics"]
    far = compare_detail(blurred, reference, plot=tmp_path / "spectrum.png")["metrics"]
    for name in ("detail/spectrum_gap[n=6]", "detail/laplacian_gap[n=6]"):
        assert near[name]["value"] < 0.2 and far[name]["value"] > 2
    with Image.open(tmp_path / "spectrum.png") as plot:
        assert plot.size[0] > 500


def test_unequal_sizes_and_nothing_are_refused(tmp_path):
    with pytest.raises(ValueError, match="images of one size"):
        detail([Image.new("RGB", (8, 8)), Image.new("RGB", (9, 8))])
    with pytest.raises(ValueError, match="at least one image"):
        detail([])
    small, large = (write(tmp_path / str(side), [Image.new("RGB", (side, side))]) for side in (8, 16))
    with pytest.raises(ValueError, match="different spectra"):
        compare_detail(small, large)
