"""The loop of every kind of training: steps, rows, saved states, and how a run stops, diverges and goes on.

A run is saved with its sums, so that one that was killed or stopped goes on to the same weights and the same rows, bit
for bit, as one that was not.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from lightgen.model.mar import MAR
from lightgen.training.config import LoopConfig, StepConfig
from lightgen.training.forward import carried_out
from lightgen.training.journal import Journal
from lightgen.training.optimization import learning_rate_at, make_optimizer, set_learning_rate
from lightgen.training.processes import agreed, any_process, is_step_finite, refuse_uneven
from lightgen.training.saving import Saver
from lightgen.training.state import load_state, pack_optimizer, prefixed, unpack_optimizer, without_prefix
from lightgen.training.tracking import Tracking

SILENT_SECONDS = 15.0  # after which `on_pace` is told, if no row was due: its means would cost a wait

Stop = Callable[[], bool]
OnStep = Callable[[dict[str, Any]], None]


class Sums:
    """Sums of measured values over the steps since they were last looked at; they stay on the device until then."""

    def __init__(self, size: int, device: torch.device):
        self.values, self.count = torch.zeros(size, device=device), 0

    def add(self, values: Tensor) -> None:
        self.values += values
        self.count += 1

    def means(self, accelerator: Accelerator) -> list[float]:
        """The means, over all processes too, after which the sums begin anew; every process must ask."""
        sums = accelerator.reduce(self.values, "mean") if accelerator.num_processes > 1 else self.values
        means = (sums / max(1, self.count)).tolist()
        self.values.zero_()
        self.count = 0
        return means


class Run(ABC):
    """A model in training, its optimizer and its position; a subclass says what a step minimizes and what it keeps."""

    names: tuple[str, ...]  # of the values whose means are logged: the loss, what `loss` gives with it, gradient norms

    def __init__(self, config: StepConfig, model: MAR, out: Path, accelerator: Accelerator, loop: LoopConfig):
        refuse_uneven(config.batch_size, loop.accumulate, accelerator)
        self.config, self.out, self.accelerator, self.pace = config, out, accelerator, loop
        self.device = accelerator.device
        self.model = model
        self.forward: Callable[..., Any] = model  # the model, or what wraps it for several processes
        self.optimizer = make_optimizer(
            model,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            betas=(config.beta1, config.beta2),
        )
        self.step, self.seconds, self.status = 0, 0.0, "complete"
        self.healthy = True  # whether loss and gradient were finite in every step that was looked at
        self.sums = {"row": Sums(len(self.names), self.device)}
        # A device runs behind the host: bad steps are seen late, and a state is written while the next ones are taken.
        self.is_ahead = self.device.type != "cpu"
        self.saver = Saver(out / "resume", loop, beside=self.is_ahead)
        self.tracking: Tracking | None = None  # of the main process, while it runs
        self.on_pace: OnStep | None = None
        self._told = time.monotonic()  # when a row was last logged or the pace told

    # --- what a kind of training says -----------------------------------------------------------------------------

    @abstractmethod
    def losses(self, parts: int) -> Iterator[tuple[Tensor, Sequence[Tensor]]]:
        """What the next step minimizes, on this process's share of the batch, and other scalars to log: the terms of
        as many `parts`, whose sums are the batch's."""

    @abstractmethod
    def trained(self) -> list[list[Tensor]]:
        """The trained parameters, in the parts whose gradient norms are logged where there are several."""

    @abstractmethod
    def sample_flops(self) -> int:
        """Floating-point operations of one sample's forward and backward pass."""

    def prepare(self, stop: Stop | None) -> bool:
        """Take up an earlier state; False where `stop` ended what must be done before the first step."""
        self.load(load_state(self.out / "resume"))
        return True

    def ready(self, stop: Stop | None) -> bool:
        """Do what is due between two steps; False where `stop` ended it."""
        return True

    def after_step(self, values: Tensor) -> None:  # noqa: B027 - nothing to do for most
        """Take note of a step that was taken and its logged values; may change `status`, which ends the run."""

    def tensors(self) -> dict[str, Tensor]:
        """What else is saved."""
        return {}

    def record(self) -> dict[str, Any]:
        """What else is saved and is no tensor."""
        return {}

    def restore(self, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:  # noqa: B027 - as above
        """Take up `tensors` and `record` of a saved state."""

    # --- the loop -------------------------------------------------------------------------------------------------

    def run(self, stop: Stop | None, on_step: OnStep | None, on_pace: OnStep | None = None) -> dict[str, Any]:
        """Run to the end, a stop, a loss that is not finite, or another status; returns the result.

        `on_step` gets every logged row; `on_pace`, where these are far apart, step, samples and speed alone.
        """
        self.on_pace = on_pace
        if not self.prepare(stop):
            return self.result("stopped")
        if self.is_ahead and self.step == 0:
            self.save()  # the weights to go back to: bad steps may be taken before they are seen
        journal = Journal(self.out / "metrics.jsonl", self.step) if self.accelerator.is_main_process else None
        if journal is not None and self.pace.track != "none":
            self.tracking = Tracking(self.pace.track, self.out, self.step)
        try:
            with carried_out(self.model, self.accelerator.prepare_model(self.model), self.pace) as self.forward:
                stopped = self._steps(stop, on_step, journal)
        except torch.OutOfMemoryError:
            raise ValueError(self._kept_out_of_memory()) from None
        finally:
            self.forward = self.model
            if journal is not None:
                journal.close()
            if self.tracking is not None:
                self.tracking.close()
            self.saver.wait()
        if self.healthy:
            self.save()
            self.saver.wait()
        elif self.is_ahead:
            self.accelerator.wait_for_everyone()  # the main process has written what all go back to
            self.load(load_state(self.out / "resume"))
            self.status = "diverged"
        return self.result("stopped" if stopped else self.status)

    def _steps(self, stop: Stop | None, on_step: OnStep | None, journal: Journal | None) -> bool:
        """Steps to the end or another status; true where `stop` ended them."""
        stopped = any_process(self.accelerator, stop is not None and stop())
        while self.step < self.config.steps and self.status == "complete":
            if stopped or not self.ready(stop):
                return True
            self.one_step()
            self._log(journal, on_step)
            if not self.healthy:
                self.status = "diverged"
            elif self.step < self.config.steps and self.status == "complete":
                asked = stop is not None and stop()
                stopped, is_due = agreed(self.accelerator, asked, self.saver.is_due())
                if is_due:
                    self.save()
        return False

    def _kept_out_of_memory(self) -> str:
        """Keep the state after the last whole step; what to do. A step that fails for memory has changed no weight."""
        self.optimizer.zero_grad(set_to_none=True)
        self.save()
        share, parts = self.config.batch_size // self.accelerator.num_processes, self.pace.accumulate
        fewer = f"--accumulate {2 * parts}" if share >= 2 * parts else "a smaller model"
        again = "" if self.pace.checkpoint else " or --checkpoint"
        return (
            f"out of memory in step {self.step + 1} with {-(-share // parts)} samples at once; the {self.step} steps"
            f" before are kept in {self.out}: the same command with {fewer}{again} goes on from there"
        )

    def one_step(self) -> None:
        """One optimizer step, which is not taken where a look that costs nothing shows that it is not finite."""
        began = time.monotonic()
        loss, *values = self._gradients()
        norms = self._clip()
        self.healthy = is_step_finite(norms[0], loss, self.accelerator)
        if self.healthy:
            set_learning_rate(self.optimizer, self._rate())
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            measured = torch.stack([loss, *values, *norms])
            self.sums["row"].add(measured)
            self.step += 1
            self.after_step(measured)
        self.seconds += time.monotonic() - began

    def _gradients(self) -> list[Tensor]:
        """Add up the gradients of the batch's parts; the loss and what is logged with it."""
        parts, sums = self.losses(self.pace.accumulate), []
        for left in reversed(range(self.pace.accumulate)):
            with self._without_reduction(left > 0):
                loss, values = next(parts)
                self.accelerator.backward(loss)
            sums.append(torch.stack([loss.detach(), *values]))
        return list(sums[0] if len(sums) == 1 else torch.stack(sums).sum(0))

    def _without_reduction(self, wanted: bool) -> AbstractContextManager:
        """Gradients of several processes are averaged once, with the last part's."""
        is_shared = wanted and self.accelerator.num_processes > 1
        return self.accelerator.no_sync(self.forward) if is_shared else nullcontext()  # type: ignore[arg-type]

    def _rate(self) -> float:
        config = self.config
        return learning_rate_at(
            self.step,
            peak=config.learning_rate,
            warmup_steps=config.warmup_steps,
            total_steps=config.steps,
            schedule=config.schedule,
        )

    def _clip(self) -> list[Tensor]:
        """The gradient's norm and, where there are several, its parts', before the whole was cut to `clip_norm`."""
        parts = [[parameter.grad for parameter in part if parameter.grad is not None] for part in self.trained()]
        norms = [torch.nn.utils.get_total_norm(part, foreach=True).to(self.device) for part in parts]
        total = norms[0] if len(norms) == 1 else torch.hypot(*norms)
        # Where looking costs nothing, a pass over all gradients that would multiply them by 1 is left out.
        if total.device.type != "cpu" or not total <= self.config.clip_norm:
            every = [parameter for part in self.trained() for parameter in part]
            torch.nn.utils.clip_grads_with_norm_(every, self.config.clip_norm, total, foreach=True)
        return norms if len(norms) == 1 else [total, *norms]

    # --- what is logged and kept ----------------------------------------------------------------------------------

    def _log(self, journal: Journal | None, on_step: OnStep | None) -> None:
        """Every `log_every` steps, and at the end, a row with the means since the last one."""
        ends = self.step == self.config.steps or self.status != "complete"
        if not self.healthy or not (ends or self.step % self.pace.log_every == 0):
            if self.healthy and self.on_pace is not None and time.monotonic() - self._told > SILENT_SECONDS:
                self._told = time.monotonic()
                self.on_pace(self._pace_row())
            return
        values = dict(zip(self.names, self.sums["row"].means(self.accelerator), strict=True))
        self.healthy = all(math.isfinite(value) for value in values.values())
        if not self.healthy:
            return
        pace, rate = self._pace_row(), self.optimizer.param_groups[0]["lr"]
        row = {"step": pace.pop("step"), "samples": pace.pop("samples"), **values, "lr": rate, **pace}
        if journal is not None:
            journal.write(row)
        if self.tracking is not None:
            self.tracking.log(row)
        self._told = time.monotonic()
        if on_step is not None:
            on_step(row)

    def _pace_row(self) -> dict[str, Any]:
        samples = self.step * self.config.batch_size
        speed = round(samples / max(self.seconds, 1e-9), 1)
        return {"step": self.step, "samples": samples, "seconds": round(self.seconds, 3), "samples_per_second": speed}

    def result(self, status: str) -> dict[str, Any]:
        """Steps, seconds, samples, flops (0 of a run that was stopped), processes and the status."""
        samples, flops = self.step * self.config.batch_size, 0
        if status != "stopped" and self.accelerator.is_main_process:
            flops = self.sample_flops() * samples
            self.optimizer.zero_grad(set_to_none=True)
        seconds = round(self.seconds, 3)
        counts = {"steps": self.step, "seconds": seconds, "samples": samples, "flops": flops}
        return {**counts, "processes": self.accelerator.num_processes, "status": status}

    def save(self) -> None:
        """Keep the state after the last step, unless it is not finite, which the device may not have told yet."""
        if not self.accelerator.is_main_process:
            return
        if not all(math.isfinite(sums.values.sum().item()) for sums in self.sums.values()):
            return
        tensors = {
            **prefixed("model", self.model.state_dict()),
            **pack_optimizer(self.optimizer),
            **prefixed("sums", {name: sums.values for name, sums in self.sums.items()}),
            **self.tensors(),
        }
        counts = {name: sums.count for name, sums in self.sums.items()}
        record = {"seconds": self.seconds, "status": self.status, "counts": counts, **self.record()}
        record["processes"] = self.accelerator.num_processes
        self.saver.save(self.step, tensors, record)

    def load(self, state: tuple[int, dict[str, Tensor], dict[str, Any]] | None) -> None:
        """Take up a state from `load_state`; None changes nothing."""
        if state is None:
            return
        self.step, tensors, record = state
        self.model.load_state_dict(without_prefix("model", tensors))
        unpack_optimizer(self.optimizer, tensors)
        for name, values in without_prefix("sums", tensors).items():
            self.sums[name].values.copy_(values)
            self.sums[name].count = record["counts"][name]
        self.seconds, self.status = record["seconds"], record["status"]
        self.restore(tensors, record)
