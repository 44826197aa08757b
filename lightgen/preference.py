"""Direct Preference Optimization of the diffusion head's loss: what LightGen describes and did not release.

A pair's winner and loser, policy and reference all see the same mask, order, timesteps and noise, several noise draws
are averaged inside the sigmoid, and dropout and text drop are off: the margin is a small difference of large numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lightgen.adapter import merge_adapters
from lightgen.atomic import write_json
from lightgen.checkpoint import temporary_folder
from lightgen.encoded_pairs import encode_pairs
from lightgen.pairs import Pair, pairs_sha256, read_pairs
from lightgen.pipeline import LightGenPipeline
from lightgen.preference_loss import KINDS, Kind
from lightgen.preference_run import PreferenceRun
from lightgen.processes import make_accelerator
from lightgen.resume import finished_result, folder_identity, read_lineage, write_lineage


@dataclass(frozen=True, kw_only=True)
class PreferenceConfig:
    """One preference run. Defaults suit a small model; LightGen states beta 5000 and a learning rate of 1e-8."""

    kind: Kind = "sigmoid"  # simpo has no reference; sft lowers the winners' error alone, the control
    beta: float = 500.0  # of the mean squared error, see `preference_loss`
    learning_rate: float = 5e-5
    warmup_steps: int = 0  # linear
    schedule: Literal["constant", "cosine"] = "constant"  # after the warm-up
    batch_size: int = 48  # pairs a step, over all processes
    steps: int = 200
    noise_draws: int = 4  # timesteps and noises of each token, averaged inside the sigmoid
    draws_per_pair: int = 16  # seeds in a pair's pool; epoch e uses number e modulo this
    seed: int = 0
    # The errors are of what sampling at this scale predicts; 1: of the conditional prediction alone, as Diffusion-DPO
    guidance_scale: float = 1.0
    margin: float = 0.0  # SimPO's gamma: by how much the logit should exceed 0
    dpop: float = 0.0  # DPO-positive's penalty on a winner whose error rises
    sdpo: bool = False  # Diffusion-SDPO: the loser's gradient is cut where it would raise the winner's error
    sdpo_mu: float = 0.5  # 0 cuts just enough, towards 1 the winner alone is followed
    sft: float = 0.0  # weight of the winner's own error in the loss
    train: Literal["all", "head", "trunk"] = "all"  # what is not frozen
    lora_rank: int = 0  # train adapters of this rank instead of the weights (peft); they are merged at the end
    # precomputed: its errors are stored before training; held: a second model in memory; adapter: the adapters off
    reference: Literal["precomputed", "held", "adapter"] = "precomputed"
    refresh_every: int = 0  # steps after which the policy becomes the reference (TR-DPO's hard update); 0 = never
    max_winner_drift: float = 0.2  # the run ends as "drifted" where a logged winner drift is above this
    measured_pairs: int = 512  # pairs at most whose drift from the first reference is measured at the end
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.95
    clip_norm: float = 1.0
    log_every: int = 1  # steps
    save_every_seconds: float = 60.0
    precision: Literal["fp32", "bf16"] = "fp32"

    def __post_init__(self) -> None:
        for name in (
            "beta",
            "learning_rate",
            "batch_size",
            "steps",
            "noise_draws",
            "draws_per_pair",
            "log_every",
            "guidance_scale",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}, must be above 0")
        for name in ("dpop", "sft", "lora_rank", "refresh_every", "warmup_steps", "measured_pairs"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, must not be negative")
        choices = {
            "kind": KINDS,
            "schedule": ("constant", "cosine"),
            "train": ("all", "head", "trunk"),
            "reference": ("precomputed", "held", "adapter"),
        }
        for name, valid in choices.items():
            if getattr(self, name) not in valid:
                raise ValueError(f"{name} is {getattr(self, name)!r}; valid: {', '.join(valid)}")
        if not 0 <= self.sdpo_mu < 1:
            raise ValueError(f"sdpo_mu is {self.sdpo_mu}, must lie in [0, 1)")
        if self.reference == "adapter" and (self.lora_rank == 0 or self.refresh_every):
            raise ValueError("reference 'adapter' needs lora_rank above 0 and refresh_every 0: it is the adapters off")
        if self.reference == "held" and self.lora_rank and self.refresh_every:
            raise ValueError("a held reference has no adapters to take over; refresh with reference 'precomputed'")


def train_dpo(
    config: PreferenceConfig,
    model: Path,
    pairs: Path,
    out: Path,
    *,
    reference: Path | None = None,
    drift_from: Path | None = None,
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
    run = PreferenceRun(config, pipeline.transformer, first, encoded, out, accelerator, settings, origin)
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
