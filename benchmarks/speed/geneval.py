"""How fast `python -m geneval score` is: the whole command on a folder of 2,212 images, and the rules alone.

The folder holds GenEval's own 553 prompts, four samples each, with made-up detections as dense as the detector's: 100
an image over 80 classes. Everything runs as a user would run it, in processes of its own, and is timed in processor
time: other jobs lengthen the wait, not the work. The last line is JSON.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed.config import GenevalSpeed
from benchmarks.speed.report import Report
from benchmarks.speed.timer import in_turn, summary

_PICTURE = 512  # px a side
_COPIES = 4
_DETECTOR = {"weights": "made up", "comparable": False}
_RULES = (
    "from pathlib import Path; import geneval; from geneval.detections import read_detections; "
    "from geneval.layout import read_layout; root = Path({root!r}); lines = read_detections(root); "
    "work = [(f.metadata, lines[s].detections, lines[s].colors) for f in read_layout(root)[0] for s in f.samples]; "
    "check = geneval.check"
)


def run_benchmark(config: GenevalSpeed) -> dict[str, Any]:
    """Seconds and verdicts a second of the command and of the rules, with their spread."""
    report = Report("geneval", config)
    with tempfile.TemporaryDirectory() as temporary:
        root = config.images or Path(temporary) / "images"
        count = make_folder(root, config.detections)
        report.add("", images=count, detections_per_image=config.detections)
        command = [sys.executable, "-m", "geneval", "score", str(root), "--out", str(Path(temporary) / "r.jsonl")]
        tasks = {"score": lambda: _run(command)}
        own, wall = in_turn(tasks, config.repetitions + 1, _children_seconds, time.perf_counter)
        line, found = _spread("the whole command", own["score"][1:], count)
        report.add(line, score_command=found | {"wall": summary(wall["score"][1:])})
        line, found = _spread("the rules alone", _rules_seconds(root, config.repetitions), count)
        report.add(line, rules_alone=found)
    return report.finish()


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


def _rules_seconds(root: Path, repetitions: int) -> list[float]:
    """Processor seconds that the verdicts of the whole folder take once everything is read, as `timeit` counts them."""
    setup = _RULES.format(root=str(root))
    call = f"repeat('for w in work: check(*w)', {setup!r}, process_time, {repetitions + 1}, 1)"
    code = f"import json; from time import process_time; from timeit import repeat; print(json.dumps({call}))"
    return json.loads(_run([sys.executable, "-c", code]))[1:]


def _children_seconds() -> float:
    """Processor time of the processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:5])} ... exited with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def _spread(text: str, seconds: list[float], num_images: int) -> tuple[str, dict[str, Any]]:
    found = summary(seconds)
    rates = [num_images / found[name] for name in ("median", "most", "least")]
    line = f"{text}: {found['median']:.3f} s (median of {len(seconds)}, {found['least']:.3f} to {found['most']:.3f})"
    record = {"seconds": found, "verdicts_per_second": rates[0], "verdicts_per_second_range": rates[1:]}
    return f"{line} for {num_images} images, {rates[0]:,.0f} verdicts/s", record
