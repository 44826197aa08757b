"""LightGen: a text-to-image masked autoregressive model with a diffusion head, its data, training and generation.

Names are imported when they are first used, so that `import lightgen` and `--help` need no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightgen.encoders import ImageTokenizer, TextEncoder
    from lightgen.mar import MAR, MARConfig, MARLoss
    from lightgen.masking import Draws, draw
    from lightgen.pipeline import LightGenPipeline
    from lightgen.preference import PreferenceConfig, train_dpo
    from lightgen.preference_loss import dpo_loss
    from lightgen.sampling import SamplingConfig, generate_latents
    from lightgen.training import TrainConfig, train

_MODULES = {
    "MAR": "mar",
    "Draws": "masking",
    "ImageTokenizer": "encoders",
    "LightGenPipeline": "pipeline",
    "MARConfig": "mar",
    "MARLoss": "mar",
    "PreferenceConfig": "preference",
    "SamplingConfig": "sampling",
    "TextEncoder": "encoders",
    "TrainConfig": "training",
    "dpo_loss": "preference_loss",
    "draw": "masking",
    "generate_latents": "sampling",
    "train": "training",
    "train_dpo": "preference",
}

__all__ = [
    "MAR",
    "Draws",
    "ImageTokenizer",
    "LightGenPipeline",
    "MARConfig",
    "MARLoss",
    "PreferenceConfig",
    "SamplingConfig",
    "TextEncoder",
    "TrainConfig",
    "dpo_loss",
    "draw",
    "generate_latents",
    "train",
    "train_dpo",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'lightgen' has no attribute {name!r}")
    return getattr(importlib.import_module(f"lightgen.{_MODULES[name]}"), name)
