"""Does more diversity help more than more volume, at the same number of training samples seen?

LightGen claims it and never ran it. Two factors are crossed, volume (distinct images) and diversity (distinct
compositions of classes, colors, counts and relations), each cell without and with preference optimization. The
contrast small-diverse minus large-narrow is the claim itself; the others show where it comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ablations.record import write_record
from ablations.stages import STAGES, path
from ablations.study import Contrast, Recipe, Split, Study, Variant, override
from ablations.suite import evaluation_prompts

VOLUMES = ("small", "large")
DIVERSITIES = ("narrow", "diverse")

_BASES = [
    Variant(
        name=f"{volume}-{diversity}",
        label=f"{volume}, {diversity}",
        factors={"volume": volume, "diversity": diversity, "preference": "none"},
        overrides={"data.volume": volume, "data.diversity": diversity},
    )
    for volume in VOLUMES
    for diversity in DIVERSITIES
]
_PREFERRED = [
    Variant(
        name=f"{base.name}-dpo",
        label=f"{base.label}, DPO",
        factors={**base.factors, "preference": "dpo"},
        overrides={**base.overrides, "preference.enabled": True},
    )
    for base in _BASES
]
_CONTROLS = [
    Variant(
        name="untrained",
        label="untrained model",
        factors={"control": "untrained"},
        overrides={"subject.kind": "untrained"},
    ),
    Variant(
        name="teacher",
        label="the teacher's own pictures",
        factors={"control": "teacher"},
        overrides={"subject.kind": "teacher"},
        scales=("smoke", "cpu", "gpu"),
    ),
]
# What the released code does and its authors hardly meant, all on. Its scaling of the learning rate by the batch is
# left out: each scale's rate is tuned as it is. No averaging at all is the release's use of the last weights.
_RELEASED = Variant(
    name="large-diverse-released",
    label="large, diverse, the release's quirks",
    factors={"switches": "released"},
    overrides={
        "data.volume": "large", "data.diversity": "diverse", "encode.flips": True,
        "model.normalized_residual": True, "model.attend_to_padding": True,
        "train.ema_decay": 0.0, "train.ema_warmup": False, "train.beta2": 0.95,
    },
    optional=True,
)  # fmt: skip


def _contrasts() -> list[Contrast]:
    found = [
        Contrast(
            name="claim",
            label="small and diverse minus large and narrow",
            a="small-diverse",
            b="large-narrow",
            claim="At equal samples seen, diverse captions are worth more than more images of narrow ones.",
        )
    ]
    for volume in VOLUMES:
        found.append(
            Contrast(
                name=f"diversity-{volume}",
                label=f"diverse minus narrow, {volume} volume",
                a=f"{volume}-diverse",
                b=f"{volume}-narrow",
                claim=f"Diversity helps at {volume} volume.",
            )
        )
    for diversity in DIVERSITIES:
        found.append(
            Contrast(
                name=f"volume-{diversity}",
                label=f"large minus small volume, {diversity}",
                a=f"large-{diversity}",
                b=f"small-{diversity}",
                claim=f"Volume helps where captions are {diversity}.",
            )
        )
    found.append(
        Contrast(
            name="interaction",
            label="gain from diversity at large minus at small volume",
            a="large-diverse",
            b="large-narrow",
            minus=("small-diverse", "small-narrow"),
            claim="Diversity helps more where there are more images.",
        )
    )
    for base in _BASES:
        found.append(
            Contrast(
                name=f"dpo-{base.name}",
                label=f"DPO minus base, {base.label}",
                a=f"{base.name}-dpo",
                b=base.name,
                claim=f"DPO improves the {base.label} model.",
            )
        )
    found.append(
        Contrast(
            name="released-quirks",
            label="the release's quirks minus none, large and diverse",
            a=_RELEASED.name,
            b="large-diverse",
            claim="What the released code does beside its paper helps.",
        )
    )
    return found


# --- recipes: each section in full; at every scale all variants see the same number of samples -----------------------

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
_DPO: Mapping[str, Any] = {
    "beta": 200.0, "learning_rate": 5e-5, "warmup_steps": 10, "batch_size": 48, "steps": 160, "noise_draws": 4,
    "draws_per_pair": 16, "kind": "sigmoid", "dpop": 0.0, "sft": 0.0, "train": "all", "reference": "precomputed",
    "max_winner_drift": 0.2, "weight_decay": 0.0, "beta1": 0.9, "beta2": 0.95, "clip_norm": 1.0, "log_every": 5,
    "save_every_seconds": 30.0, "precision": "fp32",
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
    "preference": {
        "enabled": False, "source": "own", "prompts": 240, "copies": 8, "per_prompt": 3, "min_gap": 0.1,
    },
    "dpo": _DPO,
    "sampling": _SAMPLING,
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
        "preference.per_prompt": 1, "dpo.steps": 4, "dpo.batch_size": 8, "dpo.log_every": 1, "dpo.draws_per_pair": 2,
        "sampling.num_head_steps": 5, "evaluation.num_prompts": 4, "evaluation.copies": 1,
    },
)  # fmt: skip
GPU = override(
    _CPU,
    {
        "model.width": 192, "model.encoder_depth": 4, "model.decoder_depth": 4, "model.cross_depth": 4,
        "model.head_width": 384, "train.samples_seen": 2_000_000, "train.batch_size": 512, "train.warmup_steps": 200,
        "data.small": 2000, "data.large": 32_000, "preference.prompts": 400, "preference.copies": 16, "dpo.steps": 300,
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
        "preference.source": "teacher", "preference.prompts": 10_000, "dpo.steps": 2000,
        "sampling.num_steps": 64, "sampling.num_head_steps": 100, "sampling.guidance_scale": 4.0,
        "evaluation.prompts": "official", "evaluation.num_prompts": 553, "quality.extractor": "clip-ViT-L-14",
        "batch.generate": 64,
    },
)  # fmt: skip


def num_images(recipe: Recipe) -> int:
    """Pictures of the benchmark that a cell judges."""
    return len(evaluation_prompts(recipe["evaluation"], recipe["data"]["world"])) * recipe["evaluation"]["copies"]


STUDY = Study(
    name="diversity_sweep",
    title="Diversity against volume",
    question="At the same number of training samples seen, does more diversity help more than more volume?",
    claim="Data diversity matters more than data volume for an efficient text-to-image model.",
    source="LightGen (arXiv 2503.08619): stated, but shown only as a curve over data volume (Fig. 6a), never crossed",
    variants=[*_BASES, *_PREFERRED, *_CONTROLS, _RELEASED],
    contrasts=_contrasts(),
    splits=[
        Split(name="shared", label="compositions in every training set"),
        Split(name="diverse", label="compositions only in the diverse sets"),
        Split(name="unseen", label="compositions in no training set"),
    ],
    interaction={"rows": "volume", "columns": "diversity"},
    scales={"smoke": SMOKE, "cpu": _CPU, "gpu": GPU, "paper": PAPER},
    notes={"smoke": "Smoke scale: a handful of training steps show that every stage runs. It proves nothing."},
    stages=STAGES,
    path=path,
    num_images=num_images,
    record=write_record,
)
