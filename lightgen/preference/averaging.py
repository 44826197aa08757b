"""Preference training of several policies whose weights are averaged, and a step further the way that they went.

Policies that start from one model and differ in their draws and in the order of pairs move the same way and err each in
its own: the mean of their weights keeps the one and loses some of the other (weights of fine-tuned models averaged:
Wortsman et al. 2022, arXiv 2203.05482; of policies: Rame et al. 2024, arXiv 2406.16768). Extrapolation goes beyond what
was trained, start + factor (trained - start): Zheng et al. 2024, arXiv 2404.16792.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from lightgen.disk.atomic import write_text
from lightgen.disk.folders import temporary_folder
from lightgen.disk.json_files import write_json
from lightgen.disk.seeds import derive_seed
from lightgen.model.pipeline import LightGenPipeline
from lightgen.preference.config import PreferenceConfig
from lightgen.preference.dpo import run_settings, train_dpo
from lightgen.preference.drift import drift, fixed_errors
from lightgen.preference.encoded import encode_pairs, pair_draws
from lightgen.preference.pairs import read_pairs
from lightgen.training.config import LoopConfig
from lightgen.training.processes import make_accelerator
from lightgen.training.resume import finished_result, folder_identity, read_journal, read_lineage, write_lineage

SUMMED = ("samples", "seconds", "flops", "samples_per_second")  # of the policies; the others are averaged


def average_models(models: Sequence[Path], start: Path, out: Path, *, extrapolation: float = 1.0) -> Path:
    """A pipeline folder of the weights start + extrapolation (mean of the models - start), and all else of the first.

    ValueError where a model was not trained from `start`: then the mean of the weights means nothing.
    """
    if not models:
        raise ValueError("no models to average; give at least one")
    for model in models:
        if folder_identity(start) not in (folder_identity(model), *read_lineage(model)):
            raise ValueError(f"{start} is no ancestor of {model}; only models trained from it can be averaged")
    pipeline = LightGenPipeline.from_pretrained(models[0])
    weights = [_weights(model) for model in models]
    before = _weights(start)
    for name, value in pipeline.transformer.state_dict().items():
        mean = sum(found[name].double() for found in weights) / len(weights)
        value.copy_(before[name] + extrapolation * (mean - before[name]))
    with temporary_folder(out) as folder:
        pipeline.save_pretrained(folder)
        write_lineage(folder, parent=models[0])
    return out


def train_policies(
    config: PreferenceConfig,
    model: Path,
    pairs: Path,
    out: Path,
    *,
    policies: int = 1,
    extrapolation: float = 1.0,
    reference: Path | None = None,
    drift_from: Path | None = None,
    loop: LoopConfig = LoopConfig(),  # noqa: B008
    stop: Callable[[], bool] | None = None,
    on_step: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """`train_dpo` of `policies` policies on the same pairs, in OUT/policy_0, ..., whose average becomes OUT/model; with
    an `extrapolation` above 1 by as much further from the start as they went.

    Each has draws and an order of pairs of its own. OUT/metrics.jsonl holds the means of their rows; of the result,
    samples, seconds and flops are sums, drift is the average's own and status the first that is not complete.
    """
    if policies < 1:
        raise ValueError(f"policies is {policies}, must be at least 1")
    if not extrapolation > 0:
        raise ValueError(f"extrapolation is {extrapolation}, must be above 0")
    if policies == 1 and extrapolation == 1:
        return train_dpo(
            config, model, pairs, out, reference=reference, drift_from=drift_from, loop=loop, stop=stop, on_step=on_step
        )
    listed, out = read_pairs(pairs), Path(out)
    settings = {**run_settings(config, model, listed, reference, drift_from), "policies": policies}
    settings["extrapolation"] = extrapolation
    if (done := finished_result(out, settings)) is not None:
        return done
    accelerator = make_accelerator(config.precision)
    if accelerator.is_main_process:
        write_json(out / "training.json", {**settings, "result": None})
    results: list[dict[str, Any]] = []
    for number in range(policies):
        seed = config.seed if number == 0 else derive_seed(config.seed, "policy", number)

        def told(row: dict[str, Any], before: int = number * config.steps) -> None:
            if on_step is not None:
                on_step({**row, "step": before + row["step"]})

        own = dataclasses.replace(config, seed=seed)
        result = train_dpo(
            own, model, pairs, out / f"policy_{number}", reference=reference, drift_from=drift_from, loop=loop, stop=stop,
            on_step=told,
        )  # fmt: skip
        if result["status"] == "stopped":
            return result
        results.append(result)
    result = _together(results)
    if accelerator.is_main_process:
        folders = [out / f"policy_{number}" for number in range(policies)]
        write_text(out / "metrics.jsonl", _mean_rows([read_journal(folder / "metrics.jsonl") for folder in folders]))
        trained = [folder / "model" for folder in folders]
        average_models(trained, model, out / "model", extrapolation=extrapolation)
        result["drift"] = _drift(config, out / "model", drift_from or reference or model, pairs)
        write_json(out / "training.json", {**settings, "result": result})
    accelerator.wait_for_everyone()
    return result


def _weights(model: Path) -> dict[str, torch.Tensor]:
    return LightGenPipeline.from_pretrained(model).transformer.state_dict()


def _together(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    sums = {name: sum(result[name] for result in results) for name in ("samples", "seconds", "flops")}
    status = next((result["status"] for result in results if result["status"] != "complete"), "complete")
    return {"steps": max(result["steps"] for result in results), **sums, "status": status}


def _mean_rows(journals: Sequence[Sequence[dict[str, Any]]]) -> str:
    """JSON lines of the rows of those steps that every policy logged."""
    by_step = [{row["step"]: row for row in rows} for rows in journals]
    lines = []
    for step in sorted(set.intersection(*(set(rows) for rows in by_step))):
        found = [rows[step] for rows in by_step]
        total = {name: sum(row[name] for row in found) for name in found[0] if name != "step"}
        mean = {name: value if name in SUMMED else value / len(found) for name, value in total.items()}
        lines.append(json.dumps({"step": step, **mean}) + "\n")
    return "".join(lines)


def _drift(config: PreferenceConfig, model: Path, origin: Path, pairs: Path) -> dict[str, Any]:
    """The average's drift, on the draws that the first policy's is measured on."""
    pipeline = LightGenPipeline.from_pretrained(model)
    encoded = encode_pairs(read_pairs(pairs), pipeline)
    mar = pipeline.transformer
    grid, count = mar.token_grid(encoded.chosen[:1]), min(config.measured_pairs, len(encoded))

    def draws(ids: torch.Tensor, visits: torch.Tensor) -> Any:
        return pair_draws(mar.mar_config, ids, visits, grid, seed=config.seed, noise_draws=config.noise_draws)

    now, then = (
        fixed_errors(one.eval(), encoded, count, draws, batch_size=config.batch_size, device=encoded.chosen.device)
        for one in (mar, LightGenPipeline.from_pretrained(origin).transformer)
    )
    return drift(now, then)
