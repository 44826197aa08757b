"""Verdicts for a folder of images from its detections.jsonl alone; results.jsonl with the original's bytes."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from geneval.atomic import write_text
from geneval.comparability import comparability
from geneval.completeness import IncompleteFolder, expected_prompts, find_problems, stale
from geneval.detections import ImageDetections, read_detections
from geneval.json_files import parse_json, read_object, read_text, sealed_text
from geneval.layout import PromptFolder, read_layout
from geneval.options import DEFAULTS, DETECTING, Options
from geneval.prompts import Prompt, prompts_sha256
from geneval.protocol import read_generation
from geneval.rules import MissingColor
from geneval.verdicts import judge_line

FIELDS = ("filename", "tag", "prompt", "correct", "reason", "metadata", "details")  # in the original's order


class ResultsError(ValueError):
    """A line of a results file that cannot be used; the message names file and line."""


def score_folder(
    images: Path,
    out: Path | None = None,
    *,
    options: Mapping[str, object] | Options = DEFAULTS,
    prompts: Sequence[Prompt] | Path | None = None,
    allow_partial: bool = False,
    copies: int | None = None,
) -> list[dict[str, Any]]:
    """The rows of results.jsonl (`FIELDS`) of a whole folder, written to `out` if given, with OUT.json beside it.

    `prompts`: what the folder must hold (default: the official 553, four images each). What is missing, unreadable,
    double or foreign raises one `IncompleteFolder` that lists it; `allow_partial` scores the rest and adds
    `"partial": true` to each row.
    """
    options = Options.parse(options)
    if copies is not None and copies < 1:
        raise ValueError(f"copies is {copies}, must be at least 1")
    images, lines = Path(images), read_detections(Path(images))
    _check_options(options, lines)
    folders, problems = read_layout(images)
    expected = expected_prompts(prompts)
    default = 4 if prompts is None else None
    problems += find_problems(folders, lines, expected, default if copies is None else copies)
    changed = stale(images, folders, lines)
    problems += changed.values()
    lines = {name: line for name, line in lines.items() if name not in changed}
    if problems and not allow_partial:
        raise IncompleteFolder(images, problems, prompts)
    rows = [_row(images, folder, line, options) for folder, line in _scored(folders, lines)]
    if not rows:
        raise IncompleteFolder(images, [*problems, "nothing to score"])
    if problems:
        rows = [{**row, "partial": True} for row in rows]
    if out is not None:
        _write(Path(out), rows, _provenance(images, expected, options, lines, problems))
    return rows


def grade_folder(
    images: Path,
    *,
    options: Mapping[str, object] | Options = DEFAULTS,
) -> dict[str, float]:
    """filename (relative to `images`) -> grade in [0, 1], 1 exactly for a correct image; any folder with detections."""
    options = Options.parse(options)
    folders, _ = read_layout(Path(images))
    scored = _scored(folders, read_detections(Path(images)))
    return {line.filename: judge_line(folder.metadata, line, options).grade for folder, line in scored}


def write_grades(images: Path, out: Path, *, options: Mapping[str, object] | Options = DEFAULTS) -> None:
    """JSON lines of filename, prompt, tag and score (the grade): what a ranking of a model's own samples reads."""
    grades = grade_folder(images, options=options)
    folders, _ = read_layout(Path(images))
    lines = [
        {"filename": sample, "prompt": f.metadata["prompt"], "tag": f.metadata["tag"], "score": grades[sample]}
        for f in folders
        for sample in f.samples
        if sample in grades
    ]
    write_text(Path(out), "".join(json.dumps(line) + "\n" for line in lines))


def format_results(rows: Sequence[Mapping[str, Any]]) -> str:
    """The text of results.jsonl: compact, ASCII, slashes escaped, as pandas writes it for the original."""
    lines = (json.dumps(row, separators=(",", ":")).replace("/", "\\/") for row in rows)
    return "".join(f"{line}\n" for line in lines)


def read_results(path: Path) -> list[dict[str, Any]]:
    """The rows of a results.jsonl, ours or the original's; `ResultsError` names a line that is torn or wrong.

    A file that lost or changed rows since `score` wrote it, by what stands beside it, is refused; so is a double image.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such results file")
    text = read_text(path, ResultsError)
    rows = [_row_of(line, f"{path}:{i}") for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not rows:
        raise ResultsError(f"{path}: holds no rows")
    names = Counter(str(row["filename"]) for row in rows if "filename" in row)
    if names and (most := names.most_common(1)[0])[1] > 1:
        raise ResultsError(f"{path}: {most[0]} occurs {most[1]} times")
    _check_provenance(path, text, len(rows))
    return rows


def read_provenance(results: Path) -> dict[str, Any]:
    """What `score` wrote beside a results file; empty for a file of the original."""
    path = results.with_name(results.name + ".json")
    try:
        said = read_object(path, ResultsError, "score the folder again")
    except FileNotFoundError:
        return {}
    if not isinstance(said.get("detector", {}), dict):
        raise ResultsError(f"{path}: 'detector' must be an object; score the folder again")
    return said


def _check_provenance(path: Path, text: str, num_rows: int) -> None:
    said = read_provenance(path)
    if "sha256" in said and said["sha256"] != hashlib.sha256(text.encode()).hexdigest():
        raise ResultsError(
            f"{path}: {num_rows} rows that are not the {said.get('rows')} that {path.name}.json was written with; "
            "score the folder again"
        )


def _scored(
    folders: Sequence[PromptFolder], lines: Mapping[str, ImageDetections]
) -> Iterator[tuple[PromptFolder, ImageDetections]]:
    for folder in folders:
        for sample in folder.samples:
            if sample in lines:
                yield folder, lines[sample]


def _row(images: Path, folder: PromptFolder, line: ImageDetections, options: Options) -> dict[str, Any]:
    try:
        judged = judge_line(folder.metadata, line, options)
    except MissingColor as error:
        raise MissingColor(f"{images / line.filename}: {error}") from None
    return {
        "filename": os.path.join(images, line.filename),
        "tag": folder.metadata["tag"],
        "prompt": folder.metadata["prompt"],
        "correct": judged.correct,
        "reason": judged.reason,
        "metadata": json.dumps(folder.metadata),
        "details": json.dumps(judged.kept),
    }


def _check_options(options: Options, lines: Mapping[str, ImageDetections]) -> None:
    """Refuse options that were decided when the objects were detected: here they would change nothing."""
    for line in lines.values():
        made = {"clip_model": (line.detector.get("clip") or {}).get("name", ""), **line.detector.get("crop", {})}
        for name in DETECTING:
            value = getattr(options, name)
            if value != getattr(DEFAULTS, name) and not str(made.get(name, value)).startswith(value):
                raise ValueError(f"option {name}={value} belongs to `detect`; these detections have {made[name]!r}")
        return


def _provenance(
    images: Path,
    expected: Sequence[Prompt],
    options: Options,
    lines: Mapping[str, ImageDetections],
    problems: Sequence[str],
) -> dict[str, Any]:
    """What a score depends on, for OUT.json: a score of one provenance is never compared with another's."""
    detector = dict(next(iter(lines.values())).detector)
    return {
        "schema": 1,
        "prompts_sha256": prompts_sha256(expected),
        "options": {n: getattr(options, n) for n in Options.__dataclass_fields__ if n not in DETECTING},
        "detector": detector,
        **comparability(detector),
        "generation": read_generation(images),
        "sizes": sorted({line.size for line in lines.values()}),
        "status": "partial" if problems else "complete",
        "problems": list(problems),
    }


def _write(out: Path, rows: Sequence[Mapping[str, Any]], provenance: Mapping[str, Any]) -> None:
    text = format_results(rows)
    said = {**provenance, "rows": len(rows), "sha256": hashlib.sha256(text.encode()).hexdigest()}
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out.with_name(out.name + ".json"), sealed_text(said))
    write_text(out, text)


def _row_of(text: str, where: str) -> dict[str, Any]:
    row = parse_json(text, where, ResultsError)
    if not isinstance(row, dict):
        raise ResultsError(f"{where}: must be a JSON object")
    if missing := [name for name in ("tag", "prompt", "correct", "metadata") if name not in row]:
        raise ResultsError(f"{where}: has no {', '.join(missing)}")
    if not isinstance(row["correct"], bool):
        raise ResultsError(f"{where}: 'correct' must be true or false, not {row['correct']!r}")
    if not all(isinstance(row[name], str) for name in ("tag", "prompt", "metadata")):
        raise ResultsError(f"{where}: 'tag', 'prompt' and 'metadata' must be strings")
    return row
