"""LightGen: a text-to-image masked autoregressive model with a diffusion head, its data, training and generation.

Names are imported when they are first used, so that `import lightgen` and `--help` need no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightgen.model.config import MARConfig, SamplingConfig
    from lightgen.model.encoders import ImageTokenizer, TextEncoder
    from lightgen.model.folder import export, load_pipeline, load_transformer
    from lightgen.model.mar import MAR, MARLoss
    from lightgen.model.masking import Draws, draw
    from lightgen.model.pipeline import LightGenPipeline
    from lightgen.model.sampling import generate_latents
    from lightgen.preference.config import PreferenceConfig
    from lightgen.preference.dpo import train_dpo
    from lightgen.preference.loss import dpo_loss
    from lightgen.training.config import LoopConfig, TrainConfig
    from lightgen.training.train import train

_MODULES = {
    "MAR": "model.mar",
    "Draws": "model.masking",
    "ImageTokenizer": "model.encoders",
    "LightGenPipeline": "model.pipeline",
    "LoopConfig": "training.config",
    "MARConfig": "model.config",
    "MARLoss": "model.mar",
    "PreferenceConfig": "preference.config",
    "SamplingConfig": "model.config",
    "TextEncoder": "model.encoders",
    "TrainConfig": "training.config",
    "dpo_loss": "preference.loss",
    "draw": "model.masking",
    "export": "model.folder",
    "generate_latents": "model.sampling",
    "load_pipeline": "model.folder",
    "load_transformer": "model.folder",
    "train": "training.train",
    "train_dpo": "preference.dpo",
}

__all__ = [
    "MAR",
    "Draws",
    "ImageTokenizer",
    "LightGenPipeline",
    "LoopConfig",
    "MARConfig",
    "MARLoss",
    "PreferenceConfig",
    "SamplingConfig",
    "TextEncoder",
    "TrainConfig",
    "dpo_loss",
    "draw",
    "export",
    "generate_latents",
    "load_pipeline",
    "load_transformer",
    "train",
    "train_dpo",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'lightgen' has no attribute {name!r}")
    return getattr(importlib.import_module(f"lightgen.{_MODULES[name]}"), name)
