"""How fast `python -m geneval score` is: the whole command on a folder of 2,212 images, and the rules alone.

The folder holds GenEval's own 553 prompts, four samples each, with made-up detections as dense as the detector's: 100
an image over 80 classes. Everything runs as a user would run it, in processes of its own; the last line is JSON.
"""

import json
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

_PICTURE = 512  # px a side
_COPIES = 4
_DETECTOR = {"weights": "made up", "comparable": False}
_RULES = (
    "from pathlib import Path; import geneval; from geneval.detections import read_detections; "
    "from geneval.layout import read_layout; root = Path({root!r}); lines = read_detections(root); "
    "work = [(f.metadata, lines[s].detections, lines[s].colors) for f in read_layout(root)[0] for s in f.samples]; "
    "check = geneval.check"
)


def main(repeats: int = 7, detections: int = 100, out: Path | None = None) -> None:
    """Print seconds and verdicts a second with their spread.

    Args:
        repeats: timed runs of each, after one that is not timed
        detections: detections an image
        out: keep the folder of images here
    """
    with tempfile.TemporaryDirectory() as temporary:
        root = out or Path(temporary) / "images"
        num_images = make_folder(root, detections)
        command = [sys.executable, "-m", "geneval", "score", str(root), "--out", str(Path(temporary) / "r.jsonl")]
        whole = [_seconds(command) for _ in range(repeats + 1)][1:]
        rules = _rules_seconds(root, repeats)
    result = {
        "images": num_images,
        "detections_per_image": detections,
        "score_command": _spread(whole, num_images),
        "rules_alone": _spread(rules, num_images),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
    }
    for name, text in (("score_command", "the whole command"), ("rules_alone", "the rules alone")):
        found: Any = result[name]
        low, high = found["seconds_range"]
        print(
            f"{text}: {found['seconds']:.3f} s (median of {repeats}, {low:.3f} to {high:.3f}) for {num_images} images, "
            f"{found['verdicts_per_second']:,.0f} verdicts/s"
        )
    print(json.dumps(result))


def make_folder(root: Path, num_detections: int, seed: int = 0) -> int:
    """GenEval's prompts as folders with samples and a detections.jsonl; the number of images."""
    with tempfile.TemporaryDirectory() as prompts:
        _run([sys.executable, "-m", "geneval", "prompts", "--out", prompts])
        lines = (Path(prompts) / "evaluation_metadata.jsonl").read_text().splitlines()
    asked = {clause["class"]: None for line in lines for clause in json.loads(line)["include"]}
    rng = random.Random(seed)
    with_detections = []
    for index, line in enumerate(lines):
        samples = root / f"{index:05}" / "samples"
        samples.mkdir(parents=True, exist_ok=True)
        (samples.parent / "metadata.jsonl").write_text(line)
        for copy in range(_COPIES):
            (samples / f"{copy:05}.png").touch()  # score reads no pixels
            name = f"{index:05}/samples/{copy:05}.png"
            with_detections.append(_detections_line(name, json.loads(line), list(asked), num_detections, rng))
    (root / "detections.jsonl").write_text("".join(f"{line}\n" for line in with_detections))
    return len(with_detections)


def _detections_line(filename: str, metadata: Any, names: Sequence[str], number: int, rng: random.Random) -> str:
    """A few confident objects of the prompt's classes among many faint ones, as a detector answers."""
    rows: dict[str, list[list[float]]] = {}
    wanted = [clause["class"] for clause in metadata["include"] for _ in range(clause["count"])]
    for i in range(number):
        x0, y0 = rng.randrange(_PICTURE - 64), rng.randrange(_PICTURE - 64)
        box = [float(v) for v in (x0, y0, x0 + rng.randrange(8, 64), y0 + rng.randrange(8, 64))]
        name, score = (wanted[i], 1 - 0.3 * rng.random()) if i < len(wanted) else (rng.choice(names), rng.random() ** 8)
        rows.setdefault(name, []).append([*box, score])
    colors = {name: [rng.choice(("red", "blue")) for _ in rows[name]] for name in dict.fromkeys(wanted)}
    record = {"filename": filename, "size": [_PICTURE] * 2, "detections": rows, "colors": colors, "detector": _DETECTOR}
    return json.dumps(record, separators=(",", ":"))


def _seconds(command: Sequence[str]) -> float:
    started = time.perf_counter()
    _run(command)
    return time.perf_counter() - started


def _rules_seconds(root: Path, repeats: int) -> list[float]:
    """Seconds that the verdicts of the whole folder take once everything is read, as `timeit` measures them."""
    setup = _RULES.format(root=str(root))
    call = f"timeit.repeat('for w in work: check(*w)', {setup!r}, repeat={repeats + 1}, number=1)"
    code = f"import json, timeit; print(json.dumps({call}))"
    return json.loads(_run([sys.executable, "-c", code]))[1:]


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"error: {' '.join(command[:5])} ... exited with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def _spread(seconds: Sequence[float], num_images: int) -> dict[str, Any]:
    median = statistics.median(seconds)
    return {
        "seconds": median,
        "seconds_range": [min(seconds), max(seconds)],
        "verdicts_per_second": num_images / median,
        "verdicts_per_second_range": [num_images / max(seconds), num_images / min(seconds)],
        "repeats": len(seconds),
    }


if __name__ == "__main__":
    tyro.cli(main, prog="python -m benchmarks.speed.geneval", description=__doc__)
