"""Steps that learn from preferences: DPO and its kin, and guidance tuned instead."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ablations.runner.step import Facts, Step, Work
from ablations.steps.generate import generate, sampling_call
from ablations.steps.judge import Judges, detect
from ablations.steps.pairs import NOISE_SEEDS, Learned, graded
from ablations.steps.train import encoders, finished
from lightgen.disk.json_files import write_json
from lightgen.model.config import SamplingConfig
from lightgen.preference.config import PreferenceConfig
from lightgen.training.config import LoopConfig

if TYPE_CHECKING:
    from geneval.prompts import Prompt


@dataclass(frozen=True, kw_only=True)
class Prefer(Step):
    """model/ after preference training, and metrics.jsonl; the reference is the model that it starts from."""

    version: ClassVar[int] = 2
    resumable: ClassVar[bool] = True
    is_slow: ClassVar[bool] = True
    together: ClassVar[bool] = True
    model: Step
    pairs: Step
    config: PreferenceConfig  # its seed is the cell's
    origin: Step | None = None  # the model that drift is told from; None = the one it starts from
    policies: int = 1  # as many are trained, and their weights are averaged
    extrapolation: float = 1.0  # how far it goes, in the distance that training went

    def run(self, work: Work) -> Facts:
        from lightgen.preference.dpo import train_dpo

        start, pairs = work.made(self.model) / "model", work.made(self.pairs) / "pairs.jsonl"
        if not pairs.stat().st_size:  # every caption's samples were graded alike: nothing to prefer or to change
            shutil.copytree(start, work.out / "model", dirs_exist_ok=True)
            (work.out / "metrics.jsonl").touch()
            return {"samples": 0, "seconds": 0.0, "flops": 0, "steps": 0, "status": "complete"}
        total = self.config.steps * self.policies
        result = train_dpo(
            self.config,
            start,
            pairs,
            work.out,
            policies=self.policies,
            extrapolation=self.extrapolation,
            drift_from=None if self.origin is None else work.made(self.origin) / "model",
            **encoders(self.model),
            loop=LoopConfig(log_every=1, save_every_seconds=work.runtime.save_every_seconds, track=work.runtime.track),
            device=work.runtime.device,
            stop=work.stop,
            on_step=lambda row: work.progress(row["step"] / total),
            on_pace=lambda row: work.progress(row["step"] / total),
        )
        if result["status"] != "stopped":
            for folder in work.out.glob("policy_*"):  # the average is what the study keeps
                shutil.rmtree(folder)
        return finished(work, result)


@dataclass(frozen=True, kw_only=True)
class TuneGuidance(Step):
    """sampling.json: the guidance scale whose pictures of captions to learn from the verifier likes best."""

    resumable: ClassVar[bool] = True
    parts: ClassVar[tuple[str, ...]] = ("draw", "look")
    model: Step
    learned: Learned
    sampling: SamplingConfig
    judges: Judges
    scales: tuple[float, ...]
    copies: int

    def draw(self, work: Work) -> None:
        """The pictures of a shard."""
        prompts = self.learned.prompts(work.made)
        for images, call in self._tries(work).values():
            generate(work, self.model, prompts, images, call, copies=self.copies, seed=self._seed)

    def look(self, work: Work) -> None:
        """What is seen in a shard of the pictures."""
        for images, _ in self._tries(work).values():
            detect(work, images, self.judges)

    def run(self, work: Work) -> Facts:
        prompts, found = self.learned.prompts(work.made), {}
        options: dict[str, Any] = {"copies": self.copies, "seed": self._seed}
        for scale, (images, call) in self._tries(work).items():
            found[scale] = mean_of_tasks(
                graded(work, self.model, prompts, images, call, self.judges, **options), prompts
            )
        best = max(found, key=lambda scale: (found[scale], -scale))
        write_json(work.out / "sampling.json", {"guidance_scale": best})
        return {"guidance_scale": best, "right": {f"{scale:g}": value for scale, value in found.items()}}

    @property
    def _seed(self) -> int:
        return self.learned.seed + NOISE_SEEDS

    def _tries(self, work: Work) -> dict[float, tuple[Path, dict[str, Any]]]:
        """{scale: (its folder of pictures, what the pipeline is called with)}."""
        call = sampling_call(self.sampling)
        return {scale: (work.out / "images" / f"{scale:g}", {**call, "guidance_scale": scale}) for scale in self.scales}


def mean_of_tasks(grades: Mapping[str, float], prompts: Sequence[Prompt]) -> float:
    """The share of right pictures, as GenEval's overall score averages it."""
    by_task: dict[str, list[bool]] = {}
    for name, grade in grades.items():
        by_task.setdefault(prompts[int(name.split("/")[0])].tag, []).append(grade == 1.0)
    return sum(sum(found) / len(found) for found in by_task.values()) / len(by_task)
