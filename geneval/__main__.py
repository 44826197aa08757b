"""`python -m geneval VERB`: from prompts to a score, each verb one stage that can be run alone and again."""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg

_Pairs = Annotated[tuple[str, ...], arg(metavar="KEY=VALUE ...")]
_Shard = Annotated[str, arg(metavar="I/N")]


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
    device: str | None = None,
    dtype: str | None = None,
    shard: _Shard = "0/1",
    call: _Pairs = (),
) -> None:
    """Images of every prompt from a diffusers text-to-image pipeline, in GenEval's folder layout; run again to resume.

    Args:
        pipeline: pipeline folder, or a Hub name
        out: folder of images
        prompts: prompts file (default: GenEval's own)
        copies: images a prompt
        seed: seed before each prompt (seeding original) or of the per-image generators (seeding image)
        guidance: guidance_scale (default: the pipeline's; GenEval's own runs used 9.0)
        steps: num_inference_steps (default: the pipeline's; GenEval's own runs used 50)
        size: height and width in px (default: the pipeline's)
        batch_size: images a call
        seeding: original = global seed before each prompt; image = one generator an image, free of the batch size
        device: torch device (default: the accelerator, else the CPU)
        dtype: torch type of the weights, as float16 (default: the folder's)
        shard: this process's part of the prompts
        call: further keyword arguments of the pipeline, values in JSON
    """
    from geneval.completeness import expected_prompts
    from geneval.detector import default_device
    from geneval.generate import generate_images, load_pipeline

    wanted = expected_prompts(prompts)
    given = {"guidance_scale": guidance, "num_inference_steps": steps, "height": size, "width": size}
    arguments = {name: value for name, value in given.items() if value is not None} | _json_pairs(call)
    model = load_pipeline(pipeline, device or default_device(), dtype)
    generate_images(
        model,
        wanted,
        out,
        copies=copies,
        seed=seed,
        batch_size=batch_size,
        call=arguments,
        seeding=seeding,
        shard=_parse_shard(shard),
        source=str(Path(pipeline).resolve()) if Path(pipeline).is_dir() else pipeline,
        progress=_progress("images"),
    )
    print(f"{len(wanted)} prompts x {copies} images in {out} (shard {shard})")


def detect(
    images: Positional[Path],
    detector: str,
    clip: str | None = None,
    batch_size: int = 8,
    device: str | None = None,
    shard: _Shard = "0/1",
    options: _Pairs = (),
    allow_partial: bool = False,
) -> None:
    """Raw detections and colors of every image, to IMAGES/detections.jsonl; run again to resume.

    Args:
        images: folder of images in GenEval's layout
        detector: folder written by `convert` (GenEval's own), or any transformers Mask2Former folder or cached name
        clip: open_clip folder, MODEL:FILE, or cached name (default: GenEval's, ViT-L-14-quickgelu)
        batch_size: images of one size that go through the detector together
        device: torch device (default: the accelerator, else the CPU)
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
        shard=_parse_shard(shard),
        options=_pairs(options),
        allow_partial=allow_partial,
        progress=_progress("images"),
        left_out=lambda problem: print(f"left out: {problem}", file=sys.stderr),
    )
    print(out)
    _note_comparability(next(read_lines(out)).detector)


def score(
    images: Positional[Path],
    out: Path = Path("results.jsonl"),
    prompts: Path | None = None,
    copies: int | None = None,
    options: _Pairs = (),
    allow_partial: bool = False,
    grades: Path | None = None,
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
    """
    from geneval.scores import score_folder, write_grades
    from geneval.summary import summary_text

    rows = score_folder(
        images, out, options=_pairs(options), prompts=prompts, allow_partial=allow_partial, copies=copies
    )
    if grades is not None:
        write_grades(images, grades, options=_pairs(options))
    print(summary_text(rows), end="")
    _note_comparability(json.loads(out.with_name(out.name + ".json").read_text(encoding="utf-8"))["detector"])


def summary(results: Positional[Path], json: bool = False) -> None:
    """The original's summary text; with --json the same with 95 % intervals.

    Args:
        results: a results.jsonl, ours or the original's
        json: print JSON with intervals instead
    """
    from geneval.scores import comparability, read_provenance, read_results
    from geneval.statistics import summarize
    from geneval.summary import summary_text

    rows, made = read_results(results), read_provenance(results)
    if json:
        said = comparability(made["detector"]) if "detector" in made else {}
        _print_json({"status": _status(rows), **said, **summarize(rows)})
        return
    print(summary_text(rows), end="")
    if "detector" in made:
        _note_comparability(made["detector"])


def compare(a: Positional[Path], b: Positional[Path], json: bool = False) -> None:
    """A minus B on the same prompts: difference, 95 % interval, p-value, and the difference this design resolves.

    Args:
        a: a results.jsonl
        b: another, of the same prompts
        json: print JSON instead of the table
    """
    from geneval.scores import read_provenance, read_results
    from geneval.statistics import compare as compared

    rows = read_results(a), read_results(b)
    made = read_provenance(a), read_provenance(b)
    differing = [name for name in ("options", "detector") if all(made) and made[0].get(name) != made[1].get(name)]
    result = compared(*rows)
    if json:
        _print_json({"status": [_status(side) for side in rows], "scored_differently": differing, **result})
        return
    print(f"{'task':<16} {'A - B':>8} {'95 % interval':>20} {'p':>8} {'resolves':>9}  prompts")
    for tag, found in {**result["tasks"], "overall": result["overall"]}.items():
        low, high = found["ci"]
        interval = f"[{low:+.4f}, {high:+.4f}]"
        resolves, clusters = found["detectable"], found["clusters"]
        print(f"{tag:<16} {found['value']:>+8.4f} {interval:>20} {found['p']:>8.4f} {resolves:>9.4f}  {clusters}")
    for path, side in zip((a, b), rows):
        if _status(side) == "partial":
            print(f"PARTIAL: {path} was scored with --allow-partial on an incomplete folder")
    if differing:
        print(f"note: A and B were scored with different {' and '.join(differing)}; see {a}.json and {b}.json")
    for record in made:
        if "detector" in record:
            _note_comparability(record["detector"])
            break


def convert(checkpoint: Positional[Path], out: Path) -> None:
    """GenEval's mmdet checkpoint (.pth of mmdet 2 or 3) to a transformers folder; every tensor is used or it fails.

    Args:
        checkpoint: mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco_20220504_001756-743b7d99.pth or the mmdet 3 file
        out: folder to write
    """
    from geneval.convert import convert_checkpoint

    convert_checkpoint(checkpoint, out)
    print(f"{out}: use it as --detector {out}")


def validate(annotations: Positional[Path], images: Positional[Path], json: bool = False) -> None:
    """Agreement of the scores with GenEval's human annotators.

    Args:
        annotations: folder with annotations_clip.csv, annotations_sdv2.csv, annotations_if-xl.csv
        images: folder with clip/, sdv2/ and if-xl/, each with its detections.jsonl
        json: print JSON instead of the table
    """
    from geneval.validate import validate_folder, validation_text

    result = validate_folder(annotations, images)
    if json:
        _print_json(result)
    else:
        print(validation_text(result), end="")


def doctor(detector: str | None = None, clip: str = "ViT-L-14-quickgelu") -> None:
    """What is here and what is missing: weights with their hashes, library versions with known traps.

    Args:
        detector: detector folder to look at
        clip: color classifier to look at
    """
    from geneval.doctor import report

    text, is_ready = report(detector, clip)
    print(text, end="")
    sys.exit(0 if is_ready else 1)


VERBS: dict[str, Callable[..., None]] = {
    verb.__name__: verb for verb in (prompts, generate, detect, score, summary, compare, convert, validate, doctor)
}


def main() -> None:
    """Run one verb; a user's mistake is one line on stderr and exit code 2."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # the libraries' own bars would bury ours
    try:
        tyro.extras.subcommand_cli_from_dict(VERBS, prog="python -m geneval", description=__doc__)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def _pairs(values: tuple[str, ...]) -> dict[str, str]:
    """`key=value` split at the first "="."""
    if wrong := [value for value in values if "=" not in value]:
        raise ValueError(f"{wrong[0]!r} is not KEY=VALUE")
    return dict(value.split("=", 1) for value in values)  # type: ignore[misc]


def _json_pairs(values: tuple[str, ...]) -> dict[str, object]:
    try:
        return {name: json.loads(value) for name, value in _pairs(values).items()}
    except json.JSONDecodeError as error:
        raise ValueError(
            f"--call values must be JSON, as guidance_rescale=0.7 or negative_prompt='\"blurry\"': {error}"
        ) from None


def _parse_shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise ValueError(f"--shard {text!r} must be I/N with 0 <= I < N, as 0/4")
    return int(index), int(count)


def _progress(unit: str) -> Callable[[int, int], None]:
    """A line with the time left, at most every few seconds: in place on a terminal, a new line elsewhere."""
    started = printed = time.monotonic()
    first: int | None = None
    is_terminal = sys.stderr.isatty()

    def show(done: int, total: int) -> None:
        nonlocal printed, first
        now = time.monotonic()
        first = done if first is None else first
        if now - printed < (0.5 if is_terminal else 15) and done < total:
            return
        printed = now
        rate = (done - first) / (now - started) if done > first else 0.0
        left = f", {(total - done) / rate:.0f} s left" if rate and done < total else ""
        end = "\r" if is_terminal and done < total else "\n"
        print(f"{done} of {total} {unit}{left}   ", end=end, file=sys.stderr, flush=True)

    return show


def _status(rows: Sequence[Mapping[str, Any]]) -> str:
    return "partial" if any(row.get("partial") for row in rows) else "complete"


def _note_comparability(identity: Mapping[str, Any]) -> None:
    from geneval.scores import NOT_COMPARABLE

    if not identity.get("comparable"):
        print(
            f"{NOT_COMPARABLE}: another detector, resize or color classifier than the original's",
            file=sys.stderr,
        )


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=1))


if __name__ == "__main__":
    main()
