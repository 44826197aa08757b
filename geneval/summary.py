"""Scores as text: the original's summary byte for byte, and the table of a comparison."""

from collections.abc import Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]


def summary_text(rows: Rows) -> str:
    """What the original's summary prints for these rows; partial results say so in a last line."""
    images_by_task: dict[str, list[bool]] = {}
    images_by_prompt: dict[str, bool] = {}
    for row in rows:
        images_by_task.setdefault(row["tag"], []).append(row["correct"])
        images_by_prompt[row["metadata"]] = images_by_prompt.get(row["metadata"], False) or row["correct"]
    num_correct = sum(row["correct"] for row in rows)
    task_lines = [f"{tag:<16} = {_mean(task):.2%} ({sum(task)} / {len(task)})" for tag, task in images_by_task.items()]
    lines = [
        "Summary",
        "=======",
        f"Total images: {len(rows)}",
        f"Total prompts: {len(images_by_prompt)}",
        f"% correct images: {num_correct / len(rows):.2%}",
        f"% correct prompts: {_mean(list(images_by_prompt.values())):.2%}",
        "",
        "Task breakdown",
        "==============",
        *task_lines,
        "",
        f"Overall score (avg. over tasks): {_mean([_mean(task) for task in images_by_task.values()]):.5f}",
    ]
    if any(row.get("partial") for row in rows):
        lines.append("PARTIAL: scored with --allow-partial on an incomplete folder; not a GenEval score")
    return "".join(f"{line}\n" for line in lines)


def comparison_text(result: Mapping[str, Any]) -> str:
    """A line a task of what `comparison.compare_files` found."""
    lines = [f"{'task':<16} {'A':>7} {'B':>7} {'A - B':>8} {'95 % interval':>20} {'p':>8} {'resolves':>9}  prompts"]
    for tag, found in {**result["tasks"], "overall": result["overall"]}.items():
        interval = "[{:+.4f}, {:+.4f}]".format(*found["ci"])
        resolved = f"{found['p']:>8.4f} {found['detectable']:>9.4f}  {found['clusters']}"
        scores = f"{found['a']:>7.4f} {found['b']:>7.4f}"
        lines.append(f"{tag:<16} {scores} {found['value']:>+8.4f} {interval:>20} {resolved}")
    return "".join(f"{line}\n" for line in lines)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
