"""What preference training does, as data; no torch."""

from dataclasses import dataclass
from typing import Literal

from lightgen.disk.bounds import require

Kind = Literal["sigmoid", "ipo", "hinge", "simpo", "sft"]
KINDS = ("sigmoid", "hinge", "ipo", "simpo", "sft")


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
    drift_every: int = 1  # steps whose mean winner drift is held against the bound
    precision: Literal["fp32", "bf16"] = "fp32"

    def __post_init__(self) -> None:
        require(self, "(0, inf)", "beta", "learning_rate", "guidance_scale", "max_winner_drift", "clip_norm")
        require(self, "[1, inf)", "batch_size", "steps", "noise_draws", "draws_per_pair", "drift_every")
        require(self, "[0, inf)", "warmup_steps", "lora_rank", "refresh_every", "measured_pairs")
        require(self, "[0, inf)", "margin", "dpop", "sft", "weight_decay")
        require(self, "[0, 1)", "beta1", "beta2", "sdpo_mu")
        choices = {
            "kind": KINDS,
            "schedule": ("constant", "cosine"),
            "train": ("all", "head", "trunk"),
            "reference": ("precomputed", "held", "adapter"),
        }
        for name, valid in choices.items():
            if getattr(self, name) not in valid:
                raise ValueError(f"{name} is {getattr(self, name)!r}; valid: {', '.join(valid)}")
        if self.reference == "adapter" and (self.lora_rank == 0 or self.refresh_every):
            raise ValueError("reference 'adapter' needs lora_rank above 0 and refresh_every 0: it is the adapters off")
        if self.reference == "held" and self.lora_rank and self.refresh_every:
            raise ValueError("a held reference has no adapters to take over; refresh with reference 'precomputed'")
