"""`python -m benchmarks quality | speed | regression | gpu | budget`: measurements beside GenEval."""

import json as json_text
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from benchmarks.gpu.config import GpuConfig
from benchmarks.quality.config import DEFAULTS, ExtractionConfig, MeasureConfig
from benchmarks.speed import config as speed
from geneval.console import Shard, parse_shard, print_json, run


def features(
    images: Positional[Path],
    extractor: str,
    out: Path,
    config: ExtractionConfig = DEFAULTS,
    shard: Shard = "0/1",
    statistics: bool = False,
) -> None:
    """Write the features of a folder, GenEval folder or shards; with --statistics only their mean and covariance.

    Args:
        images: folder of images, GenEval folder, folder of tar shards or one tar
        extractor: inception-v3-compat[-clean], clip-MODEL[@TAG], dinov2-vitl14, icon-clip or a model folder
        out: safetensors file to write
        config: how features are made
        shard: this process's part of the images; the process that finishes last writes the file
        statistics: write mean and covariance alone
    """
    from benchmarks.quality.extraction import extract, extract_statistics
    from benchmarks.quality.moments import save_statistics

    if statistics and shard != "0/1":
        raise ValueError("--statistics is written by one process; share the work with features, without --statistics")
    if statistics:
        save_statistics(extract_statistics(images, extractor, config), out)
    else:
        extract(images, extractor, out, config, shard=parse_shard(shard))
    print(out if out.is_file() else f"shard {shard} is done; the last one writes {out}")


def fid(generated: Positional[Path], reference: Positional[Path], json: bool = False) -> None:
    """Print the FID of two files of features or statistics (.safetensors, .npz).

    Args:
        generated: features or statistics of the images that are judged
        reference: those of the images that they are compared with
        json: print JSON instead of a line
    """
    from benchmarks.quality.features import load_moments, require_same_extractor
    from benchmarks.quality.frechet import fid as distance

    ours, theirs = load_moments(generated), load_moments(reference)
    require_same_extractor(ours.meta, theirs.meta)
    extractor = (ours.meta.get("extractor") or theirs.meta.get("extractor") or {"name": "unknown"})["name"]
    label = theirs.meta.get("images", reference.stem)[:8]
    skipped = sum(side.meta.get("skipped", 0) for side in (ours, theirs))
    counts = [side.num_samples or "unknown" for side in (ours, theirs)]
    name = f"fid[{extractor},n={counts[0]},ref={label},ref_n={counts[1]}{f',skipped={skipped}' if skipped else ''}]"
    value = distance(ours, theirs)
    print(json_text.dumps({"metrics": {name: {"value": value}}}, indent=1) if json else f"{name} = {value:.6f}")


def measure(
    generated: Positional[Path], reference: Positional[Path], config: MeasureConfig, json: bool = False
) -> None:
    """Print every metric of one set of images against another.

    Args:
        generated: images that are judged, or their features file
        reference: images that they are compared with, or their features file
        config: what is measured
        json: print JSON with versions, warnings and curves instead of lines
    """
    from benchmarks.quality.measurement import measure as run_all

    result = run_all(generated, reference, config)
    _print_metrics(result, json, digits=lambda entry: _interval(entry))
    for line in () if json else result["warnings"]:
        print(f"warning: {line}", file=sys.stderr)


def clip_score(
    images: Positional[Path],
    clip: str,
    captions: Path | None = None,
    out: Path | None = None,
    clip_s: bool = False,
    device: str = "auto",
    skip_corrupt: bool = False,
    json: bool = False,
) -> None:
    """Print the mean CLIP score of images with prompts.

    Args:
        images: folder of images, GenEval folder, folder of tar shards or one tar
        clip: open_clip folder, icon-clip, or clip-MODEL[@TAG]
        captions: .jsonl of {"file", "prompt"}, or a line an image (default: the folder's own prompts)
        out: file that keeps each image's score, a line of JSON each
        clip_s: Hessel's 2.5 max(cosine, 0) instead of 100 cosine
        device: auto, cpu, cuda, cuda:N or mps
        skip_corrupt: leave out images that cannot be read; their number stands in the result's name
        json: print JSON instead of a line
    """
    from benchmarks.quality.clip_score import score_images
    from lightgen.disk.atomic import write_text

    metrics, rows = score_images(
        images, clip, captions=captions, clip_s=clip_s, device=device, skip_corrupt=skip_corrupt
    )
    if out:
        write_text(out, "".join(json_text.dumps(row) + "\n" for row in rows))
    _print_metrics({"metrics": metrics}, json, digits=lambda entry: f"{_interval(entry)}  ({entry['version']})")


def detail(
    generated: Positional[Path],
    reference: Positional[Path],
    limit: int | None = None,
    plot: Path | None = None,
    skip_corrupt: bool = False,
    json: bool = False,
) -> None:
    """Print how far power spectrum and Laplacian variance are from the reference's.

    Args:
        generated: images that are judged
        reference: images that they are compared with
        limit: images of each set, spread evenly over it (default: all)
        plot: picture of the spectra to draw
        skip_corrupt: leave out images that cannot be read; their number stands in the result's name
        json: print JSON with the spectra instead of lines
    """
    from benchmarks.quality.spectrum import compare_detail

    result = compare_detail(generated, reference, limit=limit, plot=plot, skip_corrupt=skip_corrupt)
    _print_metrics(result, json, digits=lambda entry: f"  ({entry['version']})")


def doctor(extractors: tuple[str, ...] = (), verify: bool = False) -> int:
    """Say which weights the named extractors need, where they belong and whether they are there.

    The exit code is 0 where all are here, 1 where some are missing.

    Args:
        extractors: those to look at (default: all that have a name)
        verify: compare the files' sha256 too
    """
    from benchmarks.quality.weights import PACKAGES, findings
    from geneval.doctor import report

    text, is_ready = report(PACKAGES, findings(extractors, verify=verify), "these extractors")
    print(text, end="")
    return 0 if is_ready else 1


def _benchmark(name: str, config: type, text: str) -> Callable[[Any], None]:
    def run_benchmark(config: Any) -> None:
        import_module(f"benchmarks.speed.{name}").run_benchmark(config)

    run_benchmark.__annotations__["config"], run_benchmark.__doc__ = config, text
    return run_benchmark


def regression(record: bool = False, out: Path | None = None, json: bool = False) -> int:
    """Train a fixed tiny recipe and compare its numbers with the committed record.

    The exit code is 0 where they agree, 1 where they do not.

    Args:
        record: write a new record instead
        out: new folder that keeps what is made
        json: print JSON with the numbers and the differences instead of lines
    """
    from benchmarks.regression.check import check

    return check(write=record, out=out, as_json=json)


def gpu(config: GpuConfig = GpuConfig()) -> int:  # noqa: B008
    """Measure everything that a GPU is for, in order of value, each record as soon as it is there.

    The exit code is 1 where a part failed; what time does not suffice for is named.

    Args:
        config: what is measured, where, and for how long
    """
    from benchmarks.gpu.measurement import measure

    return measure(config)


def _print_metrics(result: dict[str, Any], json: bool, digits: Any) -> None:
    if json:
        return print_json(result)
    for metric, entry in result["metrics"].items():
        print(f"{metric} = {entry['value']:.6g}{digits(entry)}")


def _interval(entry: dict[str, Any]) -> str:
    return "" if entry["ci"] is None else "  [{:.6g}, {:.6g}]".format(*entry["ci"])


_QUALITY = {
    "features": features,
    "fid": fid,
    "measure": measure,
    "clip-score": clip_score,
    "detail": detail,
    "doctor": doctor,
}
_SPEED = (
    ("sampling", speed.ModelSpeed, "Time sampling, 64 x 100 steps with and without guidance."),
    ("training", speed.ModelSpeed, "Time a training step."),
    ("memory", speed.MemoryPeak, "Take the memory that sampling holds above the weights."),
    ("preference", speed.PreferenceCost, "Time a DPO step beside a training step; count the released size's memory."),
    ("geneval", speed.GenevalSpeed, "Time `python -m geneval score` on 2,212 images, and the rules alone."),
    ("judge", speed.JudgeSpeed, "Time judging in a process, over a folder, and through the reward service."),
    ("checks", speed.ChecksCost, "Take the share of a study's processor time that the checks of files have."),
    ("quality", speed.QualitySpeed, "Time FID against SciPy's matrix root, extraction against bare forward passes."),
    ("data", speed.DataSpeed, "Time import and prepare, training from a mapped cache, and subsets of a million ids."),
)


def budget(out: Path | None = None) -> None:
    """Print what LightGen's statement of cost comes to: parameters, operations, days of a GPU.

    Args:
        out: JSON file to write, too
    """
    from benchmarks.speed.budget import budget as computed
    from lightgen.disk.json_files import write_json

    found = computed()
    if out is not None:
        write_json(out, found)
    print(*found["sentences"], sep="\n")


VERBS = {
    "quality": ("FID, KID, precision and recall, CLIP score and detail of images.", _QUALITY),
    "speed": ("How fast the parts are, against their limits.", {row[0]: _benchmark(*row) for row in _SPEED}),
    "regression": regression,
    "gpu": gpu,
    "budget": budget,
}


def main(arguments: list[str] | None = None) -> int:
    """The exit code of one verb; a user's mistake is one line on stderr and 2."""
    # Read once, at the import of huggingface_hub: a missing file then fails at once instead of after retries.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    return run(VERBS, prog="python -m benchmarks", description=str(__doc__), arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
