"""Direct Preference Optimization of the diffusion head's loss: what LightGen describes and did not release.

A pair's winner and loser, policy and reference all see the same mask, order, timesteps and noise, several noise draws
are averaged inside the sigmoid, and dropout and text drop are off: the margin is a small difference of large numbers.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from lightgen.disk.atomic import write_text
from lightgen.disk.seeds import derive_seed
from lightgen.model.card import model_card
from lightgen.model.folder import (
    load_encoders,
    load_transformer,
    model_identity,
    read_components,
    read_config,
    read_lineage,
    write_model,
)
from lightgen.model.mar import MAR
from lightgen.preference.adapter import merge_adapters
from lightgen.preference.averaging import average_models, average_results, average_rows
from lightgen.preference.config import PreferenceConfig
from lightgen.preference.drift import drift, fixed_errors
from lightgen.preference.encoded import EncodedPairs, encode_pairs, pair_draws
from lightgen.preference.pairs import Pair, pairs_sha256, read_pairs
from lightgen.preference.run import PreferenceRun
from lightgen.training.config import LoopConfig
from lightgen.training.journal import read_journal
from lightgen.training.lock import alone
from lightgen.training.loop import OnStep, Stop
from lightgen.training.processes import make_accelerator
from lightgen.training.record import finished_result, write_record

_Told = tuple[OnStep | None, ...]  # on_step and on_pace


def train_dpo(
    config: PreferenceConfig,
    model: Path,
    pairs: Path,
    out: Path,
    *,
    policies: int = 1,
    extrapolation: float = 1.0,
    reference: Path | None = None,
    drift_from: Path | None = None,
    vae: Path | None = None,
    text_encoder: Path | None = None,
    loop: LoopConfig = LoopConfig(),  # noqa: B008
    device: str = "auto",
    stop: Stop | None = None,
    on_step: OnStep | None = None,
    on_pace: OnStep | None = None,
) -> dict[str, Any]:
    """Continue a model or pipeline folder on a pairs.jsonl; writes OUT/model, metrics.jsonl and training.json as
    `train` does.

    The reference is the given model itself, or `reference`, one of its ancestors; `vae` and `text_encoder` are where
    its encoders lie now, if moved. Logged: loss, winner_drift and
    loser_drift (policy minus reference error), accuracy (share of pairs with a positive margin), margin, grad_norm and
    its parts. Result: steps, seconds, samples, flops, drift on fixed draws from `drift_from`, an ancestor too (the
    reference where none is given), and status: complete, stopped, diverged, or drifted, where the winner's error rose
    past `max_winner_drift`.

    Several `policies`, each with draws and an order of pairs of its own, are trained in OUT/policy_0, ...; OUT/model is
    the average of their weights, with an `extrapolation` above 1 as much further from the start as they went.
    metrics.jsonl then holds the means of their rows; samples, seconds and flops are sums, drift is the average's own.
    ValueError for a reference that is no ancestor, pairs that do not fit the model, and a folder of another run.
    """
    if policies < 1:
        raise ValueError(f"policies is {policies}, must be at least 1")
    if not extrapolation > 0:
        raise ValueError(f"extrapolation is {extrapolation}, must be above 0")
    accelerator = make_accelerator(config.precision, device)
    moved = {"vae": vae, "text_encoder": text_encoder}
    start = _Start(Path(model), read_pairs(pairs), reference, drift_from, moved, accelerator, loop, stop)
    with alone(Path(out), accelerator):
        if policies == 1 and extrapolation == 1:
            return _train_one(config, start, Path(out), (on_step, on_pace))
        return _train_several(config, start, Path(out), policies, extrapolation, (on_step, on_pace))


@dataclasses.dataclass(frozen=True)
class _Start:
    """What every policy starts from, and how its run is carried out."""

    model: Path
    pairs: Sequence[Pair]
    reference: Path | None
    drift_from: Path | None
    moved: Mapping[str, Path | None]  # encoders that no longer lie where the model says
    accelerator: Accelerator
    loop: LoopConfig
    stop: Stop | None

    @cached_property
    def encoded(self) -> EncodedPairs:
        """The pairs as the model reads them; the encoders are freed when this returns."""
        config, device = read_config(self.model), self.accelerator.device
        tokenizer, text = load_encoders(self.model, **self.moved)
        return encode_pairs(self.pairs, tokenizer.to(device), text.to(device), config)

    def settings(self, config: PreferenceConfig) -> dict[str, Any]:
        """What a run is known by; ValueError where the reference, or what drift is measured from, is no ancestor."""
        if self.reference is not None and config.reference == "adapter":
            raise ValueError("reference 'adapter' is the start with its adapters off; no other model can be given")
        return {
            "preference": dataclasses.asdict(config),
            "start": model_identity(self.model),
            "reference": self._ancestor(self.reference),
            "drift_from": self._ancestor(self.drift_from or self.reference),
            "pairs": pairs_sha256(self.pairs),
        }

    def _ancestor(self, folder: Path | None) -> str:
        own = model_identity(self.model)
        identity = own if folder is None else model_identity(folder)
        if identity not in (own, *read_lineage(self.model)):
            raise ValueError(
                f"{folder} is no ancestor of {self.model}: a margin is measured from where the policy started; give a"
                " model that it was trained from, or none"
            )
        return identity


def _train_one(config: PreferenceConfig, start: _Start, out: Path, told: _Told) -> dict[str, Any]:
    """One policy, in OUT."""
    settings = start.settings(config)
    if (done := finished_result(out, settings)) is not None:
        return done
    if start.accelerator.is_main_process:
        write_record(out, settings)
    policy = load_transformer(start.model)
    others = {"first_reference": start.reference, "origin": start.drift_from}
    loaded = {name: None if folder is None else load_transformer(folder) for name, folder in others.items()}
    run = PreferenceRun(config, policy, start.encoded, out, start.accelerator, settings, **loaded, loop=start.loop)
    result = run.run(start.stop, *told)
    if result["status"] != "stopped" and start.accelerator.is_main_process:
        if config.lora_rank:
            merge_adapters(policy)
        ancestors = [*read_lineage(start.model), settings["start"]]
        card = model_card(policy.mar_config, policy.num_parameters(), settings, result)
        components = read_components(start.model, **start.moved)._asdict()
        write_model(policy, out / "model", **components, ancestors=ancestors, card=card)
        write_record(out, settings, result)
    start.accelerator.wait_for_everyone()
    return result


def _train_several(
    config: PreferenceConfig, start: _Start, out: Path, policies: int, extrapolation: float, told: _Told
) -> dict[str, Any]:
    """Policies in OUT/policy_0, ..., one after the other, and their average in OUT/model."""
    settings = {**start.settings(config), "policies": policies, "extrapolation": extrapolation}
    if (done := finished_result(out, settings)) is not None:
        return done
    if start.accelerator.is_main_process:
        write_record(out, settings)
    folders = [out / f"policy_{number}" for number in range(policies)]
    results: list[dict[str, Any]] = []
    for number, folder in enumerate(folders):
        seed = config.seed if number == 0 else derive_seed(config.seed, "policy", number)
        shown = tuple(None if one is None else _counted_on(one, number * config.steps) for one in told)
        results.append(_train_one(dataclasses.replace(config, seed=seed), start, folder, shown))
        if results[-1]["status"] == "stopped":
            return results[-1]
    result = average_results(results)
    if start.accelerator.is_main_process:
        rows = average_rows([read_journal(folder / "metrics.jsonl") for folder in folders])
        write_text(out / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        trained = [folder / "model" for folder in folders]
        first = load_transformer(start.model)
        card = model_card(first.mar_config, first.num_parameters(), settings, result)
        average_models(trained, start.model, out / "model", extrapolation=extrapolation, card=card, **start.moved)
        result["drift"] = _drift(config, start, out / "model")
        write_record(out, settings, result)
    start.accelerator.wait_for_everyone()
    return result


def _counted_on(on_step: OnStep, before: int) -> OnStep:
    """`on_step` for rows of a policy before which others took `before` steps."""
    return lambda row: on_step({**row, "step": before + row["step"]})


def _drift(config: PreferenceConfig, start: _Start, model: Path) -> dict[str, Any]:
    """The average's drift, on the draws that the first policy's is measured on."""
    pairs, device = start.encoded, start.accelerator.device
    count = min(config.measured_pairs, len(pairs))

    def errors(folder: Path) -> torch.Tensor:
        mar: MAR = load_transformer(folder).to(device)
        grid = mar.token_grid(pairs.chosen[:1])

        def draws(ids: torch.Tensor, visits: torch.Tensor) -> Any:
            return pair_draws(mar.mar_config, ids, visits, grid, seed=config.seed, noise_draws=config.noise_draws)

        return fixed_errors(mar, pairs, count, draws, batch_size=config.batch_size, device=device)

    return drift(errors(model), errors(start.drift_from or start.reference or start.model))
