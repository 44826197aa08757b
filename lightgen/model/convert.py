"""Turn a released LightGen checkpoint (.pth) into a model folder, without running anything that is pickled in it."""

import argparse
import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from lightgen.disk.folders import temporary_folder
from lightgen.model.config import MARConfig
from lightgen.model.mar import MAR

# Released name -> ours, as prefixes of dotted names; `{}` stands for a block's number.
RELEASED_NAMES = {
    "text_emb.text_proj.": "text_projection.",
    "text_emb.text_aligner.": "text_blocks.",
    "text_emb.text_aligner_norm.": "text_norm.",
    "fake_latent": "null_text",
    "z_proj.": "token_embed.",
    "z_proj_ln.": "token_norm.",
    "encoder_pos_embed_learned": "encoder_positions",
    "encoder_blocks.": "encoder_blocks.",
    "encoder_norm.": "encoder_norm.",
    "decoder_embed.": "decoder_embed.",
    "mask_token": "mask_token",
    "decoder_pos_embed_learned": "decoder_positions",
    "decoder_blocks.": "decoder_blocks.",
    "decoder_norm.": "decoder_norm.",
    "last_embed.": "cross_embed.",
    "last_pos_embed_learned": "cross_positions",
    "cross_attn_blocks.{}.normq.": "cross_blocks.{}.norm_query.",
    "cross_attn_blocks.{}.normkv.": "cross_blocks.{}.norm_context.",
    "cross_attn_blocks.{}.norm2.": "cross_blocks.{}.norm_mlp.",
    "cross_attn_blocks.{}.attn.query_linear.": "cross_blocks.{}.attn.query.",
    "cross_attn_blocks.{}.attn.kv.": "cross_blocks.{}.attn.key_value.",
    "cross_attn_blocks.": "cross_blocks.",
    "cross_norm.": "cross_norm.",
    "diffloss.net.input_proj.": "head.input.",
    "diffloss.net.time_embed.mlp.0.": "head.time_in.",
    "diffloss.net.time_embed.mlp.2.": "head.time_out.",
    "diffloss.net.cond_embed.": "head.condition.",
    "diffloss.net.res_blocks.{}.in_ln.": "head.blocks.{}.norm.",
    "diffloss.net.res_blocks.{}.mlp.0.": "head.blocks.{}.fc1.",
    "diffloss.net.res_blocks.{}.mlp.2.": "head.blocks.{}.fc2.",
    "diffloss.net.res_blocks.{}.adaLN_modulation.1.": "head.blocks.{}.modulation.",
    "diffloss.net.final_layer.linear.": "head.final.linear.",
    "diffloss.net.final_layer.adaLN_modulation.1.": "head.final.modulation.",
}
_PATTERNS = [
    (re.compile(re.escape(released).replace(r"\{\}", r"(\d+)")), ours.replace("{}", r"\1"))
    for released, ours in RELEASED_NAMES.items()
]


def convert(
    checkpoint: str | Path,
    out: str | Path,
    *,
    weights: Literal["model", "model_ema"] = "model",
    heads: int = 16,
    patch_size: int = 2,
    max_text_length: int = 128,
) -> MARConfig:
    """Write the diffusers folder OUT of the model in a released checkpoint, and return its config.

    `weights`: `model` are the raw weights, which every released script samples from; `model_ema` their moving average.
    Sizes are read off the tensors; `heads`, `patch_size` and `max_text_length` cannot be (12 heads for fluid_base).
    """
    state = read_checkpoint(checkpoint, weights)
    config = infer_config(state, heads=heads, patch_size=patch_size, max_text_length=max_text_length)
    model = build_model(state, config)
    with temporary_folder(out) as folder:
        model.save_pretrained(folder, max_shard_size="20GB")
    return config


def read_checkpoint(path: str | Path, weights: str = "model") -> dict[str, Tensor]:
    """The state dict `weights` of a released checkpoint, memory-mapped; only tensors, plain values and the argparse
    Namespace are unpickled, anything else is refused before it runs."""
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 10):
        raise ValueError(
            f"torch {torch.__version__} is too old to read untrusted checkpoints safely; use torch >= 2.10"
        )
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            # Torch warns of pickles it does not write itself before it refuses them.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{path} holds more than tensors and plain values; refused, nothing was run: {reason}"
        ) from error
    except Exception as error:  # torn files raise anything from EOFError to struct.error
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ValueError(f"{path} is torn or no PyTorch checkpoint ({reason})") from None
    if not isinstance(content, Mapping) or weights not in content:
        found = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
        raise ValueError(f"{path} has no entry {weights!r}; found: {found}")
    state = content[weights]
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise ValueError(f"{path}: entry {weights!r} is no state dict of tensors")
    for name, value in state.items():
        if value.is_floating_point() and value.numel() and not math.isfinite(value.float().abs().max().item()):
            raise ValueError(f"{path}: {name} holds NaN or infinite numbers; fetch the checkpoint again")
    return dict(state)


def infer_config(state: Mapping[str, Tensor], *, heads: int, patch_size: int, max_text_length: int) -> MARConfig:
    """The config whose tensors a released state dict holds."""
    for name, value in (("heads", heads), ("patch_size", patch_size), ("max_text_length", max_text_length)):
        if value < 1:
            raise ValueError(f"{name} is {value}, must be at least 1")
    absent = sorted(name for name in _SIZE_NAMES if name not in state)
    if absent:
        raise ValueError(f"not a LightGen state dict: missing {', '.join(absent)}; it has {_some(sorted(state))}")
    width, token_dim = state["z_proj.weight"].shape
    entries = state["encoder_pos_embed_learned"].shape[1]
    if math.isqrt(entries) ** 2 != entries:
        raise ValueError(f"position tables of {entries} entries are not square")
    if token_dim % patch_size**2:
        raise ValueError(f"tokens of {token_dim} channels do not divide into patches of {patch_size}; give patch_size")
    return MARConfig(
        width=width,
        encoder_depth=_depth(state, "encoder_blocks"),
        decoder_depth=_depth(state, "decoder_blocks"),
        cross_depth=_depth(state, "cross_attn_blocks"),
        heads=heads,
        mlp_ratio=_mlp_ratio(state, width),
        text_depth=_depth(state, "text_emb.text_aligner"),
        text_channels=state["text_emb.text_proj.linear_1.weight"].shape[1],
        max_text_length=max_text_length,
        vae_channels=token_dim // patch_size**2,
        patch_size=patch_size,
        position_grid=math.isqrt(entries),
        head_depth=_depth(state, "diffloss.net.res_blocks"),
        head_width=state["diffloss.net.input_proj.weight"].shape[0],
    )


def build_model(state: Mapping[str, Tensor], config: MARConfig) -> MAR:
    """The model of `config` with exactly the tensors of a released state dict; anything else is listed and refused."""
    with torch.device("meta"):
        model = MAR(config)
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    renamed = {released: our_name(released) or "" for released in state}
    problems = {
        "missing": sorted(set(wanted) - set(renamed.values())),
        "unexpected": sorted(released for released, ours in renamed.items() if ours not in wanted),
        "of another shape": [
            f"{released} {tuple(state[released].shape)} instead of {wanted[ours]}"
            for released, ours in sorted(renamed.items())
            if ours in wanted and tuple(state[released].shape) != wanted[ours]
        ],
    }
    if any(problems.values()):
        listed = "; ".join(f"{kind}: {_some(names)}" for kind, names in problems.items() if names)
        raise ValueError(f"the checkpoint does not fit the released architecture. {listed}")
    model.load_state_dict({ours: state[released] for released, ours in renamed.items()}, assign=True)
    return model.eval()


def our_name(released: str) -> str | None:
    """The name in `MAR` of a released parameter, or None for one that LightGen does not have."""
    for pattern, ours in _PATTERNS:
        if match := pattern.match(released):
            return match.expand(ours) + released[match.end() :]
    return None


_SIZE_NAMES = (
    "z_proj.weight",
    "encoder_pos_embed_learned",
    "text_emb.text_proj.linear_1.weight",
    "diffloss.net.input_proj.weight",
)


def _depth(state: Mapping[str, Tensor], stack: str) -> int:
    """The number of blocks named `stack`.0, `stack`.1, ..."""
    numbers = {int(match[1]) for name in state if (match := re.match(re.escape(stack) + r"\.(\d+)\.", name))}
    return max(numbers, default=-1) + 1


def _mlp_ratio(state: Mapping[str, Tensor], width: int) -> float:
    hidden = [value.shape[0] for name, value in state.items() if name.endswith(".mlp.fc1.weight")]
    return hidden[0] / width if hidden else 4.0


def _some(names: list[Any], limit: int = 8) -> str:
    return ", ".join(map(str, names[:limit])) + (f" and {len(names) - limit} more" if len(names) > limit else "")
