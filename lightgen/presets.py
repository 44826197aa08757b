"""Model sizes and recipes, one row each. What a row takes from the paper or the released scripts is named beside it.

[P] arXiv 2503.08619 section 5.1, [S] the released scripts and code, [I] inferred: stated nowhere.
An epoch is 2,282,665 images (the data set's captions as counted by others); the rows count images, not epochs.
"""

from dataclasses import dataclass

from lightgen.mar import MARConfig
from lightgen.preference import PreferenceConfig
from lightgen.sampling import SamplingConfig
from lightgen.training import TrainConfig

EPOCH = 2_282_665


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A model, how it is trained and how it generates by default."""

    model: MARConfig
    train: TrainConfig
    sampling: SamplingConfig


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
    learning_rate=8e-4,  # blr 1e-4 * 2048 / 256 [S main_fluid.py:243-248]
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
    per_image_ratio=True, log_every=25,
)
_SMALL_TRAIN = TrainConfig(
    samples_seen=2_000_000, batch_size=512, learning_rate=1e-3, warmup_steps=200, schedule="cosine", ema_decay=0.999,
    per_image_ratio=True,
)

# 64 steps [P]; guidance 4 constant, temperature 1, 100 head steps [S geneval.py, pipeline_image.py].
_RELEASED_SAMPLING = SamplingConfig(num_steps=64, num_head_steps=100, guidance_scale=4.0, guidance_schedule="constant")
_TINY_SAMPLING = SamplingConfig(num_steps=4, num_head_steps=25, guidance_scale=3.0)
_SMALL_SAMPLING = SamplingConfig(num_steps=16, num_head_steps=50, guidance_scale=3.0)

PRESETS = {
    "tiny":          Preset(model=_TINY,          train=_TINY_TRAIN,     sampling=_TINY_SAMPLING),
    "small":         Preset(model=_SMALL,         train=_SMALL_TRAIN,    sampling=_SMALL_SAMPLING),
    "released-256":  Preset(model=_RELEASED,      train=_RELEASED_TRAIN, sampling=_RELEASED_SAMPLING),
    "released-1024": Preset(model=_RELEASED,      train=_RELEASED_1024,  sampling=_RELEASED_SAMPLING),
    "released-base": Preset(model=_RELEASED_BASE, train=_RELEASED_TRAIN, sampling=_RELEASED_SAMPLING),
    "released-huge": Preset(model=_RELEASED_HUGE, train=_RELEASED_TRAIN, sampling=_RELEASED_SAMPLING),
    "paper-256":     Preset(model=_RELEASED,      train=_PAPER_256,      sampling=_RELEASED_SAMPLING),
    "paper-512":     Preset(model=_RELEASED,      train=_PAPER_512,      sampling=_RELEASED_SAMPLING),
}

PREFERENCES = {
    "tiny":  PreferenceConfig(beta=500.0, learning_rate=5e-5, batch_size=48, steps=200),
    # beta and learning rate [P]; batch and steps are stated nowhere.
    "paper": PreferenceConfig(beta=5000.0, learning_rate=1e-8, batch_size=256, steps=2000, precision="bf16"),
}
# fmt: on
