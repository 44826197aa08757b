"""Turn a released LightGen checkpoint (.pth) into a model folder, without running anything that is pickled in it."""

import argparse
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightgen.checkpoint import temporary_folder
from lightgen.mar import MAR, MARConfig

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


def our_name(released: str) -> str | None:
    """The name in `MAR` of a released parameter, or None for one that LightGen does not have."""
    for pattern, ours in _PATTERNS:
        if match := pattern.match(released):
            return match.expand(ours) + released[match.end() :]
    return None
