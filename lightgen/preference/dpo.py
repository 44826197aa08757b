"""Direct Preference Optimization of the diffusion head's loss: what LightGen describes and did not release.

A pair's winner and loser, policy and reference all see the same mask, order, timesteps and noise, several noise draws
are averaged inside the sigmoid, and dropout and text drop are off: the margin is a small difference of large numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightgen.disk.folders import temporary_folder
from lightgen.disk.json_files import write_json
from lightgen.model.pipeline import LightGenPipeline
from lightgen.preference.adapter import merge_adapters
from lightgen.preference.config import PreferenceConfig
from lightgen.preference.encoded import encode_pairs
from lightgen.preference.pairs import Pair, pairs_sha256, read_pairs
from lightgen.preference.run import PreferenceRun
from lightgen.training.config import LoopConfig
from lightgen.training.processes import make_accelerator
from lightgen.training.resume import finished_result, folder_identity, read_lineage, write_lineage


def train_dpo(
    config: PreferenceConfig,
    model: Path,
    pairs: Path,
    out: Path,
    *,
    reference: Path | None = None,
    drift_from: Path | None = None,
    loop: LoopConfig = LoopConfig(),  # noqa: B008
    stop: Callable[[], bool] | None = None,
    on_step: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Continue a pipeline folder on a pairs.jsonl; writes OUT/model, metrics.jsonl and training.json as `train` does.

    The reference is the given model itself, or `reference`, one of its ancestors. Logged each step: loss, winner_drift
    and loser_drift (policy minus reference error), accuracy (share of pairs with a positive margin), margin, grad_norm
    and its parts. Result: steps, seconds, samples, flops, drift on fixed draws from `drift_from`, an ancestor too (the
    reference where none is given), and status: complete, stopped, diverged, or drifted, where the winner's error rose
    past `max_winner_drift`.
    """
    out = Path(out)
    accelerator = make_accelerator(config.precision)
    listed = read_pairs(pairs)
    settings = run_settings(config, model, listed, reference, drift_from)
    if (done := finished_result(out, settings)) is not None:
        return done
    if accelerator.is_main_process:
        write_json(out / "training.json", {**settings, "result": None})
    pipeline = LightGenPipeline.from_pretrained(model)
    pipeline.to(accelerator.device)
    encoded = encode_pairs(listed, pipeline)
    pipeline.vae.to("cpu")
    pipeline.text_encoder.to("cpu")
    first = None if reference is None else LightGenPipeline.from_pretrained(reference).transformer
    origin = None if drift_from is None else LightGenPipeline.from_pretrained(drift_from).transformer
    run = PreferenceRun(config, pipeline.transformer, first, encoded, out, accelerator, settings, origin, loop)
    result = run.loop(stop, on_step)
    if result["status"] != "stopped" and accelerator.is_main_process:
        if config.lora_rank:
            merge_adapters(pipeline.transformer)
        with temporary_folder(out / "model") as folder:
            pipeline.save_pretrained(folder)
            write_lineage(folder, parent=model)
        write_json(out / "training.json", {**settings, "result": result})
    accelerator.wait_for_everyone()
    return result


def run_settings(
    config: PreferenceConfig, model: Path, pairs: Sequence[Pair], reference: Path | None, drift_from: Path | None
) -> dict[str, Any]:
    """What a run is known by; ValueError where the reference, or what drift is told from, is no ancestor."""
    return {
        "preference": dataclasses.asdict(config),
        "start": folder_identity(model),
        "reference": _ancestor(model, reference, config),
        "drift_from": _ancestor(model, drift_from or reference),
        "pairs": pairs_sha256(pairs),
    }


def _ancestor(model: Path, reference: Path | None, config: PreferenceConfig | None = None) -> str:
    """The identity of the reference; ValueError where the policy did not start from it, or `config` has another."""
    if reference is None:
        return folder_identity(model)
    identity = folder_identity(reference)
    if identity not in (folder_identity(model), *read_lineage(model)):
        raise ValueError(
            f"{reference} is no ancestor of {model}: a margin is measured from where the policy started; give a model"
            " that it was trained from, or none"
        )
    if config is not None and config.reference == "adapter":
        raise ValueError("reference 'adapter' is the start with its adapters off; no other model can be given")
    return identity
