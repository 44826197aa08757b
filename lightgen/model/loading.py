"""The arguments of a pipeline's `from_pretrained`, as diffusers has them: the type, files and device of each part."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lightgen.model.encoders import load_autoencoder, load_complete, load_text_model
from lightgen.model.mar import MAR

Dtypes = torch.dtype | Mapping[str, torch.dtype] | None
LOADERS: dict[str, Callable[..., Any]] = {
    "vae": load_autoencoder,
    "text_encoder": load_text_model,
    "transformer": partial(load_complete, MAR),
}


def one_dtype(dtype: Dtypes, torch_dtype: Dtypes) -> Dtypes:
    """The one that was given of two names for it; ValueError for both."""
    if dtype is not None and torch_dtype is not None:
        raise ValueError("both dtype and torch_dtype are given; torch_dtype is the old name of dtype, give dtype alone")
    return torch_dtype if dtype is None else dtype


def load_options(folder: Path, dtype: Dtypes, variant: str | None) -> dict[str, dict[str, Any]]:
    """What each part of a pipeline folder is loaded with; parts without weights of a variant take their plain ones.

    ValueError for a variant that no part has, in diffusers' words, and for types of parts that there are not.
    """
    having = {name for name in LOADERS if variant is not None and _has_variant(folder / name, variant)}
    if variant is not None and not having:
        raise ValueError(
            f"You are trying to load the model files of the `variant={variant}`, but no such modeling files are "
            f"available in {folder}."
        )
    found: dict[str, dict[str, Any]] = {}
    for name in LOADERS:
        kind = _dtype_of(name, dtype)
        found[name] = ({} if kind is None else {"dtype": kind}) | ({"variant": variant} if name in having else {})
    return found


def device_map_of(places: str | Mapping[str, str]) -> dict[str, str]:
    """part -> device; "balanced" puts the text encoder, the largest part, on an accelerator of its own if there are
    several. ValueError for parts that there are not, and for "balanced" without an accelerator."""
    if isinstance(places, Mapping):
        _refuse_unknown(places, "device_map")
        return dict(places)
    if places != "balanced":
        return dict.fromkeys(LOADERS, places)
    if not torch.accelerator.is_available():
        raise ValueError("device_map 'balanced' needs an accelerator, and there is none; give 'cpu', or nothing")
    kind = torch.accelerator.current_accelerator().type  # type: ignore[union-attr]
    last = torch.accelerator.device_count() - 1
    return {"vae": f"{kind}:0", "text_encoder": f"{kind}:{last}", "transformer": f"{kind}:0"}


def _dtype_of(name: str, dtype: Dtypes) -> torch.dtype | None:
    if not isinstance(dtype, Mapping):
        return dtype
    _refuse_unknown(set(dtype) - {"default"}, "dtype")
    return dtype.get(name, dtype.get("default"))


def _refuse_unknown(names: Any, argument: str) -> None:
    if unknown := sorted(set(names) - set(LOADERS)):
        raise ValueError(f"{argument} names {', '.join(unknown)}; the parts are {', '.join(LOADERS)}")


def _has_variant(folder: Path, variant: str) -> bool:
    return any(folder.glob(f"*.{variant}.safetensors")) or any(folder.glob(f"*.{variant}-*.safetensors"))
