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
    from lightgen.sampling import SamplingConfig, generate_latents

_MODULES = {
    "MAR": "mar",
    "Draws": "masking",
    "ImageTokenizer": "encoders",
    "LightGenPipeline": "pipeline",
    "MARConfig": "mar",
    "MARLoss": "mar",
    "SamplingConfig": "sampling",
    "TextEncoder": "encoders",
    "draw": "masking",
    "generate_latents": "sampling",
}

__all__ = [
    "MAR",
    "Draws",
    "ImageTokenizer",
    "LightGenPipeline",
    "MARConfig",
    "MARLoss",
    "SamplingConfig",
    "TextEncoder",
    "draw",
    "generate_latents",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'lightgen' has no attribute {name!r}")
    return getattr(importlib.import_module(f"lightgen.{_MODULES[name]}"), name)
