"""The models that are timed, with random weights, and a table of their sizes."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lightgen.model.config import MARConfig
from lightgen.model.mar import MAR


@dataclass(frozen=True, kw_only=True)
class Size:
    """A model and the inputs it is timed on."""

    model: MARConfig
    grid: int  # tokens per side
    text_length: int  # positions
    batch_size: int  # images generated at once


_GOLDEN = MARConfig(
    width=64, encoder_depth=2, decoder_depth=2, cross_depth=2, heads=4, text_depth=2, text_channels=32,
    max_text_length=8, vae_channels=4, head_depth=3, head_width=64, noise_copies=2,
)  # fmt: skip
# The released proportions, a quarter as deep: head 1.5 and text features 4 times as wide as the trunk.
_TEN_MILLION = MARConfig(
    width=224, encoder_depth=4, decoder_depth=4, cross_depth=4, heads=4, text_depth=2, text_channels=896,
    max_text_length=128, vae_channels=16, head_depth=2, head_width=336,
)  # fmt: skip

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SIZES = {
    "golden": Size(model=_GOLDEN, grid=16, text_length=8, batch_size=2),  # of the recorded outputs of the release
    "10m": Size(model=_TEN_MILLION, grid=16, text_length=128, batch_size=1),
    "released": Size(model=MARConfig(), grid=16, text_length=128, batch_size=1),
}


def size(name: str, **changes: Any) -> Size:
    """The size `name`, with other values of its fields."""
    if name not in SIZES:
        raise ValueError(f"no size {name!r}; valid: {', '.join(SIZES)}")
    return replace(SIZES[name], **changes)


def make_model(config: MARConfig, device: torch.device, dtype: torch.dtype = torch.float32) -> MAR:
    """A model whose output depends on all of its weights: the zero layers it starts with are filled too."""
    torch.manual_seed(0)
    with torch.device(device):
        model = MAR(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1 and not parameter.any():
                parameter.normal_(std=0.02)
    return nn.Module.to(model, dtype).eval()


def make_text(chosen: Size, device: torch.device, batch: int) -> tuple[Tensor, Tensor]:
    """Text features (B, L, text_channels) and their lengths (B,)."""
    generator = torch.Generator().manual_seed(1)
    text = torch.randn(batch, chosen.text_length, chosen.model.text_channels, generator=generator)
    return text.to(device), torch.full((batch,), chosen.text_length, device=device)


def describe(chosen: Size, model: MAR) -> dict[str, Any]:
    """What a record says of the model."""
    config = chosen.model
    return {
        "parameters": model.num_parameters(),
        "width": config.width,
        "depths": [config.encoder_depth, config.decoder_depth, config.cross_depth],
        "head": [config.head_depth, config.head_width],
        "tokens": chosen.grid**2,
        "text_positions": chosen.text_length,
        "batch_size": chosen.batch_size,
    }
