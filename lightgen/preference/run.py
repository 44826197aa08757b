"""One run of preference training: the loop, its reference, what it logs, and the state it goes on from after a kill."""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightgen.model.mar import MAR
from lightgen.model.masking import Draws
from lightgen.preference.adapter import adapters_off, add_adapters
from lightgen.preference.drift import drift, fixed_errors
from lightgen.preference.encoded import EncodedPairs, PairErrors, pair_draws, pair_errors
from lightgen.preference.loss import dpo_loss, safeguard, scale_gradient, simpo_loss
from lightgen.preference.reference_errors import ReferenceErrors
from lightgen.training.config import LoopConfig
from lightgen.training.optimization import learning_rate_at, make_optimizer, set_learning_rate
from lightgen.training.processes import any_process, is_step_finite
from lightgen.training.resume import (
    Journal,
    load_state,
    pack_optimizer,
    prefixed,
    read_journal,
    save_state,
    unpack_optimizer,
    without_prefix,
)
from lightgen.training.train import order

if TYPE_CHECKING:
    from accelerate import Accelerator

    from lightgen.preference.config import PreferenceConfig


class PreferenceRun:
    """The policy, its optimizer, the reference and the position of one run."""

    MEASURED = (
        "loss", "winner_drift", "loser_drift", "accuracy", "margin", "grad_norm", "head_grad_norm", "trunk_grad_norm",
    )  # fmt: skip

    def __init__(
        self,
        config: PreferenceConfig,
        policy: MAR,
        first_reference: MAR | None,
        pairs: EncodedPairs,
        out: Path,
        accelerator: Accelerator,
        settings: dict[str, Any],
        origin: MAR | None = None,
        loop: LoopConfig = LoopConfig(),  # noqa: B008
    ):
        self.options = loop
        self.config, self.pairs, self.out, self.accelerator = config, pairs, out, accelerator
        self.device = accelerator.device
        self.first_reference = None if first_reference is None else first_reference.to(self.device).eval()
        self.origin = None if origin is None else origin.to(self.device).eval()
        self.held: MAR | None = None
        if config.reference == "held":
            self.held = self.first_reference or copy.deepcopy(policy.to(self.device).eval())
            self.held.requires_grad_(False)
        # Evaluation mode turns dropout off; gradients flow all the same.
        self.policy = _trainable(policy, config).to(self.device).eval()
        self.trained = {name: p for name, p in self.policy.named_parameters() if p.requires_grad}
        self.optimizer = make_optimizer(
            policy,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            betas=(config.beta1, config.beta2),
        )
        self.grid = policy.token_grid(pairs.chosen[:1])
        self.pool = min(config.draws_per_pair, math.ceil(config.steps * config.batch_size / len(pairs)))
        given = ("seed", "noise_draws", "draws_per_pair", "precision", "guidance_scale")
        self.identity = {
            **{name: settings["preference"][name] for name in given},
            "model": settings["reference"],
            "pairs": settings["pairs"],
        }
        self.step, self.seconds, self.count, self.reference_step = 0, 0.0, 0, 0
        self.drift_from = settings["drift_from"]
        self.sums = torch.zeros(len(self.MEASURED), device=self.device)
        self.healthy = True

    def loop(self, stop: Callable[[], bool] | None, on_step: Callable[[dict[str, Any]], None] | None) -> dict[str, Any]:
        """Run to the end, a stop, a loss that is not finite, or a winner that drifted too far."""
        if not self.prepare(stop):
            return self._result("stopped")
        forward = self.accelerator.prepare_model(self.policy)
        journal = Journal(self.out / "metrics.jsonl", self.step) if self.accelerator.is_main_process else None
        saved, status = time.monotonic(), self._status_so_far()
        try:
            while self.step < self.config.steps and status == "complete":
                if any_process(self.accelerator, stop is not None and stop()) or not self._refresh_if_due(stop):
                    status = "stopped"
                    break
                began = time.monotonic()
                self.one_step(forward)
                self.seconds += time.monotonic() - began
                if self.step % self.config.drift_every == 0 or self.step == self.config.steps or not self.healthy:
                    row = self._row()
                    if not self.healthy:
                        status = "diverged"
                        break
                    if journal is not None:
                        journal.write(row)
                    if on_step is not None:
                        on_step(row)
                    status = self._status_after(row)
                if any_process(self.accelerator, time.monotonic() - saved > self.options.save_every_seconds):
                    self._save()
                    saved = time.monotonic()
        finally:
            if journal is not None:
                journal.close()
        if status == "diverged" and self.device.type != "cpu":
            self._load(load_state(self.out / "resume"))  # bad steps may have been taken before they were seen
        self._save()
        return self._result(status)

    def _status_after(self, row: dict[str, Any]) -> str:
        return "drifted" if row["winner_drift"] > self.config.max_winner_drift else "complete"

    def _status_so_far(self) -> str:
        """The status at a resumed step: a run that had drifted and was killed before it said so has still drifted."""
        rows = read_journal(self.out / "metrics.jsonl")
        return self._status_after(rows[-1]) if rows and rows[-1]["step"] == self.step else "complete"

    # --- the reference ------------------------------------------------------------------------------------------------

    def prepare(self, stop: Callable[[], bool] | None = None) -> bool:
        """Compute what only the first reference can give, take up an earlier state; False where `stop` ended it."""
        self.first_errors = ReferenceErrors(
            self.out / "first_reference.safetensors",
            1,
            len(self.pairs),
            {**self.identity, "model": self.drift_from, "guidance_scale": 1.0, "fixed": True},
        )
        measured = [(0, pair) for pair in range(min(self.config.measured_pairs, len(self.pairs)))]
        if not self._fill(self.first_errors, self.origin or self.first_reference, measured, 1.0, stop):
            return False
        self.origin = None  # training holds one model
        state = load_state(self.out / "resume")
        self.reference_step = 0 if state is None else state[2]["reference_step"]
        if self.reference_step == 0 and not self._prepare_stretch(stop):
            return False
        self._load(state)
        return self.reference_step == 0 or self._prepare_stretch(stop)

    def _refresh_if_due(self, stop: Callable[[], bool] | None) -> bool:
        """Make the policy the reference at every `refresh_every` steps; False where `stop` ended it."""
        every = self.config.refresh_every
        if not every or self.step % every or self.step == self.reference_step:
            return True
        self.reference_step, self.first_reference = self.step, None
        if self.held is not None:
            self.held.load_state_dict(self.policy.state_dict())
        self._save()
        return self._prepare_stretch(stop)

    def _prepare_stretch(self, stop: Callable[[], bool] | None) -> bool:
        """Compute and store the reference errors of every (visit, pair) up to the next refresh or the end."""
        config = self.config
        if config.reference != "precomputed":
            return True
        name = f"reference_{self.reference_step:06d}.safetensors" if self.reference_step else "reference.safetensors"
        identity = {**self.identity, **({"refreshed": self.reference_step} if self.reference_step else {})}
        self.errors = ReferenceErrors(self.out / name, self.pool, len(self.pairs), identity)
        last = min(config.steps, self.reference_step + (config.refresh_every or config.steps))
        ids, visits = self._schedule(
            self.reference_step * config.batch_size, (last - self.reference_step) * config.batch_size
        )
        wanted = sorted(set(zip(visits.tolist(), ids.tolist())))
        if self.step > self.reference_step and self.errors.missing(wanted):
            raise ValueError(f"{self.errors.path} is gone, and with it the model it was made by; remove {self.out}")
        return self._fill(self.errors, self.first_reference, wanted, config.guidance_scale, stop)

    def _fill(
        self,
        errors: ReferenceErrors,
        model: MAR | None,
        wanted: list[tuple[int, int]],
        guidance: float,
        stop: Callable[[], bool] | None,
    ) -> bool:
        """Compute those errors of the model, or of the policy as it is; False where `stop` ended it."""
        finished = True
        if self.accelerator.is_main_process:
            with self.accelerator.autocast():
                finished = errors.fill(
                    model or self.policy,
                    self.pairs,
                    wanted,
                    self._draws,
                    batch_size=self.config.batch_size,
                    device=self.device,
                    guidance=guidance,
                    stop=stop,
                    save_every_seconds=self.options.save_every_seconds,
                )
        self.accelerator.wait_for_everyone()
        if not self.accelerator.is_main_process and errors.path.is_file():
            errors.load()
        return not any_process(self.accelerator, not finished)

    def _reference(self, ids: Tensor, visits: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """The reference's errors (B,) of chosen and rejected images."""
        if self.config.reference == "precomputed":
            winner, loser = self.errors.at(ids, visits)
            return winner.to(self.device), loser.to(self.device)
        off = contextlib.nullcontext() if self.held is not None else adapters_off(self.policy)
        with torch.no_grad(), self.accelerator.autocast(), off:
            return self._errors(self.held or self.policy, ids, draws)[:2]

    def _errors(self, forward: Callable[..., Any], ids: Tensor, draws: Draws) -> PairErrors:
        return pair_errors(forward, self.pairs, ids, draws, self.device, self.config.guidance_scale)

    # --- a step -------------------------------------------------------------------------------------------------------

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

    def one_step(self, forward: Callable[..., Any]) -> None:
        """One optimizer step on this process's part of a batch; `forward` is the policy, or what wraps it."""
        config, accelerator = self.config, self.accelerator
        ids, visits = self._schedule(self.step * config.batch_size, config.batch_size)
        ids, visits = (part[accelerator.process_index :: accelerator.num_processes] for part in (ids, visits))
        draws = self._draws(ids, visits)
        reference = self._reference(ids, visits, draws)
        errors = self._errors(forward, ids, draws)
        loss = self._loss(errors, *reference)
        accelerator.backward(loss)
        norms = self._clip()
        self.healthy = is_step_finite(norms[0], loss, self.accelerator)
        if not self.healthy:
            return
        rate = learning_rate_at(
            self.step,
            peak=config.learning_rate,
            warmup_steps=config.warmup_steps,
            total_steps=config.steps,
            schedule=config.schedule,
        )
        set_learning_rate(self.optimizer, rate)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        winner_drift, loser_drift = errors.chosen.detach() - reference[0], errors.rejected.detach() - reference[1]
        margin = loser_drift - winner_drift
        measured = (loss.detach(), winner_drift.mean(), loser_drift.mean(), (margin > 0).float().mean(), margin.mean())
        self.sums += torch.stack([*measured, *norms])
        self.count += 1
        self.step += 1

    def _loss(self, errors: PairErrors, reference_winner: Tensor, reference_loser: Tensor) -> Tensor:
        config, winner, loser = self.config, errors.chosen, errors.rejected
        if config.kind == "sft":
            return winner.mean()
        if config.sdpo:
            loser = scale_gradient(loser, safeguard(winner, errors.overlap, config.sdpo_mu))
        if config.kind == "simpo":
            losses = simpo_loss(winner, loser, beta=config.beta, margin=config.margin)
        else:
            losses = dpo_loss(
                winner, loser, reference_winner, reference_loser, beta=config.beta, kind=config.kind, dpop=config.dpop
            )
        return losses.mean() + config.sft * winner.mean()

    def _clip(self) -> tuple[Tensor, Tensor, Tensor]:
        """The gradient's norm, the head's and the trunk's, before the whole was cut to `clip_norm`."""
        parts: list[list[Tensor]] = [[], []]
        for name, parameter in self.trained.items():
            if parameter.grad is not None:
                parts[not name.startswith("head.")].append(parameter.grad)
        head, trunk = (torch.nn.utils.get_total_norm(part, foreach=True).to(self.device) for part in parts)
        total = torch.hypot(head, trunk)
        # Where looking costs nothing, a pass over all gradients that would multiply them by 1 is left out.
        if total.device.type != "cpu" or not total <= self.config.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(self.trained.values(), self.config.clip_norm, total, foreach=True)
        return total, head, trunk

    # --- what is told and kept ----------------------------------------------------------------------------------------

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
        samples, flops, drift = self.step * self.config.batch_size, 0, None
        if status != "stopped" and self.accelerator.is_main_process:
            flops = self._measure_flops() * samples
            drift = None if status == "diverged" else self._measure_drift()
        seconds = round(self.seconds, 3)
        done = {"steps": self.step, "seconds": seconds, "samples": samples, "flops": flops, "status": status}
        return {**done, **({} if drift is None else {"drift": drift})}

    def _measure_drift(self) -> dict[str, Any]:
        count = min(self.config.measured_pairs, len(self.pairs))
        with self.accelerator.autocast():
            now = fixed_errors(
                self.policy, self.pairs, count, self._draws, batch_size=self.config.batch_size, device=self.device
            )
        return drift(now, self.first_errors.values[:, 0, :count])

    def _measure_flops(self) -> int:
        """Floating-point operations of one pair in the policy's forward and backward pass."""
        from torch.utils.flop_counter import FlopCounterMode

        ids = torch.arange(min(4, len(self.pairs)))
        draws = self._draws(ids, torch.zeros_like(ids))
        with FlopCounterMode(display=False) as counter:
            found = self._errors(self.policy, ids, draws)
            (found.chosen + found.rejected).mean().backward()
        self.optimizer.zero_grad(set_to_none=True)
        return counter.get_total_flops() // len(ids)

    def _save(self) -> None:
        if not (self.healthy and self.accelerator.is_main_process and math.isfinite(self.sums.sum().item())):
            return
        refreshed = self.held is not None and self.reference_step > 0
        tensors = {
            **prefixed("model", self.policy.state_dict()),
            **(prefixed("reference", self.held.state_dict()) if self.held is not None and refreshed else {}),
            **pack_optimizer(self.optimizer),
            "sums": self.sums,
        }
        record = {"seconds": self.seconds, "count": self.count, "reference_step": self.reference_step}
        save_state(self.out / "resume", self.step, tensors, record)

    def _load(self, state: tuple[int, dict[str, Tensor], dict[str, Any]] | None) -> None:
        if state is None:
            return
        self.step, tensors, record = state
        self.policy.load_state_dict(without_prefix("model", tensors))
        if self.held is not None and record["reference_step"]:
            self.held.load_state_dict(without_prefix("reference", tensors))
        unpack_optimizer(self.optimizer, tensors)
        self.sums.copy_(tensors["sums"])
        self.seconds, self.count, self.reference_step = record["seconds"], record["count"], record["reference_step"]
        if self.reference_step:
            self.first_reference = None


def _trainable(policy: MAR, config: PreferenceConfig) -> MAR:
    """The policy with adapters where they are asked for, and everything else that is not trained frozen."""
    if config.lora_rank:
        add_adapters(policy, config.lora_rank, part=config.train, seed=config.seed)
        return policy
    for name, parameter in policy.named_parameters():
        parameter.requires_grad_(config.train == "all" or (config.train == "head") == name.startswith("head."))
    return policy
