"""`python -m benchmarks quality | regression | speed`."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

# Read once, at the import of huggingface_hub: a missing file then fails at once instead of after a minute of retries.
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def features(
    images: tyro.conf.Positional[Path],
    *,
    extractor: str,
    out: Path,
    name: str | None = None,
    weights: Path | None = None,
    batch_size: int = 64,
    device: str | None = None,
    limit: int | None = None,
    skip_corrupt: bool = False,
    shard: tuple[int, int] = (0, 1),
    statistics: bool = False,
) -> None:
    """Write the features of a folder, GenEval folder or shards; with --statistics only their mean and covariance."""
    from benchmarks.quality.features import extract, extract_statistics
    from benchmarks.quality.moments import save_statistics

    network: dict[str, Any] = {"name": name, "weights": weights, "batch_size": batch_size, "device": device}
    network |= {"limit": limit, "skip_corrupt": skip_corrupt}
    if statistics and shard != (0, 1):
        raise ValueError("--statistics is written by one process; share the work with features, without --statistics")
    if statistics:
        save_statistics(extract_statistics(images, extractor, **network), out)
    else:
        extract(images, extractor, out, shard=shard, **network)
    print(out if out.is_file() else f"shard {shard[0]} of {shard[1]} is done; the last one writes {out}")


def fid(generated: tyro.conf.Positional[Path], reference: tyro.conf.Positional[Path]) -> None:
    """Print the FID of two files of features or statistics (.safetensors, .npz)."""
    from benchmarks.quality.features import load_moments, require_same_extractor
    from benchmarks.quality.frechet import fid as distance

    ours, theirs = load_moments(generated), load_moments(reference)
    require_same_extractor(ours.meta, theirs.meta)
    extractor = (ours.meta.get("extractor") or theirs.meta.get("extractor") or {"name": "unknown"})["name"]
    label = theirs.meta.get("images", reference.stem)[:8]
    skipped = sum(side.meta.get("skipped", 0) for side in (ours, theirs))
    counts = [side.num_samples or "unknown" for side in (ours, theirs)]
    name = f"fid[{extractor},n={counts[0]},ref={label},ref_n={counts[1]}"
    print(f"{name}{f',skipped={skipped}' if skipped else ''}] = {distance(ours, theirs):.6f}")


def measure(
    generated: tyro.conf.Positional[Path],
    reference: tyro.conf.Positional[Path],
    *,
    extractor: str,
    name: str | None = None,
    clip: str | None = None,
    captions: Path | None = None,
    reference_name: str | None = None,
    out: Path | None = None,
    weights: Path | None = None,
    batch_size: int = 64,
    device: str | None = None,
    limit: int | None = None,
    skip_corrupt: bool = False,
    json_output: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Print every metric of one set of images against another."""
    from benchmarks.quality.measure import measure as run

    result = run(
        generated,
        reference,
        extractor=extractor,
        name=name,
        clip=clip,
        captions=captions,
        reference_name=reference_name,
        out=out,
        weights=weights,
        batch_size=batch_size,
        device=device,
        limit=limit,
        skip_corrupt=skip_corrupt,
    )
    if json_output:
        print(json.dumps(result, indent=1))
        return
    for metric, entry in result["metrics"].items():
        interval = "" if entry["ci"] is None else "  [{:.6g}, {:.6g}]".format(*entry["ci"])
        print(f"{metric} = {entry['value']:.6g}{interval}")
    for line in result["warnings"]:
        print(f"warning: {line}", file=sys.stderr)


def clip_score(
    images: tyro.conf.Positional[Path],
    *,
    clip: str,
    captions: Path | None = None,
    out: Path | None = None,
    clip_s: bool = False,
    device: str | None = None,
    skip_corrupt: bool = False,
) -> None:
    """Print the mean CLIP score of images with prompts; --clip-s is Hessel's 2.5 max(cosine, 0); --out keeps each."""
    from benchmarks.quality.clip_score import score_images
    from benchmarks.quality.moments import write_atomically

    metrics, rows = score_images(
        images, clip, captions=captions, clip_s=clip_s, device=device, skip_corrupt=skip_corrupt
    )
    if out:
        write_atomically(out, "".join(json.dumps(row) + "\n" for row in rows).encode())
    for metric, entry in metrics.items():
        print(f"{metric} = {entry['value']:.6g}  [{entry['ci'][0]:.6g}, {entry['ci'][1]:.6g}]  ({entry['version']})")


def detail(
    generated: tyro.conf.Positional[Path],
    reference: tyro.conf.Positional[Path],
    *,
    limit: int | None = None,
    plot: Path | None = None,
    skip_corrupt: bool = False,
) -> None:
    """Print how far power spectrum and Laplacian variance are from the reference's; --plot draws the spectra."""
    from benchmarks.quality.spectrum import compare_detail

    result = compare_detail(generated, reference, limit=limit, plot=plot, skip_corrupt=skip_corrupt)
    for metric, entry in result["metrics"].items():
        print(f"{metric} = {entry['value']:.6g}  ({entry['version']})")


def doctor(*, verify: bool = False) -> None:
    """Say which weights the named extractors need, where they belong and whether they are there."""
    from benchmarks.quality.weights import doctor as rows

    for row in rows(verify=verify):
        known = f", sha256 {row['sha256']}" if row["sha256"] else ""
        print(
            f"{row['extractor']:28} {row['status']:8} {row['megabytes']:>5} MB  {row['file']}  ({row['source']}{known})"
        )


def regression(*, record: bool = False, out: Path | None = None) -> None:
    """Train a fixed tiny recipe and compare its numbers with the committed record; --record writes a new one."""
    from benchmarks.regression.check import main as run

    sys.exit(run(write=record, out=out))


def speed(
    what: tyro.conf.Positional[Literal["sampling", "training", "memory"]],
    *,
    sizes: tuple[str, ...] = (),
    repetitions: int = 3,
    threads: int = 1,
    device: str = "cpu",
    precision: Literal["fp32", "bf16"] = "fp32",
    batch_size: int = 0,
    fast_only: bool = False,
    out: Path | None = None,
) -> None:
    """Time the fast paths against the reference paths in one run (or take sampling's memory); the last line is JSON.

    Args:
        what: sampling (64 x 100 steps with and without guidance), training (a step) or memory (of sampling)
        sizes: golden, 10m, released (default: the first two; memory: released)
        repetitions: of each path, in turn, after one unmeasured
        threads: of the CPU
        device: cpu, cuda, ...
        precision: fp32, or bf16 where a GPU has it
        batch_size: images at once (default: the size's own; training 4)
        fast_only: leave the reference path out
        out: file for the JSON as well
    """
    from benchmarks.speed.report import run

    run(
        what,
        sizes=sizes,
        repetitions=repetitions,
        threads=threads,
        device=device,
        precision=precision,
        batch_size=batch_size,
        fast_only=fast_only,
        out=out,
    )


QUALITY: dict[str, Any] = {
    "features": features,
    "fid": fid,
    "measure": measure,
    "clip-score": clip_score,
    "detail": detail,
    "doctor": doctor,
}
PARTS = ("quality", "regression", "speed")


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    part, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    try:
        if part == "quality":
            tyro.extras.subcommand_cli_from_dict(QUALITY, prog="python -m benchmarks quality", args=rest)
        elif part == "regression":
            tyro.cli(regression, prog="python -m benchmarks regression", args=rest)
        elif part == "speed":
            tyro.cli(speed, prog="python -m benchmarks speed", args=rest)
        else:
            print(f"usage: python -m benchmarks {{{','.join(PARTS)}}} ... [--help]")
            return 0 if part in ("-h", "--help") else 2
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
