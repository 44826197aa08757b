"""Two or more results files: each score, and how the first one differs from the others, prompt by prompt."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from geneval.protocol import differing
from geneval.scores import read_provenance, read_results
from geneval.statistics import compare, summarize
from geneval.summary import comparison_text

Rows = Sequence[Mapping[str, Any]]


def compare_files(paths: Sequence[Path], common: bool = False) -> list[dict[str, Any]]:
    """What `statistics.compare` finds of the first file and each other, with both scores of each row as `a` and `b`,
    the files' names and states, what they were scored and generated with differently, and the detector."""
    files: list[Rows] = [read_results(path) for path in paths]
    left_out = 0
    if common:
        files, left_out = shared_rows(files)
    try:
        return [_pair(paths[0], files[0], path, rows, left_out) for path, rows in zip(paths[1:], files[1:])]
    except ValueError as error:
        raise ValueError(str(error) if common else f"{error}; --common compares what both have") from None


def shared_rows(files: Sequence[Rows]) -> tuple[list[Rows], int]:
    """The rows of the prompts that all files have, of each prompt the first as many as its fewest, and how many rows
    were left out; ValueError where no prompt is shared."""
    counts = [_counts(rows) for rows in files]
    fewest = {prompt: min(found.get(prompt, 0) for found in counts) for prompt in counts[0]}
    kept: list[Rows] = []
    for rows in files:
        left = dict(fewest)
        part = []
        for row in rows:
            if left.get(row["metadata"], 0) > 0:
                left[row["metadata"]] -= 1
                part.append(row)
        kept.append(part)
    if not kept[0]:
        raise ValueError("the files have no prompt in common")
    return kept, sum(map(len, files)) - sum(map(len, kept))


def status(rows: Rows) -> str:
    """Whether the rows are of a whole folder."""
    return "partial" if any(row.get("partial") for row in rows) else "complete"


def file_text(found: Mapping[str, Any]) -> str:
    """One comparison as a table, and what must be known of it."""
    (path_a, path_b), lines = (
        found["files"],
        [f"A {found['files'][0]}\nB {found['files'][1]}\n", comparison_text(found)],
    )
    for path, state in zip(found["files"], found["status"]):
        if state == "partial":
            lines.append(f"PARTIAL: {path} was scored with --allow-partial on an incomplete folder\n")
    if found["left_out"]:
        lines.append(f"COMMON: {found['left_out']} images were left out that not all files have; no GenEval score\n")
    if found["scored_differently"]:
        names = " and ".join(found["scored_differently"])
        lines.append(f"note: A and B were scored with different {names}; see {path_a}.json and {path_b}.json\n")
    if found["generated_differently"]:
        names = ", ".join(found["generated_differently"])
        lines.append(f"note: A and B were generated with different {names}; the difference holds both\n")
    return "".join(lines)


def _counts(rows: Rows) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        found[row["metadata"]] = found.get(row["metadata"], 0) + 1
    return found


def _pair(path_a: Path, a: Rows, path_b: Path, b: Rows, left_out: int) -> dict[str, Any]:
    made, result = [read_provenance(path) for path in (path_a, path_b)], compare(a, b)
    scores = [summarize(a), summarize(b)]
    for name, row in {**result["tasks"], "overall": result["overall"]}.items():
        row["a"], row["b"] = ((s["tasks"].get(name) or s["overall"])["value"] for s in scores)
    scored = [name for name in ("options", "detector") if all(made) and made[0].get(name) != made[1].get(name)]
    return {
        "files": [str(path_a), str(path_b)],
        "status": [status(a), status(b)],
        "left_out": left_out,
        "scored_differently": scored,
        "generated_differently": differing(*made),
        "detector": next((record["detector"] for record in made if "detector" in record), None),
        **result,
    }
