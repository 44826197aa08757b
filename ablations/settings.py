"""The setting of a study, one frozen dataclass, and its rows: the scales that studies share.

`--set NAME=VALUE` changes any field by its dotted name. At every scale all variants see the same number of training
samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from ablations.data import Benchmark, IconData, OwnData
from ablations.runner.step import Folder
from lightgen.disk.bounds import require
from lightgen.disk.config import override
from lightgen.model.config import MARConfig, SamplingConfig
from lightgen.preference.config import PreferenceConfig
from lightgen.training.config import TrainConfig

EMBEDDED = "icons"  # the name of the weights that come with the icon world


@dataclass(frozen=True, kw_only=True)
class Components:
    """Weight folders around the model; "icons" are the tiny ones that come with the package."""

    vae: str = EMBEDDED
    text: str = EMBEDDED
    detector: str = EMBEDDED
    clip: str = EMBEDDED

    def weights(self, kind: Literal["vae", "text", "detector", "clip"]) -> Folder:
        """The folder of that kind, which keys know by its contents."""
        name = getattr(self, kind)
        return Folder(f"ablations:icons/components/{kind}" if name == EMBEDDED else str(Path(name).resolve()))


@dataclass(frozen=True, kw_only=True)
class Preference:
    """Where preferences come from and how they are learned."""

    source: Literal["verifier", "random", "teacher", "detail", "layout"] = "verifier"
    captions: Literal["training", "all"] = "training"  # to learn from: the training set's own, or all of the world's
    prompts: int = 240  # captions at most, as many of each task
    copies: int = 8  # samples a caption
    max_copies: int = 64  # where a task has fewer captions than others
    per_prompt: int = 3  # pairs a caption
    min_gap: float = 0.1  # least difference of the two grades
    per_task: int = 400  # most pairs a task
    limit: int = 1200  # most pairs of the sources without grades
    damages: tuple[str, ...] = ("blur", "noise")  # of the source detail
    dpo: PreferenceConfig = field(default_factory=PreferenceConfig)
    guidance_scales: tuple[float, ...] = (1.5, 2.0, 2.5, 3.0, 4.0, 5.0)  # tried where guidance is tuned instead
    guidance_prompts: int = 100
    guidance_copies: int = 4

    def __post_init__(self) -> None:
        require(self, "[1, inf)", "prompts", "copies", "max_copies", "per_prompt", "per_task", "limit")
        require(self, "(0, inf)", "min_gap")
        require(self, "[1, inf)", "guidance_prompts", "guidance_copies")
        if not self.guidance_scales or not all(0 < scale < math.inf for scale in self.guidance_scales):
            raise ValueError(f"guidance_scales are {self.guidance_scales}, must be finite numbers above 0")


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """How fast results are there, and nothing of them: outside of every key, so it may differ when a run goes on."""

    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    encode_batch: int = 64  # images at once
    generate_batch: int = 256
    detect_batch: int = 32
    log_every: int = 25  # training steps
    save_every_seconds: float = 30.0
    compile: bool = False  # torch.compile, in training
    track: Literal["none", "tensorboard", "wandb"] = "none"  # where training's rows go too: STEP/tensorboard, ...
    cells_per_gpu: int = 1
    processes: int = 1  # of a cell: training in all of them, pictures shared out among them; on GPUs one each
    threads: int = 0  # of each process (0: locally the cores shared out among the cells; elsewhere one, or the cpus)

    def __post_init__(self) -> None:
        require(self, "[1, inf)", "encode_batch", "generate_batch", "detect_batch", "log_every", "cells_per_gpu")
        require(self, "[1, 65536]", "processes")
        require(self, "[0, 65536]", "threads")
        require(self, "[0, inf)", "save_every_seconds")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Everything that a study's numbers depend on, and how they are made."""

    data: IconData | OwnData
    components: Components
    model: MARConfig
    train: TrainConfig
    preference: Preference
    sampling: SamplingConfig
    benchmark: Benchmark
    runtime: Runtime


CPU = Setting(
    data=IconData(world="cpu", small=1000, large=8000),
    components=Components(),
    model=MARConfig(
        width=96, encoder_depth=1, decoder_depth=2, cross_depth=2, heads=4, text_depth=1, text_channels=64,
        max_text_length=32, vae_channels=4, vae_stride=8, patch_size=2, position_grid=2, dropout=0.0, text_drop=0.1,
        head_depth=4, head_width=160, head_objective="flow", noise_copies=4, mask_mean=1.0, mask_std=5.0,
        mask_minimum=0.01, normalized_residual=False, attend_to_padding=False,
    ),
    train=TrainConfig(
        samples_seen=120_000, batch_size=64, learning_rate=1e-3, warmup_steps=100, schedule="cosine",
        weight_decay=0.02, beta1=0.9, beta2=0.95, clip_norm=3.0, ema_decay=0.999, ema_warmup=True,
    ),
    preference=Preference(
        dpo=PreferenceConfig(
            beta=100.0, learning_rate=2e-4, warmup_steps=10, schedule="cosine", batch_size=48, steps=300,
            noise_draws=4, draws_per_pair=16, max_winner_drift=0.2, measured_pairs=512, clip_norm=1.0,
        ),
    ),
    sampling=SamplingConfig(num_steps=4, num_head_steps=20, guidance_scale=3.0, solver="euler"),
    benchmark=Benchmark(),
    runtime=Runtime(),
)  # fmt: skip

SMOKE = override(
    CPU,
    {
        "data.world": "smoke", "data.small": 64, "data.large": 256, "train.samples_seen": 640, "train.batch_size": 32,
        "train.warmup_steps": 5, "preference.source": "teacher", "preference.prompts": 16, "preference.copies": 2,
        "preference.max_copies": 2, "preference.limit": 16, "preference.min_gap": 0.01, "preference.dpo.steps": 4,
        "preference.dpo.batch_size": 8, "preference.dpo.draws_per_pair": 2, "preference.dpo.measured_pairs": 16,
        "preference.guidance_scales": (2.0, 3.0), "preference.guidance_prompts": 10, "preference.guidance_copies": 1,
        "sampling.num_head_steps": 5, "benchmark.num_prompts": 4, "benchmark.copies": 1, "runtime.log_every": 5,
    },
)  # fmt: skip
GPU = override(
    CPU,
    {
        "model.width": 192, "model.encoder_depth": 4, "model.decoder_depth": 4, "model.cross_depth": 4,
        "model.head_width": 384, "train.samples_seen": 2_000_000, "train.batch_size": 512, "train.warmup_steps": 200,
        "data.small": 2000, "data.large": 32_000, "preference.prompts": 600, "preference.copies": 16,
        "preference.dpo.steps": 600, "preference.dpo.batch_size": 128, "sampling.num_head_steps": 50,
        "benchmark.num_prompts": 100, "runtime.generate_batch": 1024, "runtime.detect_batch": 256,
        "runtime.cells_per_gpu": 4, "train.precision": "bf16", "preference.dpo.precision": "bf16",
        "preference.dpo.drift_every": 10, "runtime.save_every_seconds": 120.0,
    },
)  # fmt: skip
# LightGen's own sizes. The user provides weights/ and data/, a data set of `python -m lightgen import`.
PAPER = replace(
    override(
        CPU,
        {
            "components.vae": "weights/stable-diffusion-3.5-large/vae", "components.text": "weights/flan-t5-xxl",
            "components.detector": "weights/mask2former", "components.clip": "weights/ViT-L-14-quickgelu",
            "train.samples_seen": 80_000_000, "train.batch_size": 2048, "train.warmup_steps": 2000,
            "train.schedule": "constant", "train.ema_decay": 0.9999, "train.ema_warmup": False,
            "train.learning_rate": 8e-4, "train.precision": "bf16",
            "preference.source": "teacher", "preference.limit": 10_000, "preference.dpo.steps": 2000,
            "preference.dpo.beta": 5000.0, "preference.dpo.learning_rate": 1e-8,
            "preference.dpo.schedule": "constant",
            "benchmark.prompts": "official", "benchmark.num_prompts": 553, "benchmark.extractor": "clip-ViT-L-14",
            "runtime.generate_batch": 64,
        },
    ),
    data=OwnData(folder="data", small=100_000, large=2_000_000),
    model=MARConfig(),  # the released 792 M
    sampling=SamplingConfig(),  # 64 x 100 steps, guidance 4
)  # fmt: skip

SETTINGS = {"smoke": SMOKE, "cpu": CPU, "gpu": GPU, "paper": PAPER}
NOTES = {"smoke": "Smoke scale: a handful of training steps show that every stage runs. It proves nothing."}
