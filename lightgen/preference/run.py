"""One run of preference training: what a step minimizes, and the reference that it is measured from."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from lightgen.model.mar import MAR
from lightgen.model.masking import Draws
from lightgen.preference.adapter import adapters_off, add_adapters
from lightgen.preference.config import PreferenceConfig
from lightgen.preference.drift import drift, fixed_errors
from lightgen.preference.encoded import EncodedPairs, PairErrors, pair_draws, pair_errors
from lightgen.preference.loss import dpo_loss, safeguard, scale_gradient, simpo_loss
from lightgen.preference.reference_errors import ReferenceErrors
from lightgen.training.config import LoopConfig
from lightgen.training.loop import Run, Stop, Sums
from lightgen.training.order import order
from lightgen.training.processes import any_process
from lightgen.training.state import load_state, prefixed, without_prefix


class PreferenceRun(Run):
    """The policy, the pairs, and the reference: stored errors, a second model, or the policy without its adapters.

    `settings` are `run_settings`; `first_reference` and `origin` are the models that margins and drift are measured
    from, None where that is the policy as it starts.
    """

    names = (
        "loss", "winner_drift", "loser_drift", "accuracy", "margin", "grad_norm", "head_grad_norm", "trunk_grad_norm",
    )  # fmt: skip
    config: PreferenceConfig

    def __init__(
        self,
        config: PreferenceConfig,
        policy: MAR,
        pairs: EncodedPairs,
        out: Path,
        accelerator: Accelerator,
        settings: dict[str, Any],
        *,
        first_reference: MAR | None = None,
        origin: MAR | None = None,
        loop: LoopConfig = LoopConfig(),  # noqa: B008
    ):
        device = accelerator.device
        self.pairs, self.settings = pairs, settings
        self.first_reference = None if first_reference is None else first_reference.to(device).eval()
        self.origin = None if origin is None else origin.to(device).eval()
        self.held: MAR | None = None
        if config.reference == "held":
            self.held = self.first_reference or copy.deepcopy(policy.to(device).eval())
            self.held.requires_grad_(False)
        # Evaluation mode turns dropout off; gradients flow all the same.
        super().__init__(config, _trainable(policy, config).to(device).eval(), out, accelerator, loop)
        self.parts: list[list[Tensor]] = [[], []]  # of the head and of the trunk
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                self.parts[not name.startswith("head.")].append(parameter)
        self.sums["drift"] = Sums(1, device)  # of the winners, since it was last held against its bound
        self.grid = policy.token_grid(pairs.chosen[:1])
        self.pool = min(config.draws_per_pair, math.ceil(config.steps * config.batch_size / len(pairs)))
        self.reference_step = 0  # at which the policy last became the reference

    # --- the reference --------------------------------------------------------------------------------------------

    def prepare(self, stop: Stop | None) -> bool:
        """Compute what only the first reference can give, take up an earlier state; False where `stop` ended it."""
        self.first_errors = ReferenceErrors(
            self.out / "first_reference.safetensors",
            1,
            len(self.pairs),
            {**self._identity(), "model": self.settings["drift_from"], "guidance_scale": 1.0, "fixed": True},
        )
        measured = [(0, pair) for pair in range(self._num_measured())]
        if not self._fill(self.first_errors, self.origin or self.first_reference, measured, 1.0, stop):
            return False
        self.origin = None  # training holds one model
        state = load_state(self.out / "resume")
        self.reference_step = 0 if state is None else state[2]["reference_step"]
        if self.reference_step == 0 and not self._store_reference(stop):
            return False
        self.load(state)
        return self.reference_step == 0 or self._store_reference(stop)

    def ready(self, stop: Stop | None) -> bool:
        """Make the policy the reference at every `refresh_every` steps; False where `stop` ended it."""
        every = self.config.refresh_every
        if not every or self.step % every or self.step == self.reference_step:
            return True
        self.reference_step, self.first_reference = self.step, None
        if self.held is not None:
            self.held.load_state_dict(self.model.state_dict())
        self.save()
        return self._store_reference(stop)

    def _identity(self) -> dict[str, Any]:
        """What decides the reference's errors."""
        given = ("seed", "noise_draws", "draws_per_pair", "precision", "guidance_scale")
        chosen = {name: self.settings["preference"][name] for name in given}
        return {**chosen, "model": self.settings["reference"], "pairs": self.settings["pairs"]}

    def _store_reference(self, stop: Stop | None) -> bool:
        """Compute and store the reference errors of every (visit, pair) up to the next refresh or the end."""
        config, since = self.config, self.reference_step
        if config.reference != "precomputed":
            return True
        name = f"reference_{since:06d}.safetensors" if since else "reference.safetensors"
        identity = {**self._identity(), **({"refreshed": since} if since else {})}
        self.errors = ReferenceErrors(self.out / name, self.pool, len(self.pairs), identity)
        last = min(config.steps, since + (config.refresh_every or config.steps))
        ids, visits = self._schedule(since * config.batch_size, (last - since) * config.batch_size)
        wanted = sorted(set(zip(visits.tolist(), ids.tolist())))
        if self.step > since and self.errors.missing(wanted):
            raise ValueError(f"{self.errors.path} is gone, and with it the model it was made by; remove {self.out}")
        return self._fill(self.errors, self.first_reference, wanted, config.guidance_scale, stop)

    def _fill(
        self,
        errors: ReferenceErrors,
        model: MAR | None,
        wanted: list[tuple[int, int]],
        guidance: float,
        stop: Stop | None,
    ) -> bool:
        """Compute those errors of the model, or of the policy as it is; False where `stop` ended it."""
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        missing = errors.missing(wanted)
        with self.accelerator.autocast():
            finished = errors.fill(
                model or self.model,
                self.pairs,
                missing[rank::world],
                self._draws,
                batch_size=self.config.batch_size,
                device=self.device,
                guidance=guidance,
                stop=stop,
                save_every_seconds=self.pace.save_every_seconds,
                keeps=rank == 0,
            )
        if world > 1 and missing:
            errors.share(self.accelerator, keeps=rank == 0)
        return not any_process(self.accelerator, not finished)

    def _reference(self, ids: Tensor, visits: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """The reference's errors (B,) of chosen and rejected images."""
        if self.config.reference == "precomputed":
            winner, loser = self.errors.at(ids, visits)
            return winner.to(self.device, non_blocking=True), loser.to(self.device, non_blocking=True)
        off = contextlib.nullcontext() if self.held is not None else adapters_off(self.model)
        with torch.no_grad(), self.accelerator.autocast(), off:
            return self._errors(self.held or self.model, ids, draws)[:2]

    def _errors(self, forward: Callable[..., Any], ids: Tensor, draws: Draws) -> PairErrors:
        return pair_errors(forward, self.pairs, ids, draws, self.device, self.config.guidance_scale)

    # --- a step ---------------------------------------------------------------------------------------------------

    def losses(self, parts: int) -> Iterator[tuple[Tensor, list[Tensor]]]:
        config, accelerator = self.config, self.accelerator
        ids, visits = self._schedule(self.step * config.batch_size, config.batch_size)
        ids, visits = (part[accelerator.process_index :: accelerator.num_processes] for part in (ids, visits))
        if parts == 1:
            yield self._loss(ids, visits)
            return
        for some, at in zip(ids.tensor_split(parts), visits.tensor_split(parts)):
            loss, measured = self._loss(some, at)
            yield loss * (len(some) / len(ids)), [value * (len(some) / len(ids)) for value in measured]

    def _loss(self, ids: Tensor, visits: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The loss of some pairs and what is logged with it."""
        draws = self._draws(ids, visits)
        reference = self._reference(ids, visits, draws)
        errors = self._errors(self.forward, ids, draws)
        winner_drift, loser_drift = errors.chosen.detach() - reference[0], errors.rejected.detach() - reference[1]
        margin = loser_drift - winner_drift
        measured = [winner_drift.mean(), loser_drift.mean(), (margin > 0).float().mean(), margin.mean()]
        return self._pair_loss(errors, *reference), measured

    def trained(self) -> list[list[Tensor]]:
        return self.parts

    def after_step(self, values: Tensor) -> None:
        """Every `drift_every` steps, end a run whose winners' error rose past its bound."""
        self.sums["drift"].add(values[1:2])
        if self.step % self.config.drift_every == 0 or self.step == self.config.steps:
            (mean,) = self.sums["drift"].means(self.accelerator)
            self.healthy = math.isfinite(mean)
            if mean > self.config.max_winner_drift:
                self.status = "drifted"

    def tensors(self) -> dict[str, Tensor]:
        refreshed = self.held is not None and self.reference_step > 0
        return prefixed("reference", self.held.state_dict()) if self.held is not None and refreshed else {}

    def record(self) -> dict[str, Any]:
        return {"reference_step": self.reference_step}

    def restore(self, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        self.reference_step = record["reference_step"]
        if not self.reference_step:
            return
        self.first_reference = None
        if self.held is not None:
            self.held.load_state_dict(without_prefix("reference", tensors))

    def _schedule(self, position: int, count: int) -> tuple[Tensor, Tensor]:
        """(pair numbers, pool entries) at a position of the stream of shuffled epochs."""
        ids = order(self.config.seed, position, count, len(self.pairs))
        visits = torch.arange(position, position + count) // len(self.pairs) % self.pool
        return ids, visits

    def _draws(self, ids: Tensor, visits: Tensor) -> Draws:
        config = self.config
        draws = pair_draws(
            self.model.mar_config, ids, visits, self.grid, seed=config.seed, noise_draws=config.noise_draws
        )
        return draws.bucketed(self.model.mar_config) if self.pace.compile else draws

    def _pair_loss(self, errors: PairErrors, reference_winner: Tensor, reference_loser: Tensor) -> Tensor:
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

    # --- what a run ends with -------------------------------------------------------------------------------------

    def result(self, status: str) -> dict[str, Any]:
        """As every run's, and the drift on fixed draws, unless the run was stopped or diverged."""
        done = super().result(status)
        if status in ("stopped", "diverged") or not self.accelerator.is_main_process:
            return done
        count = self._num_measured()
        with self.accelerator.autocast():
            now = fixed_errors(
                self.model, self.pairs, count, self._draws, batch_size=self.config.batch_size, device=self.device
            )
        return {**done, "drift": drift(now, self.first_errors.values[:, 0, :count])}

    def _num_measured(self) -> int:
        return min(self.config.measured_pairs, len(self.pairs))

    def sample_flops(self) -> int:
        """Floating-point operations of one pair in the policy's forward and backward pass."""
        from torch.utils.flop_counter import FlopCounterMode

        ids = torch.arange(min(4, len(self.pairs)))
        draws = self._draws(ids, torch.zeros_like(ids))
        with FlopCounterMode(display=False) as counter:
            found = self._errors(self.model, ids, draws)
            (found.chosen + found.rejected).mean().backward()
        return counter.get_total_flops() // len(ids)


def _trainable(policy: MAR, config: PreferenceConfig) -> MAR:
    """The policy with adapters where they are asked for, and everything else that is not trained frozen."""
    if config.lora_rank:
        add_adapters(policy, config.lora_rank, part=config.train, seed=config.seed)
        return policy
    for name, parameter in policy.named_parameters():
        parameter.requires_grad_(config.train == "all" or (config.train == "head") == name.startswith("head."))
    return policy
