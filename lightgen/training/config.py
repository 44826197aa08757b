"""What training does, as data; no torch."""

from dataclasses import dataclass
from typing import Literal, Protocol

from lightgen.disk.bounds import require


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run. Defaults: the released script's optimizer, at a length for one's own data."""

    samples_seen: int = 100_000  # images; divided by batch_size and rounded down it gives the steps
    batch_size: int = 128  # images a step, over all processes
    learning_rate: float = 8e-4  # peak
    warmup_steps: int = 100  # linear
    schedule: Literal["constant", "cosine"] = "constant"  # after the warm-up
    weight_decay: float = 0.02  # none on biases, norms and the head
    beta1: float = 0.9
    beta2: float = 0.95
    clip_norm: float = 3.0  # of the whole gradient
    ema_decay: float = 0.9999
    ema_warmup: bool = True  # decay min(ema_decay, (1 + step) / (10 + step)); the release has none
    per_image_ratio: bool = False  # one mask ratio an image instead of one a batch
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"  # of the forward pass; bf16 on a CPU is slower

    def __post_init__(self) -> None:
        require(self, "[1, inf)", "samples_seen", "batch_size")
        require(self, "(0, inf)", "learning_rate", "clip_norm")
        require(self, "[0, inf)", "warmup_steps", "weight_decay")
        require(self, "[0, 1)", "beta1", "beta2", "ema_decay")
        if self.samples_seen < self.batch_size:
            raise ValueError(f"samples_seen {self.samples_seen} is less than one batch of {self.batch_size}")

    @property
    def steps(self) -> int:
        return self.samples_seen // self.batch_size


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How a run is carried out: nothing here changes what is learned, so it may differ when a run goes on."""

    log_every: int = 50  # steps whose mean is a row of metrics.jsonl
    save_every_seconds: float = 60.0  # least time between saved states, which take 2 % at most; 0: after every step
    grace_seconds: float = 0.0  # between a signal to stop and the end; a save that takes longer is told (0: unknown)
    accumulate: int = 1  # parts in which a process takes its batch, one after another; dropout is drawn anew in each
    checkpoint: bool = False  # compute activations again in the backward pass: less memory, a third more work
    compile: bool = False  # torch.compile the forward pass; sums may round differently
    track: Literal["none", "tensorboard", "wandb"] = "none"  # where the rows go besides metrics.jsonl

    def __post_init__(self) -> None:
        require(self, "[1, inf)", "log_every", "accumulate")
        require(self, "[0, inf)", "save_every_seconds", "grace_seconds")


class StepConfig(Protocol):
    """What every kind of training says of its steps; `TrainConfig` and `PreferenceConfig` do."""

    @property
    def steps(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def warmup_steps(self) -> int: ...
    @property
    def schedule(self) -> Literal["constant", "cosine"]: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def beta1(self) -> float: ...
    @property
    def beta2(self) -> float: ...
    @property
    def clip_norm(self) -> float: ...
