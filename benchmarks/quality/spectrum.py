"""Fine detail of images: radial power spectrum and Laplacian variance, against a reference."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.images import ImageEntry, ImageError, decode_image, list_images, refuse_corrupt
from lightgen.disk.atomic import atomic_file


@dataclass(frozen=True, kw_only=True)
class Detail:
    """Mean power (F,) at `frequencies` (F,) in cycles per pixel, and each image's Laplacian variance (N,).

    Both are of the luminance in 0..255. `skipped` images could not be read and are not in it.
    """

    frequencies: np.ndarray
    power: np.ndarray
    laplacian: np.ndarray
    size: tuple[int, int]
    skipped: int = 0


def detail(images: Iterable[Any]) -> Detail:
    """Detail of PIL images of one size; one image is held at a time."""
    total, laplacian, size = None, [], None
    for image in images:
        if size not in (None, image.size):
            raise ValueError(f"a spectrum needs images of one size; there are {size} and {image.size}")
        size = image.size
        luminance = np.asarray(image.convert("L"), dtype=np.float64)
        power = radial_power(luminance)
        total = power if total is None else total + power
        laplacian.append(laplacian_variance(luminance))
    if total is None or size is None:
        raise ValueError("a spectrum needs at least one image")
    return Detail(
        frequencies=(np.arange(len(total)) + 1) / min(size),
        power=total / len(laplacian),
        laplacian=np.array(laplacian),
        size=size,
    )


def radial_power(luminance: np.ndarray) -> np.ndarray:
    """Mean squared Fourier magnitude in rings one frequency step wide, from one cycle an image to Nyquist.

    A Hann window keeps the jump between opposite edges out of the high frequencies.
    """
    height, width = luminance.shape
    window = np.outer(_hann(height), _hann(width))
    # Scaled so that white noise of variance v has power v at every frequency.
    spectrum = np.abs(np.fft.fft2((luminance - luminance.mean()) * window)) ** 2 / (window**2).sum()
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]) * min(height, width)
    rings = radius.round().astype(int).ravel()
    sums, counts = np.bincount(rings, spectrum.ravel()), np.bincount(rings)
    return (sums / counts.clip(1))[1 : min(height, width) // 2 + 1]


def laplacian_variance(luminance: np.ndarray) -> float:
    """Variance of the four-neighbor Laplacian, a usual measure of sharpness."""
    center = luminance[1:-1, 1:-1]
    neighbors = luminance[:-2, 1:-1] + luminance[2:, 1:-1] + luminance[1:-1, :-2] + luminance[1:-1, 2:]
    return float((neighbors - 4 * center).var())


def compare_detail(
    generated: Path, reference: Path, *, limit: int | None = None, plot: Path | None = None, skip_corrupt: bool = False
) -> dict[str, Any]:
    """What compare_details says of two folders of images or shards; `plot` draws the spectra."""
    ours, theirs = (_detail_in(source, limit, skip_corrupt) for source in (generated, reference))
    result = compare_details(ours, theirs)
    if plot:
        _plot(ours, theirs, plot)
    return result


def detail_of(entries: Sequence[ImageEntry], skipped: int = 0) -> Detail:
    """Detail of readable images; `skipped` others of the set could not be read."""
    return replace(detail(decode_image(entry.read(), entry.id) for entry in entries), skipped=skipped)


def _detail_in(source: Path, limit: int | None, skip_corrupt: bool) -> Detail:
    entries, corrupt = list_images(source, limit), []

    def readable() -> Iterator[Any]:
        for entry in entries:
            try:
                yield decode_image(entry.read(), entry.id)
            except ImageError as error:
                corrupt.append(str(error))

    found = detail(readable())
    refuse_corrupt(corrupt, len(entries), source, skip_corrupt)
    return replace(found, skipped=len(corrupt))


def compare_details(ours: Detail, theirs: Detail) -> dict[str, Any]:
    """{"metrics": detail/spectrum_gap and detail/laplacian_gap in the record form, "spectrum": the curves}.

    A gap is the size of a log2 ratio to the reference: 0 is equal detail, 1 is twice or half of it. The spectrum's is
    averaged over the upper half of the frequencies.
    """
    if ours.size != theirs.size:
        raise ValueError(f"images of {ours.size} and {theirs.size} px have different spectra; resize one set first")
    upper = ours.frequencies >= 0.25
    # The floor, far below one grey level's rounding noise, keeps flat images finite.
    ratio = np.log2((ours.power + 1e-6) / (theirs.power + 1e-6))
    sharpness = np.log2((ours.laplacian.mean() + 1e-6) / (theirs.laplacian.mean() + 1e-6))
    count, skipped = len(ours.laplacian), ours.skipped + theirs.skipped
    label = f"n={count}{f',skipped={skipped}' if skipped else ''}"
    version = f"luminance, log2; ref n={len(theirs.laplacian)}; {ours.size[0]}x{ours.size[1]}"
    entry = {"ci": None, "n": count, "higher_is_better": False, "version": version}
    return {
        "metrics": {
            f"detail/spectrum_gap[{label}]": {"value": float(np.abs(ratio[upper]).mean()), **entry},
            f"detail/laplacian_gap[{label}]": {"value": float(abs(sharpness)), **entry},
        },
        "spectrum": {
            "frequencies": ours.frequencies.tolist(),
            "generated": ours.power.tolist(),
            "reference": theirs.power.tolist(),
            "laplacian": [float(ours.laplacian.mean()), float(theirs.laplacian.mean())],
        },
    }


def _hann(length: int) -> np.ndarray:
    return 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(length) + 0.5) / length)


def _plot(ours: Detail, theirs: Detail, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.loglog(theirs.frequencies, theirs.power, color="0.4", label="reference")
    axes.loglog(ours.frequencies, ours.power, color="C0", label="generated")
    axes.set_xlabel("frequency (cycles per pixel)")
    axes.set_ylabel("power of the luminance")
    axes.legend(frameon=False)
    with atomic_file(path) as file:
        figure.savefig(file, format=Path(path).suffix.lstrip(".") or "png", dpi=150)
