"""The base recipe of each scale, which the studies share: every section in full, one row a group of settings.

At every scale all variants see the same number of training samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ablations.study import Recipe, Split, override
from ablations.suite import evaluation_prompts

_MODEL: Mapping[str, Any] = {
    "width": 96, "encoder_depth": 1, "decoder_depth": 2, "cross_depth": 2, "heads": 4, "mlp_ratio": 4.0,
    "text_depth": 1, "text_channels": 64, "max_text_length": 32,
    "vae_channels": 4, "vae_stride": 8, "patch_size": 2, "position_grid": 2,
    "dropout": 0.0, "text_drop": 0.1, "head_depth": 4, "head_width": 160, "head_objective": "flow",
    "diffusion_steps": 1000, "noise_copies": 4, "mask_mean": 1.0, "mask_std": 5.0, "mask_minimum": 0.01,
    "normalized_residual": False, "attend_to_padding": False,
}  # fmt: skip
_TRAIN: Mapping[str, Any] = {
    "samples_seen": 120_000, "batch_size": 64, "learning_rate": 1e-3, "warmup_steps": 100, "schedule": "cosine",
    "weight_decay": 0.02, "beta1": 0.9, "beta2": 0.95, "clip_norm": 3.0, "ema_decay": 0.999, "ema_warmup": True,
    "per_image_ratio": False, "log_every": 25, "save_every_seconds": 30.0, "precision": "fp32", "compile": False,
}  # fmt: skip
# Captions: the training set's own, or all of the world's. Pairs: of up to `prompts` captions, as many of each task,
# `copies` samples and `per_prompt` pairs; tasks with fewer captions get more of both, up to `max_copies` samples, and
# no task more than `per_task` pairs. `limit`: pairs of the other sources. Rounds: 2 = again, of what the first made.
# Policies: as many are trained in each round, and their weights are averaged. Extrapolation: how far a round goes, in
# the distance that its training went.
_PREFERENCE: Mapping[str, Any] = {
    "enabled": False, "source": "verifier", "rounds": 1, "policies": 1, "extrapolation": 1.0,
    "captions": "training", "prompts": 240, "copies": 8, "max_copies": 64, "per_prompt": 3, "min_gap": 0.1,
    "per_task": 400, "limit": 1200, "damages": ["blur", "noise"],
}  # fmt: skip
_DPO: Mapping[str, Any] = {
    "kind": "sigmoid", "beta": 100.0, "margin": 0.0, "dpop": 0.0, "sdpo": False, "sdpo_mu": 0.5, "sft": 0.0,
    "learning_rate": 2e-4, "warmup_steps": 10, "schedule": "cosine", "batch_size": 48, "steps": 300,
    "noise_draws": 4, "draws_per_pair": 16, "train": "all", "lora_rank": 0, "reference": "precomputed",
    "guidance_scale": 1.0, "refresh_every": 0, "max_winner_drift": 0.2, "measured_pairs": 512, "weight_decay": 0.0,
    "beta1": 0.9, "beta2": 0.95, "clip_norm": 1.0, "log_every": 1, "save_every_seconds": 30.0, "precision": "fp32",
}  # fmt: skip
# What the last `rounds` of several do differently: they compare what is sampled, and go gently.
_FINISH: Mapping[str, Any] = {
    "rounds": 0, "guidance_scale": 3.0, "learning_rate": 1e-4, "max_winner_drift": 2.0,
}  # fmt: skip
_SAMPLING: Mapping[str, Any] = {
    "num_steps": 4, "num_head_steps": 20, "guidance_scale": 3.0, "guidance_schedule": "constant",
    "temperature": 1.0, "solver": "euler",
}  # fmt: skip

_CPU: Recipe = {
    "subject": {"kind": "trained"},
    "components": {"vae": "vae", "text": "text", "detector": "detector", "clip": "clip"},
    "data": {
        "world": "cpu", "volume": "large", "small": 1000, "large": 8000, "diversity": "diverse", "shards": "",
    },
    "encode": {"flips": False, "batch_size": 64},
    "model": _MODEL,
    "train": _TRAIN,
    "preference": _PREFERENCE,
    "dpo": _DPO,
    "finish": _FINISH,
    "sampling": _SAMPLING,
    "retune": {"enabled": False, "scales": [1.5, 2.0, 2.5, 3.0, 4.0, 5.0], "prompts": 100, "copies": 4},
    "evaluation": {"prompts": "world", "num_prompts": 50, "prompt_seed": 43, "copies": 4, "seed": 42},
    "quality": {"extractor": "icon-clip", "shown": 24},
    "batch": {"generate": 256, "detect": 32},
    "run": {"cells_per_gpu": 1},
}  # fmt: skip

SMOKE = override(
    _CPU,
    {
        "data.world": "smoke", "data.small": 64, "data.large": 256, "train.samples_seen": 640, "train.batch_size": 32,
        "train.warmup_steps": 5, "train.log_every": 5, "preference.source": "teacher", "preference.prompts": 16,
        "preference.copies": 2, "preference.max_copies": 2, "preference.limit": 16, "preference.min_gap": 0.01,
        "dpo.steps": 4, "dpo.batch_size": 8, "dpo.draws_per_pair": 2, "dpo.measured_pairs": 16,
        "retune.scales": [2.0, 3.0], "retune.prompts": 10, "retune.copies": 1,
        "sampling.num_head_steps": 5, "evaluation.num_prompts": 4, "evaluation.copies": 1,
    },
)  # fmt: skip
GPU = override(
    _CPU,
    {
        "model.width": 192, "model.encoder_depth": 4, "model.decoder_depth": 4, "model.cross_depth": 4,
        "model.head_width": 384, "train.samples_seen": 2_000_000, "train.batch_size": 512, "train.warmup_steps": 200,
        "data.small": 2000, "data.large": 32_000, "preference.prompts": 600, "preference.copies": 16, "dpo.steps": 600,
        "dpo.batch_size": 128, "sampling.num_head_steps": 50, "evaluation.num_prompts": 100,
        "batch.generate": 1024, "batch.detect": 256, "run.cells_per_gpu": 4,
    },
)  # fmt: skip
# LightGen's own sizes. The user provides weights/ and data/{narrow,diverse,reference}, shards with captions.
PAPER = override(
    _CPU,
    {
        "components.vae": "weights/stable-diffusion-3.5-large/vae", "components.text": "weights/flan-t5-xxl",
        "components.detector": "weights/mask2former", "components.clip": "weights/ViT-L-14-quickgelu",
        "data.world": "none", "data.shards": "data", "data.small": 100_000, "data.large": 2_000_000,
        "model.width": 1024, "model.encoder_depth": 16, "model.decoder_depth": 16, "model.cross_depth": 16,
        "model.heads": 16, "model.text_depth": 6, "model.text_channels": 4096, "model.max_text_length": 128,
        "model.vae_channels": 16, "model.position_grid": 16, "model.dropout": 0.1, "model.head_depth": 8,
        "model.head_width": 1536, "model.mask_std": 0.25, "model.mask_minimum": 0.7, "model.normalized_residual": True,
        "model.attend_to_padding": True, "model.head_objective": "ddpm", "sampling.solver": "ddpm",
        "train.samples_seen": 80_000_000, "train.batch_size": 2048,
        "train.warmup_steps": 2000, "train.schedule": "constant", "train.ema_decay": 0.9999, "train.ema_warmup": False,
        "train.per_image_ratio": False, "train.learning_rate": 8e-4, "train.precision": "bf16",
        "preference.source": "teacher", "preference.limit": 10_000, "dpo.steps": 2000, "dpo.beta": 5000.0,
        "dpo.learning_rate": 1e-8, "dpo.schedule": "constant",
        "sampling.num_steps": 64, "sampling.num_head_steps": 100, "sampling.guidance_scale": 4.0,
        "evaluation.prompts": "official", "evaluation.num_prompts": 553, "quality.extractor": "clip-ViT-L-14",
        "batch.generate": 64,
    },
)  # fmt: skip

SCALES: Mapping[str, Recipe] = {"smoke": SMOKE, "cpu": _CPU, "gpu": GPU, "paper": PAPER}
NOTES = {"smoke": "Smoke scale: a handful of training steps show that every stage runs. It proves nothing."}
SPLITS = [
    Split(name="shared", label="compositions in every training set"),
    Split(name="diverse", label="compositions only in the diverse sets"),
    Split(name="unseen", label="compositions in no training set"),
]


def num_images(recipe: Recipe) -> int:
    """Pictures of the benchmark that a cell judges."""
    return len(evaluation_prompts(recipe["evaluation"], recipe["data"]["world"])) * recipe["evaluation"]["copies"]
