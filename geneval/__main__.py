"""`python -m geneval VERB`: from prompts to a score, each verb one stage that can be run alone and again."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from geneval.console import Pairs, Shard, json_pairs, pairs, parse_shard, print_json, progress_lines, run
from geneval.judge_verbs import agreement, convert, doctor, note_comparability, serve, validate


def prompts(out: Path, seed: int = 43, num_prompts: int = 100, objects: Path | None = None, colors: str = "") -> None:
    """Write evaluation_metadata.jsonl and generation_prompts.txt; the defaults are GenEval's own 553, byte for byte.

    Args:
        out: folder for the two files
        seed: seed of the draw
        num_prompts: prompts a task, before exact duplicates are dropped
        objects: file with one class name a line (default: GenEval's 80)
        colors: comma-separated part of GenEval's ten colors (default: all)
    """
    from geneval.prompts import COLORS, OBJECTS, prompt_suite, prompts_sha256, write_prompts

    names = OBJECTS if objects is None else [line for line in objects.read_text(encoding="utf-8").splitlines() if line]
    chosen = [color.strip() for color in colors.split(",")] if colors else COLORS
    suite = prompt_suite(names, colors=chosen, num_prompts=num_prompts, seed=seed)
    write_prompts(suite, out)
    print(f"{len(suite)} prompts in {out}, sha256 {prompts_sha256(suite)}")


def generate(
    pipeline: Positional[str],
    out: Path,
    prompts: Path | None = None,
    copies: int = 4,
    seed: int = 42,
    guidance: float | None = None,
    steps: int | None = None,
    size: int | None = None,
    batch_size: int = 1,
    seeding: Literal["original", "image"] = "original",
    device: str = "auto",
    dtype: str | None = None,
    shard: Shard = "0/1",
    call: Pairs = (),
) -> None:
    """Images of every prompt from a text-to-image pipeline, in GenEval's folder layout; run again to resume.

    Args:
        pipeline: pipeline folder, model folder with components.json, or a Hub name
        out: folder of images
        prompts: prompts file (default: GenEval's own)
        copies: images a prompt
        seed: seed before each prompt (seeding original) or of the per-image generators (seeding image)
        guidance: guidance_scale (default: the pipeline's; GenEval's own runs used 9.0)
        steps: num_inference_steps (default: the pipeline's; GenEval's own runs used 50)
        size: height and width in px (default: the pipeline's)
        batch_size: images a call
        seeding: original = global seed before each prompt; image = one generator an image, free of the batch size
        device: auto, cpu, cuda, cuda:N or mps
        dtype: torch type of the weights, as float16 (default: the folder's)
        shard: this process's part of the prompts
        call: further keyword arguments of the pipeline, values in JSON
    """
    from geneval.completeness import expected_prompts
    from geneval.device import choose_device
    from geneval.generate import generate_images
    from geneval.pipelines import load_pipeline

    wanted = expected_prompts(prompts)
    given = {"guidance_scale": guidance, "num_inference_steps": steps, "height": size, "width": size}
    generate_images(
        load_pipeline(pipeline, choose_device(device), dtype),
        wanted,
        out,
        copies=copies,
        seed=seed,
        batch_size=batch_size,
        call={name: value for name, value in given.items() if value is not None} | json_pairs("--call", call),
        seeding=seeding,
        shard=parse_shard(shard),
        source=str(Path(pipeline).resolve()) if Path(pipeline).is_dir() else pipeline,
        progress=progress_lines("images"),
    )
    print(f"{len(wanted)} prompts x {copies} images in {out} (shard {shard})")


def detect(
    images: Positional[Path],
    detector: str,
    clip: str | None = None,
    batch_size: int = 8,
    device: str = "auto",
    shard: Shard = "0/1",
    options: Pairs = (),
    allow_partial: bool = False,
) -> None:
    """Raw detections and colors of every image, to IMAGES/detections.jsonl; run again to resume.

    Args:
        images: folder of images in GenEval's layout
        detector: folder written by `convert` (GenEval's own), or any transformers Mask2Former folder or cached name
        clip: open_clip folder, or MODEL[:TAG or FILE] with weights on this machine (default: ViT-L-14, GenEval's)
        batch_size: images of one size that go through the detector together
        device: auto, cpu, cuda, cuda:N or mps
        shard: this process's part of the prompt folders
        options: GenEval's options that matter here: bgcolor, crop
        allow_partial: finish without pictures that cannot be read
    """
    from geneval.detect import detect_images
    from geneval.detections import read_lines

    out = detect_images(
        images,
        detector,
        clip,
        batch_size=batch_size,
        device=device,
        shard=parse_shard(shard),
        options=pairs(options),
        allow_partial=allow_partial,
        progress=progress_lines("images"),
        left_out=lambda problem: print(f"left out: {problem}", file=sys.stderr),
    )
    print(out)
    note_comparability(next(read_lines(out)).detector)


def score(
    images: Positional[Path],
    out: Path = Path("results.jsonl"),
    prompts: Path | None = None,
    copies: int | None = None,
    options: Pairs = (),
    allow_partial: bool = False,
    grades: Path | None = None,
    json: bool = False,
) -> None:
    """Verdicts from IMAGES/detections.jsonl alone, to a results file with the original's bytes.

    Args:
        images: folder of images with its detections.jsonl
        out: results file; what the score depends on is written beside it
        prompts: prompts that must be there (default: GenEval's own 553)
        copies: images each prompt must have (default: 4 for GenEval's own, else as many as the fullest folder)
        options: GenEval's options, as threshold=0.3 counting_threshold=0.9 max_objects=16
        allow_partial: score an incomplete folder and mark the results as partial
        grades: write here too how much of its prompt each image shows: lines of filename, prompt, tag, score in [0, 1]
        json: print JSON with 95 % intervals instead of the summary
    """
    from geneval.scores import score_folder, write_grades

    chosen = pairs(options)
    score_folder(images, out, options=chosen, prompts=prompts, allow_partial=allow_partial, copies=copies)
    if grades is not None:
        write_grades(images, grades, options=chosen)
    summary(out, json)


def summary(results: Positional[Path], json: bool = False) -> None:
    """The original's summary text; with --json the same with 95 % intervals.

    Args:
        results: a results.jsonl, ours or the original's
        json: print JSON with intervals instead
    """
    from geneval.comparability import comparability
    from geneval.scores import read_provenance, read_results
    from geneval.summary import summary_text

    rows, made = read_results(results), read_provenance(results)
    if json:
        from geneval.statistics import summarize

        said = comparability(made["detector"]) if "detector" in made else {}
        return print_json({"status": _status(rows), **said, **summarize(rows)})
    print(summary_text(rows), end="")
    if "detector" in made:
        note_comparability(made["detector"])


def compare(a: Positional[Path], b: Positional[Path], json: bool = False) -> None:
    """A minus B on the same prompts: difference, 95 % interval, p-value, and the difference this design resolves.

    Args:
        a: a results.jsonl
        b: another, of the same prompts
        json: print JSON instead of the table
    """
    from geneval import protocol
    from geneval.scores import read_provenance, read_results
    from geneval.statistics import compare as compared
    from geneval.summary import comparison_text

    rows = read_results(a), read_results(b)
    made = read_provenance(a), read_provenance(b)
    differing = [name for name in ("options", "detector") if all(made) and made[0].get(name) != made[1].get(name)]
    result = compared(*rows)
    generated = protocol.differing(*made)
    if json:
        marks = {"scored_differently": differing, "generated_differently": generated}
        return print_json({"status": [_status(side) for side in rows], **marks, **result})
    print(comparison_text(result), end="")
    for path, side in zip((a, b), rows):
        if _status(side) == "partial":
            print(f"PARTIAL: {path} was scored with --allow-partial on an incomplete folder")
    if differing:
        print(f"note: A and B were scored with different {' and '.join(differing)}; see {a}.json and {b}.json")
    if generated:
        print(f"note: A and B were generated with different {', '.join(generated)}; the difference holds both")
    if known := next((record for record in made if "detector" in record), None):
        note_comparability(known["detector"])


VERBS = {
    verb.__name__: verb
    for verb in (prompts, generate, detect, score, summary, compare, agreement, serve, convert, validate, doctor)
}


def main() -> int:
    """The exit code of one verb; a user's mistake is one line on stderr and 2."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # the libraries' own bars would bury ours
    return run(VERBS, prog="python -m geneval", description=str(__doc__))


def _status(rows: Sequence[Mapping[str, Any]]) -> str:
    return "partial" if any(row.get("partial") for row in rows) else "complete"


if __name__ == "__main__":
    sys.exit(main())
