"""Direct Preference Optimization of the diffusion head's loss: what LightGen describes and did not release.

A pair's winner and loser, policy and reference all see the same mask, order, timesteps and noise, several noise draws
are averaged inside the sigmoid, and dropout and text drop are off: the margin is a small difference of large numbers.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lightgen.atomic import write_json
from lightgen.checkpoint import temporary_folder
from lightgen.mar import MAR
from lightgen.masking import Draws
from lightgen.optimization import learning_rate_at, make_optimizer, set_learning_rate
from lightgen.pairs import pairs_sha256, read_pairs
from lightgen.pipeline import LightGenPipeline
from lightgen.processes import any_process, is_step_finite, make_accelerator
from lightgen.reference import EncodedPairs, ReferenceErrors, encode_pairs, pair_draws, pair_errors
from lightgen.resume import (
    Journal,
    finished_result,
    folder_identity,
    load_state,
    pack_optimizer,
    prefixed,
    read_journal,
    save_state,
    unpack_optimizer,
    without_prefix,
)
from lightgen.training import order

if TYPE_CHECKING:
    from accelerate import Accelerator

LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": lambda logits: -F.logsigmoid(logits),  # Diffusion-DPO
    "hinge": lambda logits: F.relu(1 - logits),  # SLiC
    "ipo": lambda logits: (logits - 0.5).square(),  # IPO's square, times beta squared
}


def dpo_loss(
    policy_winner: Tensor,
    policy_loser: Tensor,
    reference_winner: Tensor,
    reference_loser: Tensor,
    *,
    beta: float,
    kind: Literal["sigmoid", "ipo", "hinge"] = "sigmoid",
    dpop: float = 0.0,
) -> Tensor:
    """The Diffusion-DPO loss (Wallace et al. 2023, arXiv 2311.12908, equation 14) of each pair, (B,).

    Arguments are denoising errors (B,), so lower is likelier. With d = policy - reference, the logit is
    -(beta / 2) (d_winner - d_loser), the factor 1/2 as in that paper's code; the paper's T w(lambda) is part of beta.
    `dpop` adds DPO-positive's penalty inside: d_winner counts `dpop` times more where it is above 0 (2402.13228).
    """
    if beta <= 0:
        raise ValueError(f"beta is {beta}, must be above 0")
    if kind not in LOSSES:
        raise ValueError(f"kind is {kind!r}; valid: {', '.join(LOSSES)}")
    winner_drift, loser_drift = policy_winner - reference_winner, policy_loser - reference_loser
    penalty = dpop * F.relu(winner_drift)
    return LOSSES[kind](-0.5 * beta * (winner_drift - loser_drift + penalty))


@dataclass(frozen=True, kw_only=True)
class PreferenceConfig:
    """One DPO run. Defaults suit a small model; LightGen states beta 5000 and a learning rate of 1e-8."""

    beta: float = 500.0  # of the mean squared error, see `dpo_loss`
    learning_rate: float = 5e-5
    warmup_steps: int = 0  # linear
    batch_size: int = 48  # pairs a step, over all processes
    steps: int = 200
    noise_draws: int = 4  # timesteps and noises of each token, averaged inside the sigmoid
    draws_per_pair: int = 16  # seeds in a pair's pool; epoch e uses number e modulo this
    seed: int = 0
    kind: Literal["sigmoid", "ipo", "hinge", "sft"] = "sigmoid"  # sft: the winners' error alone, the control
    dpop: float = 0.0  # DPO-positive's penalty on a winner whose error rises
    sft: float = 0.0  # weight of the winner's own error in the loss
    train: Literal["all", "head", "trunk"] = "all"  # what is not frozen
    reference: Literal["precomputed", "held"] = "precomputed"  # held keeps a second model in memory
    max_winner_drift: float = 0.2  # the run ends as "drifted" where the logged winner drift is above this
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.95
    clip_norm: float = 1.0
    log_every: int = 5  # steps
    save_every_seconds: float = 60.0
    precision: Literal["fp32", "bf16"] = "fp32"

    def __post_init__(self) -> None:
        for name in ("beta", "learning_rate", "batch_size", "steps", "noise_draws", "draws_per_pair", "log_every"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}, must be above 0")
        if self.kind != "sft" and self.kind not in LOSSES:
            raise ValueError(f"kind is {self.kind!r}; valid: {', '.join(LOSSES)}, sft")
        if self.train not in ("all", "head", "trunk"):
            raise ValueError(f"train is {self.train!r}; valid: all, head, trunk")


def train_dpo(
    config: PreferenceConfig,
    model: Path,
    pairs: Path,
    out: Path,
    *,
    stop: Callable[[], bool] | None = None,
    on_step: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Continue a pipeline folder on a pairs.jsonl; writes OUT/model, metrics.jsonl and training.json as `train` does.

    The reference is the given model itself. Logged: loss, winner_drift and loser_drift (policy minus reference
    error), accuracy (share of pairs with a positive margin), margin, grad_norm. Status: complete, stopped, diverged,
    or drifted, where the winner's error rose past `max_winner_drift`.
    """
    out = Path(out)
    accelerator = make_accelerator(config.precision)
    listed = read_pairs(pairs)
    settings = {
        "preference": dataclasses.asdict(config),
        "start": folder_identity(model),
        "pairs": pairs_sha256(listed),
    }
    if (done := finished_result(out, settings)) is not None:
        return done
    if accelerator.is_main_process:
        write_json(out / "training.json", {**settings, "result": None})
    pipeline = LightGenPipeline.from_pretrained(model)
    pipeline.to(accelerator.device)
    encoded = encode_pairs(listed, pipeline)
    pipeline.vae.to("cpu")
    pipeline.text_encoder.to("cpu")
    run = _Run(config, pipeline.transformer, encoded, out, accelerator, settings)
    result = run.loop(stop, on_step)
    if result["status"] != "stopped" and accelerator.is_main_process:
        with temporary_folder(out / "model") as folder:
            pipeline.save_pretrained(folder)
        write_json(out / "training.json", {**settings, "result": result})
    accelerator.wait_for_everyone()
    return result


class _Run:
    """The policy, its optimizer, the reference and the position of one run."""

    MEASURED = ("loss", "winner_drift", "loser_drift", "accuracy", "margin", "grad_norm")

    def __init__(
        self,
        config: PreferenceConfig,
        policy: MAR,
        pairs: EncodedPairs,
        out: Path,
        accelerator: Accelerator,
        settings: dict[str, Any],
    ):
        self.config, self.pairs, self.out, self.accelerator = config, pairs, out, accelerator
        self.device = accelerator.device
        # Evaluation mode turns dropout off; gradients flow all the same.
        self.policy = policy.to(self.device).eval()
        for name, parameter in policy.named_parameters():
            parameter.requires_grad_(config.train == "all" or (config.train == "head") == name.startswith("head."))
        self.held = copy.deepcopy(self.policy) if config.reference == "held" else None
        self.optimizer = make_optimizer(
            policy,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            betas=(config.beta1, config.beta2),
        )
        self.grid = policy.token_grid(pairs.chosen[:1])
        self.pool = min(config.draws_per_pair, math.ceil(config.steps * config.batch_size / len(pairs)))
        drawn = {name: settings["preference"][name] for name in ("seed", "noise_draws", "draws_per_pair", "precision")}
        identity = {**drawn, "model": settings["start"], "pairs": settings["pairs"]}
        self.errors = ReferenceErrors(out / "reference.safetensors", self.pool, len(pairs), identity)
        self.step, self.seconds, self.count = 0, 0.0, 0
        self.sums = torch.zeros(len(self.MEASURED), device=self.device)
        self.healthy = True

    def loop(self, stop: Callable[[], bool] | None, on_step: Callable[[dict[str, Any]], None] | None) -> dict[str, Any]:
        """Run to the end, a stop, a loss that is not finite, or a winner that drifted too far."""
        if not self._prepare_reference(stop):
            return self._result("stopped")
        self._load()
        forward = self.accelerator.prepare_model(self.policy)
        journal = Journal(self.out / "metrics.jsonl", self.step) if self.accelerator.is_main_process else None
        saved, status = time.monotonic(), self._status_so_far()
        try:
            while self.step < self.config.steps and status == "complete":
                if any_process(self.accelerator, stop is not None and stop()):
                    status = "stopped"
                    break
                began = time.monotonic()
                self._one_step(forward)
                self.seconds += time.monotonic() - began
                if self.step % self.config.log_every == 0 or self.step == self.config.steps or not self.healthy:
                    row = self._row()
                    if not self.healthy:
                        status = "diverged"
                        break
                    if journal is not None:
                        journal.write(row)
                    if on_step is not None:
                        on_step(row)
                    status = self._status_after(row)
                if any_process(self.accelerator, time.monotonic() - saved > self.config.save_every_seconds):
                    self._save()
                    saved = time.monotonic()
        finally:
            if journal is not None:
                journal.close()
        if status == "diverged" and self.device.type != "cpu":
            self._load()  # bad steps may have been taken before they were seen
        self._save()
        return self._result(status)

    def _status_after(self, row: dict[str, Any]) -> str:
        return "drifted" if row["winner_drift"] > self.config.max_winner_drift else "complete"

    def _status_so_far(self) -> str:
        """The status at a resumed step: a run that had drifted and was killed before it said so has still drifted."""
        rows = read_journal(self.out / "metrics.jsonl")
        return self._status_after(rows[-1]) if rows and rows[-1]["step"] == self.step else "complete"

    def _prepare_reference(self, stop: Callable[[], bool] | None) -> bool:
        """Compute and store the reference errors of every (visit, pair) this run will meet."""
        if self.held is not None:
            return True
        finished = True
        if self.accelerator.is_main_process:
            total = self.config.steps * self.config.batch_size
            ids, visits = self._schedule(0, total)
            wanted = sorted(set(zip(visits.tolist(), ids.tolist())))
            with self.accelerator.autocast():
                finished = self.errors.fill(
                    self.policy,
                    self.pairs,
                    wanted,
                    self._draws,
                    batch_size=self.config.batch_size,
                    device=self.device,
                    stop=stop,
                    save_every_seconds=self.config.save_every_seconds,
                )
        self.accelerator.wait_for_everyone()
        if not self.accelerator.is_main_process:
            self.errors._load()
        return not any_process(self.accelerator, not finished)

    def _schedule(self, position: int, count: int) -> tuple[Tensor, Tensor]:
        """(pair numbers, pool entries) at a position of the stream of shuffled epochs."""
        ids = order(self.config.seed, position, count, len(self.pairs))
        visits = torch.arange(position, position + count) // len(self.pairs) % self.pool
        return ids, visits

    def _draws(self, ids: Tensor, visits: Tensor) -> Draws:
        config = self.config
        return pair_draws(
            self.policy.mar_config, ids, visits, self.grid, seed=config.seed, noise_draws=config.noise_draws
        )

    def _one_step(self, forward: Callable[..., Any]) -> None:
        config, accelerator = self.config, self.accelerator
        ids, visits = self._schedule(self.step * config.batch_size, config.batch_size)
        ids, visits = (part[accelerator.process_index :: accelerator.num_processes] for part in (ids, visits))
        draws = self._draws(ids, visits)
        winner, loser = pair_errors(forward, self.pairs, ids, draws, self.device)
        winner_reference, loser_reference = self._reference(ids, visits, draws)
        if config.kind == "sft":
            loss = winner.mean()
        else:
            reference = winner_reference, loser_reference
            losses = dpo_loss(winner, loser, *reference, beta=config.beta, kind=config.kind, dpop=config.dpop)
            loss = losses.mean() + config.sft * winner.mean()
        accelerator.backward(loss)
        trained = [parameter for parameter in self.policy.parameters() if parameter.requires_grad]
        norm = torch.nn.utils.clip_grad_norm_(trained, config.clip_norm, foreach=True)
        self.healthy = is_step_finite(norm, loss, self.accelerator)
        if not self.healthy:
            return
        rate = learning_rate_at(
            self.step, peak=config.learning_rate, warmup_steps=config.warmup_steps, total_steps=config.steps
        )
        set_learning_rate(self.optimizer, rate)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        winner_drift, loser_drift = winner.detach() - winner_reference, loser.detach() - loser_reference
        margin = loser_drift - winner_drift
        measured = (loss.detach(), winner_drift.mean(), loser_drift.mean(), (margin > 0).float().mean(), margin.mean())
        self.sums += torch.stack([*measured, norm])
        self.count += 1
        self.step += 1

    def _reference(self, ids: Tensor, visits: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        if self.held is None:
            winner, loser = self.errors.at(ids, visits)
            return winner.to(self.device), loser.to(self.device)
        with torch.no_grad(), self.accelerator.autocast():
            return pair_errors(self.held, self.pairs, ids, draws, self.device)

    def _row(self) -> dict[str, Any]:
        sums = self.accelerator.reduce(self.sums, "mean") if self.accelerator.num_processes > 1 else self.sums
        values = dict(zip(self.MEASURED, (sums / max(1, self.count)).tolist()))
        self.healthy = self.healthy and all(math.isfinite(value) for value in values.values())
        self.sums.zero_()
        self.count = 0
        pairs_seen = self.step * self.config.batch_size
        return {
            "step": self.step,
            "samples": pairs_seen,
            **values,
            "lr": self.optimizer.param_groups[0]["lr"],
            "seconds": round(self.seconds, 3),
            "samples_per_second": round(pairs_seen / max(self.seconds, 1e-9), 1),
        }

    def _result(self, status: str) -> dict[str, Any]:
        samples, flops = self.step * self.config.batch_size, 0
        if status != "stopped":
            flops = self._measure_flops() * samples
        seconds = round(self.seconds, 3)
        return {"steps": self.step, "seconds": seconds, "samples": samples, "flops": flops, "status": status}

    def _measure_flops(self) -> int:
        """Floating-point operations of one pair in the policy's forward and backward pass."""
        from torch.utils.flop_counter import FlopCounterMode

        ids = torch.arange(min(4, len(self.pairs)))
        draws = self._draws(ids, torch.zeros_like(ids))
        with FlopCounterMode(display=False) as counter:
            winner, loser = pair_errors(self.policy, self.pairs, ids, draws, self.device)
            (winner + loser).mean().backward()
        self.optimizer.zero_grad(set_to_none=True)
        return counter.get_total_flops() // len(ids)

    def _save(self) -> None:
        if not (self.healthy and self.accelerator.is_main_process and math.isfinite(self.sums.sum().item())):
            return
        tensors = {
            **prefixed("model", self.policy.state_dict()),
            **pack_optimizer(self.optimizer),
            "sums": self.sums,
        }
        save_state(self.out / "resume", self.step, tensors, {"seconds": self.seconds, "count": self.count})

    def _load(self) -> None:
        state = load_state(self.out / "resume")
        if state is None:
            return
        self.step, tensors, record = state
        self.policy.load_state_dict(without_prefix("model", tensors))
        unpack_optimizer(self.optimizer, tensors)
        self.sums.copy_(tensors["sums"])
        self.seconds, self.count = record["seconds"], record["count"]
