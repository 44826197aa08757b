"""The average of several policies' weights, and a step further the way that they went.

Policies that start from one model and differ in their draws and in the order of pairs move the same way and err each in
its own: the mean of their weights keeps the one and loses some of the other (weights of fine-tuned models averaged:
Wortsman et al. 2022, arXiv 2203.05482; of policies: Rame et al. 2024, arXiv 2406.16768). Extrapolation goes beyond what
was trained, start + factor (trained - start): Zheng et al. 2024, arXiv 2404.16792.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightgen.model.folder import load_transformer, model_identity, read_components, read_lineage, write_model

SUMMED = ("samples", "seconds", "flops", "samples_per_second")  # of the policies; the others are averaged


def average_models(
    models: Sequence[Path], start: Path, out: Path, *, extrapolation: float = 1.0, card: str = "", **moved: Path | None
) -> Path:
    """A model folder of the weights start + extrapolation (mean of the models - start), with its own `card` and all
    else of the first, whose encoders lie where `moved` (vae=, text_encoder=) or the model itself says.

    ValueError where a model was not trained from `start`: then the mean of the weights means nothing.
    """
    if not models:
        raise ValueError("no models to average; give at least one")
    for model in models:
        if model_identity(start) not in (model_identity(model), *read_lineage(model)):
            raise ValueError(f"{start} is no ancestor of {model}; only models trained from it can be averaged")
    average = load_transformer(models[0])
    weights = [load_transformer(model).state_dict() for model in models]
    before = load_transformer(start).state_dict()
    for name, value in average.state_dict().items():
        mean = sum(found[name].double() for found in weights) / len(weights)
        value.copy_(before[name] + extrapolation * (mean - before[name]))
    ancestors = [*read_lineage(models[0]), model_identity(models[0])]
    write_model(average, out, **read_components(models[0], **moved)._asdict(), ancestors=ancestors, card=card)
    return out


def average_rows(journals: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The policies' means, or sums, of the rows of those steps that every policy logged."""
    by_step = [{row["step"]: row for row in rows} for rows in journals]
    shared = sorted(set.intersection(*(set(rows) for rows in by_step)))
    return [{"step": step, **_together([rows[step] for rows in by_step])} for step in shared]


def average_results(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One result of all policies: sums of samples, seconds and flops, and the first status that is not complete."""
    sums = {name: sum(result[name] for result in results) for name in ("samples", "seconds", "flops")}
    status = next((result["status"] for result in results if result["status"] != "complete"), "complete")
    return {"steps": max(result["steps"] for result in results), **sums, "status": status}


def _together(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    totals = {name: sum(row[name] for row in rows) for name in rows[0] if name != "step"}
    return {name: total if name in SUMMED else total / len(rows) for name, total in totals.items()}
