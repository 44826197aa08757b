"""Which autoencoders of diffusers and text encoders of transformers can stand around the model, and how each is read.

Latents are the autoencoder's own, minus its config's `shift_factor` (0 where it has none), times its `scaling_factor`:
AutoencoderKL is sampled from mean and log variance; AutoencoderTiny and AutoencoderDC have one latent an image. Text
features are the last hidden state as the model's final norm gives it, not scaled any further: of T5 the encoder's, of
CLIP the text tower's, of a decoder such as Llama, Gemma or Qwen the causal features after the last token's norm.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from lightgen.disk.json_files import read_object

HEADS = (
    "lm_head.",
    "head.",
    "decoder.",
    "cls.",
    "score.",
    "classifier.",
)  # what a text model has on top, and needs not


class Family(NamedTuple):
    """How one class of autoencoders encodes pixels (B, 3, H, W) in [-1, 1]."""

    encode: Callable[[Any, Tensor], Tensor]  # (B, 2C, h, w) mean and log variance, or (B, C, h, w)
    levels: str  # the config's list with an entry a level; each level but one halves the side


AUTOENCODERS = {
    "AutoencoderKL": Family(lambda vae, x: vae.encode(x).latent_dist.parameters, "block_out_channels"),
    "AutoencoderTiny": Family(lambda vae, x: vae.encode(x).latents, "encoder_block_out_channels"),
    "AutoencoderDC": Family(lambda vae, x: vae.encode(x).latent, "encoder_block_out_channels"),
}


def family_of(vae: Any) -> Family:
    """How this autoencoder is read. ValueError for another class, and for latents normalized channel by channel."""
    name = type(vae).__name__
    if name not in AUTOENCODERS:
        raise ValueError(f"{name} is no autoencoder that is known; valid: {', '.join(AUTOENCODERS)}")
    if vae.config.get("latents_mean") is not None:
        raise ValueError(f"this {name} normalizes its latents channel by channel, which is not supported")
    return AUTOENCODERS[name]


def autoencoder_class(folder: Path) -> type:
    """The diffusers class that a folder's config names."""
    import diffusers

    name = _config(folder).get("_class_name", "AutoencoderKL")
    if not isinstance(name, str) or name not in AUTOENCODERS:
        raise ValueError(f"{folder} holds a {name}; valid: {', '.join(AUTOENCODERS)}")
    return getattr(diffusers, name)


def text_class(folder: Path) -> type:
    """The transformers class that gives text features of a folder's model: an encoder, or a decoder."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES, MODEL_MAPPING_NAMES

    kind = _config(folder).get("model_type", "t5")
    known = {**MODEL_MAPPING_NAMES, **MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES}
    name = known.get(kind) if isinstance(kind, str) else None
    if not isinstance(name, str):
        raise ValueError(f"{folder} holds a model of type {kind!r}, of which transformers has no text encoder")
    return getattr(transformers, name)


def text_options(cls: type) -> dict[str, Any]:
    """What a text model is loaded with: no pooling layer, which features do not pass through."""
    pools = "add_pooling_layer" in inspect.signature(cls.__init__).parameters  # type: ignore[misc]
    return {"add_pooling_layer": False} if pools else {}


def _config(folder: Path) -> dict[str, Any]:
    path = Path(folder) / "config.json"
    return read_object(path) if path.is_file() else {}
