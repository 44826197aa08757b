"""Model sizes and recipes, one row each. What a row takes from the paper or the released scripts is named beside it.

[P] arXiv 2503.08619 section 5.1, [S] the released scripts and code, [I] inferred: stated nowhere.
An epoch is 2,282,665 images (the data set's captions as counted by others); the rows count images, not epochs.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from lightgen.disk.config import override
from lightgen.model.config import MARConfig, SamplingConfig
from lightgen.preference.config import PreferenceConfig
from lightgen.training.config import TrainConfig

EPOCH = 2_282_665


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A model, how it is trained and how it generates by default."""

    model: MARConfig
    train: TrainConfig
    sampling: SamplingConfig
    flips: bool = False  # whether the cached latents hold mirrored images, which their captions do not tell
    weights: Literal["ema", "raw"] = "ema"  # what generation uses
    scale_learning_rate: bool = False  # train.learning_rate is that of 256 images a step

    @property
    def training(self) -> TrainConfig:
        """`train` with the learning rate that its batch size gives."""
        factor = self.train.batch_size / 256 if self.scale_learning_rate else 1.0
        return replace(self.train, learning_rate=self.train.learning_rate * factor)


@dataclass(frozen=True, kw_only=True)
class Switch:
    """One thing that the release does and its authors hardly meant: `entry` of a preset, both ways."""

    entry: str
    released: Any
    corrected: Any
    effect: str  # of the released value
    place: str  # in the released code


def switched(row: Preset, way: Literal["released", "corrected"]) -> Preset:
    """The preset with every switch set one way."""
    return override(row, {switch.entry: getattr(switch, way) for switch in SWITCHES})


def preset(name: str) -> Preset:
    """The preset `name`."""
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; valid: {', '.join(PRESETS)}")
    return PRESETS[name]


def preference_preset(name: str) -> PreferenceConfig:
    """The DPO preset `name`."""
    if name not in PREFERENCES:
        raise ValueError(f"unknown preset {name!r}; valid: {', '.join(PREFERENCES)}")
    return PREFERENCES[name]


# fmt: off
SWITCHES = (
    Switch(
        entry="model.normalized_residual", released=True, corrected=False,
        effect="cross blocks' skip carries the normalized query: the scale of their input is lost in every block",
        place="models/utils.py:172-178",
    ),
    Switch(
        entry="model.attend_to_padding", released=True, corrected=False,
        effect="captions are padded to 128 positions, which aligner and cross-attention attend to like words",
        place="models/utils.py:89-131, engine_fluid.py:138-146",
    ),
    Switch(
        entry="flips", released=True, corrected=False,
        effect="half of the images are mirrored under an unchanged caption: left and right cannot be learned",
        place="engine_fluid.py:134-143, util/loader.py:293-299",
    ),
    Switch(
        entry="weights", released="raw", corrected="ema",
        effect="images are generated with the last weights; their moving average is kept and never used",
        place="scripts/geneval.py:117-118, scripts/sample.py:138, scripts/dpo_sample.py:115, pipeline_image.py:45",
    ),
    Switch(
        entry="scale_learning_rate", released=True, corrected=False,
        effect="the learning rate is multiplied by batch / 256: 1e-4 becomes 8e-4; the paper trains at 1e-4",
        place="main_fluid.py:243-248",
    ),
    Switch(
        entry="train.beta2", released=0.95, corrected=0.99,
        effect="AdamW forgets squared gradients five times as fast as the paper's 0.99",
        place="main_fluid.py:255-256",
    ),
)

# fluid_large with `--diffloss_d 8 --diffloss_w 1536`, flan-t5-xxl features, SD3.5's VAE: 792 M parameters [S].
_RELEASED = MARConfig(
    width=1024, encoder_depth=16, decoder_depth=16, cross_depth=16, heads=16,  # fluid_arbitrary.py, fluid_large
    text_depth=6, text_channels=4096, max_text_length=128,  # run.sh, finetune.sh, sample scripts
    vae_channels=16, vae_stride=8, patch_size=2, position_grid=16,  # run.sh
    dropout=0.1, text_drop=0.1,  # main_fluid.py
    head_depth=8, head_width=1536, head_objective="ddpm", diffusion_steps=1000, noise_copies=4,  # run.sh
    mask_mean=1.0, mask_std=0.25, mask_minimum=0.7,  # fluid_arbitrary.py:87
    normalized_residual=True, attend_to_padding=True,  # utils.py:172-178, 89-131
)
_RELEASED_BASE = MARConfig(width=768, encoder_depth=12, decoder_depth=12, cross_depth=12, heads=12)  # fluid_base
_RELEASED_HUGE = MARConfig(width=1280, encoder_depth=20, decoder_depth=20, cross_depth=20, heads=16)  # fluid_huge
# One token an object cell: 32 or 48 px images through a VAE of stride 8; learns on one CPU core in minutes.
_TINY = MARConfig(
    width=96, encoder_depth=2, decoder_depth=2, cross_depth=2, heads=4, text_depth=1, text_channels=64,
    max_text_length=32, vae_channels=4, vae_stride=8, patch_size=2, position_grid=2, dropout=0.0, text_drop=0.1,
    head_depth=3, head_width=192, noise_copies=4, mask_std=0.5, mask_minimum=0.25,
    normalized_residual=False, attend_to_padding=False,
)
# About 15 M parameters, for one GPU and images of 64 px and more.
_SMALL = MARConfig(
    width=256, encoder_depth=4, decoder_depth=4, cross_depth=4, heads=8, text_depth=2, text_channels=64,
    max_text_length=64, vae_channels=4, vae_stride=8, patch_size=2, position_grid=4, dropout=0.0, text_drop=0.1,
    head_depth=4, head_width=512, normalized_residual=False, attend_to_padding=False,
)

_RELEASED_TRAIN = TrainConfig(
    samples_seen=1000 * EPOCH,  # --epochs 1000 [S run.sh]
    batch_size=2048,  # 8 x 256 [S], [P]
    learning_rate=1e-4,  # for 256 images, so 8e-4 [S run.sh --blr; main_fluid.py:243-248]
    warmup_steps=100 * EPOCH // 2048,  # --warmup_epochs 100 [S]
    schedule="constant",  # [S], [P]
    weight_decay=0.02, beta1=0.9, beta2=0.95,  # [S main_fluid.py:255-256]
    clip_norm=3.0,  # [S engine_fluid.py:77]
    ema_decay=0.9999, ema_warmup=False,  # [S]; its sampling scripts load the raw weights
    precision="bf16",  # the scripts: fp16 with a gradient scaler
)
_PAPER_256 = TrainConfig(
    samples_seen=100_000 * 2048, batch_size=2048,  # 100k steps [P]
    learning_rate=1e-4, warmup_steps=5 * EPOCH // 2048,  # "first few epochs" [P]: 5 [I]
    weight_decay=0.02, beta1=0.9, beta2=0.99,  # [P]
    ema_decay=0.9999, ema_warmup=False, precision="bf16",  # [S]
)
_PAPER_512 = TrainConfig(
    samples_seen=9 * EPOCH, batch_size=2048,  # "additional few steps" [P]; a checkpoint of epoch 8 is named [S, I]
    learning_rate=1e-5, warmup_steps=1,  # a tenth [P]
    weight_decay=0.02, beta1=0.9, beta2=0.99, ema_decay=0.9999, ema_warmup=False, precision="bf16",
)
_RELEASED_1024 = TrainConfig(
    samples_seen=5 * EPOCH, batch_size=256, learning_rate=1e-5, warmup_steps=1,  # finetune.sh [S]
    ema_decay=0.9999, ema_warmup=False, precision="bf16",
)
_TINY_TRAIN = TrainConfig(
    samples_seen=192_000, batch_size=128, learning_rate=1e-3, warmup_steps=100, schedule="cosine", ema_decay=0.999,
    per_image_ratio=True,
)
_SMALL_TRAIN = TrainConfig(
    samples_seen=2_000_000, batch_size=512, learning_rate=1e-3, warmup_steps=200, schedule="cosine", ema_decay=0.999,
    per_image_ratio=True,
)

# 64 steps [P]; guidance 4 constant, temperature 1, 100 head steps [S geneval.py, pipeline_image.py].
_RELEASED_SAMPLING = SamplingConfig(num_steps=64, num_head_steps=100, guidance_scale=4.0, guidance_schedule="constant")
_TINY_SAMPLING = SamplingConfig(num_steps=4, num_head_steps=25, guidance_scale=3.0)
_SMALL_SAMPLING = SamplingConfig(num_steps=16, num_head_steps=50, guidance_scale=3.0)

# [S] and, for flips, [P section 4.2].
_AS_RELEASED: dict[str, Any] = {"sampling": _RELEASED_SAMPLING, "flips": True, "weights": "raw"}
_RELEASED_256 = Preset(model=_RELEASED, train=_RELEASED_TRAIN, scale_learning_rate=True, **_AS_RELEASED)

PRESETS = {
    "tiny":          Preset(model=_TINY, train=_TINY_TRAIN, sampling=_TINY_SAMPLING),
    "small":         Preset(model=_SMALL, train=_SMALL_TRAIN, sampling=_SMALL_SAMPLING),
    "released":      switched(_RELEASED_256, "released"),
    "corrected":     switched(_RELEASED_256, "corrected"),
    "released-1024": Preset(model=_RELEASED, train=_RELEASED_1024, scale_learning_rate=True, **_AS_RELEASED),
    "released-base": replace(_RELEASED_256, model=_RELEASED_BASE),
    "released-huge": replace(_RELEASED_256, model=_RELEASED_HUGE),
    "paper-256":     Preset(model=_RELEASED, train=_PAPER_256, **_AS_RELEASED),
    "paper-512":     Preset(model=_RELEASED, train=_PAPER_512, **_AS_RELEASED),
}

PREFERENCES = {
    "tiny":  PreferenceConfig(beta=500.0, learning_rate=5e-5, batch_size=48, steps=200),
    # beta and learning rate [P]; batch and steps are stated nowhere.
    "paper": PreferenceConfig(beta=5000.0, learning_rate=1e-8, batch_size=256, steps=2000, precision="bf16"),
}
# fmt: on
