"""`python -m geneval VERB`: from prompts to a score, each verb one stage that can be run alone and again."""

import os
import sys
from pathlib import Path
from typing import Literal

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
    from geneval.json_files import read_text
    from geneval.prompts import COLORS, OBJECTS, prompt_suite, prompts_sha256, write_prompts

    names = OBJECTS if objects is None else [line for line in read_text(objects).splitlines() if line]
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
        prompts: prompts file, or a .txt of its templates' text, a line each (default: GenEval's own)
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
        detector: folder written by `convert` (GenEval's own), any other of transformers, a cached name, or icons: the
            embedded one
        clip: open_clip folder, MODEL[:TAG or FILE] with weights on this machine, or icon-clip: the embedded one
            (default: ViT-L-14, GenEval's)
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
        prompts: prompts that must be there, a file as for `generate` (default: GenEval's own 553)
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
    from geneval.comparison import status
    from geneval.scores import read_provenance, read_results
    from geneval.summary import summary_text

    rows, made = read_results(results), read_provenance(results)
    if json:
        from geneval.statistics import summarize

        said = comparability(made["detector"]) if "detector" in made else {}
        return print_json({"status": status(rows), **said, **summarize(rows)})
    print(summary_text(rows), end="")
    if "detector" in made:
        note_comparability(made["detector"])


def compare(
    a: Positional[Path],
    b: Positional[tuple[Path, ...]],
    common: bool = False,
    json: bool = False,
) -> None:
    """A minus B on the same prompts: both scores, difference, 95 % interval, p-value, and what this design resolves.

    Args:
        a: a results.jsonl
        b: another, of the same prompts; or several, each of which A is compared with
        common: leave out prompts that are not in all files, and images beyond a prompt's fewest, as of partial runs
        json: print JSON instead of tables (of several files: a list)
    """
    from geneval.comparison import compare_files, file_text

    if not b:
        raise ValueError("give at least two results files")
    found = compare_files([a, *b], common)
    if json:
        return print_json(found[0] if len(found) == 1 else found)
    for one in found:
        print(file_text(one), end="")
    if detector := next((one["detector"] for one in found if one["detector"]), None):
        note_comparability(detector)


VERBS = {
    verb.__name__: verb
    for verb in (prompts, generate, detect, score, summary, compare, agreement, serve, convert, validate, doctor)
}


def main() -> int:
    """The exit code of one verb; a user's mistake is one line on stderr and 2."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # the libraries' own bars would bury ours
    return run(VERBS, prog="python -m geneval", description=str(__doc__))


if __name__ == "__main__":
    sys.exit(main())
