"""GenEval's own detector checkpoint (mmdet's Mask2Former Swin, .pth) to a transformers folder, tensor by tensor.

Sizes and depths are read from the tensors. A tensor that is left over or missing fails the conversion.
"""

import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geneval.atomic import partial_path
from geneval.hashes import file_sha256, safetensors_sha256
from geneval.json_files import sealed_text
from geneval.preprocessing import Preprocessing
from geneval.prompts import OBJECTS

if TYPE_CHECKING:
    import torch

State = dict[str, "torch.Tensor"]

_NUM_POINTS = 4  # sampling points of a deformable head and level; fixed in both libraries
_HEAD, _BACKBONE = "panoptic_head.", "backbone."
_SWIN = "model.pixel_level_module.encoder.swin."
_NORMS = "model.pixel_level_module.encoder.hidden_states_norms.stage"
_PIXELS = "model.pixel_level_module.decoder."
_QUERIES = "model.transformer_module."
_DECODER = r"panoptic_head\.pixel_decoder\."
# In transformers' model and in no checkpoint of mmdet's: unused at inference.
_UNUSED = {f"{_SWIN}layernorm.weight", f"{_SWIN}layernorm.bias", "criterion.empty_weight"}

# mmdet 3's names of what mmdet 2 calls attentions.0 (cross), attentions.1 (self) and ffns.0.
_FROM_MMDET_3 = (
    (r"(pixel_decoder\.encoder\.layers\.\d+)\.self_attn\.", r"\1.attentions.0."),
    (r"(transformer_decoder\.layers\.\d+)\.cross_attn\.", r"\1.attentions.0."),
    (r"(transformer_decoder\.layers\.\d+)\.self_attn\.", r"\1.attentions.1."),
    (r"(layers\.\d+)\.ffn\.", r"\1.ffns.0."),
)

# Of each part: mmdet 2's prefix, transformers' prefix, and what differs after them. The Swin attention and the
# downsampling change values too.
_BLOCK, _LAYER = r"backbone\.stages\.(\d+)\.blocks\.(\d+)\.", r"layers\.(\d+)\."
_PARTS = (
    (r"backbone\.patch_embed\.", f"{_SWIN}embeddings.", {"projection": "patch_embeddings.projection", "norm": "norm"}),
    (
        _BLOCK,
        rf"{_SWIN}encoder.layers.\1.blocks.\2.",
        {
            "norm1": "layernorm_before",
            "norm2": "layernorm_after",
            "ffn.layers.0.0": "mlp.fc1",
            "ffn.layers.1": "mlp.fc2",
            "attn.w_msa.proj": "attention.o_proj",
            "attn.w_msa.qkv": "attention.{qkv}_proj",
            "attn.w_msa": "attention.relative_position_bias",  # .relative_position_bias_table
        },
    ),
    (r"backbone\.stages\.(\d+)\.", rf"{_SWIN}encoder.layers.\1.", {"downsample": "downsample"}),
    (r"backbone\.", _NORMS, {f"norm{i}": str(i + 1) for i in range(4)}),
    (rf"{_DECODER}input_convs\.(\d+)\.", rf"{_PIXELS}input_projections.\1.", {"conv": "0", "gn": "1"}),
    (rf"{_DECODER}lateral_convs\.0\.", f"{_PIXELS}adapter_1.", {"conv": "0", "gn": "1"}),
    (rf"{_DECODER}output_convs\.0\.", f"{_PIXELS}layer_1.", {"conv": "0", "gn": "1"}),
    (
        rf"{_DECODER}encoder\.{_LAYER}",
        rf"{_PIXELS}encoder.layers.\1.",
        {
            "attentions.0": "self_attn",
            "ffns.0.layers.0.0": "fc1",
            "ffns.0.layers.1": "fc2",
            "norms.0": "self_attn_layer_norm",
            "norms.1": "final_layer_norm",
        },
    ),
    (_DECODER, _PIXELS, {"mask_feature": "mask_projection"}),
    (
        rf"panoptic_head\.transformer_decoder\.{_LAYER}",
        rf"{_QUERIES}decoder.layers.\1.",
        {
            "attentions.0.attn": "cross_attn",
            "attentions.1.attn": "self_attn",
            "ffns.0.layers.0.0": "fc1",
            "ffns.0.layers.1": "fc2",
            "norms.0": "cross_attn_layer_norm",
            "norms.1": "self_attn_layer_norm",
            "norms.2": "final_layer_norm",
        },
    ),
    (
        r"panoptic_head\.",
        _QUERIES,
        {
            "transformer_decoder.post_norm": "decoder.layernorm",
            "query_embed": "queries_embedder",
            "query_feat": "queries_features",
            "level_embed": "level_embed",
            **{f"mask_embed.{2 * i}": f"decoder.mask_predictor.mask_embedder.{i}.0" for i in range(3)},
        },
    ),
    (r"panoptic_head\.", "", {"cls_embed": "class_predictor"}),
)
_WHOLE = (  # names that are more than a part's and a rest
    (r"panoptic_head\.pixel_decoder\.level_encoding\.weight", f"{_PIXELS}level_embed"),
    (
        rf"panoptic_head\.transformer_decoder\.{_LAYER}attentions\.1\.attn\.in_proj_",
        rf"{_QUERIES}decoder.layers.\1.self_attn.{{qkv}}_proj.",
    ),
)
# mmdet 2's name -> transformers' name, first match wins.
_NAMES = [(re.compile(pattern), replacement) for pattern, replacement in _WHOLE] + [
    (re.compile(rf"{prefix}{re.escape(ours)}\."), f"{target}{theirs}.")
    for prefix, target, rows in _PARTS
    for ours, theirs in rows.items()
]


class ConversionError(ValueError):
    """A checkpoint that is not the detector, or not all of it."""


def convert_checkpoint(checkpoint: Path, out: Path) -> None:
    """Write OUT as a transformers Mask2Former folder with GenEval's preprocessing, names and the checkpoint's hash."""
    if out.exists():
        raise FileExistsError(f"{out}: exists already; give a new folder")
    model = converted_model(read_state(checkpoint))
    partial = partial_path(out)
    try:
        model.save_pretrained(partial)
        settings = {"image_processor_type": "Mask2FormerImageProcessor", **Preprocessing().record()}
        path = partial / "preprocessor_config.json"
        path.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        origin = {"source": checkpoint.name, "sha256": file_sha256(checkpoint)}
        # What was written, so that damage to it is seen where the folder is used.
        origin |= {"weights": safetensors_sha256(partial), "preprocessing": file_sha256(path)}
        (partial / "conversion.json").write_text(sealed_text(origin), encoding="utf-8")
        os.replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_state(checkpoint: Path) -> State:
    """The tensors of a .pth under mmdet 2's names, float32; only tensors and plain values are unpickled."""
    if not checkpoint.is_file():
        raise FileNotFoundError(f"{checkpoint}: no such checkpoint")
    import torch

    try:
        if zipfile.is_zipfile(checkpoint):
            _check_sums(checkpoint)
        record = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ConversionError(
            f"{checkpoint}: not a checkpoint of tensors and plain values ({type(error).__name__}: {str(error)[:100]}); "
            "if it is the original, save its state_dict alone with torch.save({'state_dict': ...}) where you trust it"
        ) from None
    state = record.get("state_dict", record) if isinstance(record, dict) else {}
    if not all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()):
        raise ConversionError(f"{checkpoint}: its state_dict holds more than tensors by name")
    if wrong := [n for n, v in state.items() if v.is_floating_point() and not v.isfinite().all()]:
        raise ConversionError(f"{checkpoint}: {wrong[0]} holds NaN or infinite numbers; fetch the file again")
    if not any(name.startswith(_HEAD) for name in state):
        raise ConversionError(f"{checkpoint}: holds no mmdet Mask2Former (no {_HEAD}* tensors)")
    return {
        _mmdet_2_name(name): value.float() for name, value in state.items() if "relative_position_index" not in name
    }


def _check_sums(checkpoint: Path) -> None:
    """Compare the checksums that a zip archive holds of its members; torch does not."""
    with zipfile.ZipFile(checkpoint) as archive:
        if packed := [one.filename for one in archive.infolist() if one.compress_type != zipfile.ZIP_STORED]:
            raise zipfile.BadZipFile(f"{packed[0]} is compressed, which torch writes of none")
        if wrong := archive.testzip():
            raise zipfile.BadZipFile(f"the checksum of {wrong} differs")


def converted_model(state: State) -> Any:
    """The transformers model with these tensors; every one of them is used."""
    from transformers import Mask2FormerForUniversalSegmentation

    model = Mask2FormerForUniversalSegmentation(_config(state))
    target = model.state_dict()
    converted: State = {}
    for name, value in state.items():
        converted.update(_converted(name, value))
    missing = target.keys() - converted.keys() - _UNUSED
    foreign = converted.keys() - target.keys()
    wrong = {n for n in converted.keys() & target.keys() if converted[n].shape != target[n].shape}
    if missing or foreign or wrong:
        example = min(missing or foreign or wrong)
        raise ConversionError(
            f"not the whole detector: {len(missing)} tensors missing, {len(foreign)} left over, "
            f"{len(wrong)} of another shape, as {example}"
        )
    model.load_state_dict(target | converted)
    return model.eval()


def _mmdet_2_name(name: str) -> str:
    for pattern, replacement in _FROM_MMDET_3:
        name = re.sub(pattern, replacement, name)
    return name


def _converted(name: str, value: "torch.Tensor") -> Iterator[tuple[str, "torch.Tensor"]]:
    """transformers' name and value(s) of one tensor of mmdet's."""
    for pattern, replacement in _NAMES:
        target, count = pattern.subn(replacement, name, count=1)
        if count:
            break
    else:
        raise ConversionError(f"unknown tensor {name}")
    if "{qkv}" in target:
        yield from ((target.format(qkv=part), chunk) for part, chunk in zip("qkv", value.chunk(3)))
    elif ".downsample." in target:
        yield target, _merged_patches(value)
    else:
        yield target, value


def _merged_patches(value: "torch.Tensor") -> "torch.Tensor":
    """mmdet unfolds a 2x2 patch as channel-major (c, row, column), transformers stacks it as (column, row, c)."""
    return value.unflatten(-1, (-1, 2, 2)).transpose(-1, -3).flatten(-3)


def _config(state: State) -> Any:
    """Sizes and depths, read from the tensors."""
    from transformers import Mask2FormerConfig, SwinConfig

    def shape(name: str) -> tuple[int, ...]:
        if name not in state:
            raise ConversionError(f"not a Mask2Former with a Swin backbone: {name} is missing")
        return tuple(state[name].shape)

    stages = range(_count(state, r"backbone\.stages\.(\d+)\."))
    tables = [shape(f"backbone.stages.{i}.blocks.0.attn.w_msa.relative_position_bias_table") for i in stages]
    projection = shape("backbone.patch_embed.projection.weight")
    backbone: dict[str, Any] = {
        "embed_dim": projection[0],
        "patch_size": projection[-1],
        "depths": [_count(state, rf"backbone\.stages\.{i}\.blocks\.(\d+)\.") for i in stages],
        "num_heads": [table[1] for table in tables],
        "window_size": (round(tables[0][0] ** 0.5) + 1) // 2,
        "mlp_ratio": shape("backbone.stages.0.blocks.0.ffn.layers.0.0.weight")[0] / projection[0],
        "out_features": [f"stage{i + 1}" for i in stages],
    }
    num_queries, width = shape("panoptic_head.query_feat.weight")
    encoder, decoder = "panoptic_head.pixel_decoder.encoder.layers", "panoptic_head.transformer_decoder.layers"
    num_levels = shape("panoptic_head.level_embed.weight")[0]
    num_classes = shape("panoptic_head.cls_embed.weight")[0] - 1
    if num_classes != len(OBJECTS):
        raise ConversionError(f"a detector of {num_classes} classes; GenEval's has {len(OBJECTS)}")
    return Mask2FormerConfig(
        backbone_config=SwinConfig(**backbone),
        feature_size=shape("panoptic_head.pixel_decoder.lateral_convs.0.conv.weight")[0],
        mask_feature_size=shape("panoptic_head.pixel_decoder.mask_feature.weight")[0],
        hidden_dim=width,
        encoder_layers=_count(state, rf"{re.escape(encoder)}\.(\d+)\."),
        encoder_feedforward_dim=shape(f"{encoder}.0.ffns.0.layers.0.0.weight")[0],
        decoder_layers=_count(state, rf"{re.escape(decoder)}\.(\d+)\.") + 1,  # transformers counts the first prediction
        dim_feedforward=shape(f"{decoder}.0.ffns.0.layers.0.0.weight")[0],
        num_attention_heads=shape(f"{encoder}.0.attentions.0.attention_weights.weight")[0]
        // (num_levels * _NUM_POINTS),
        num_queries=num_queries,
        id2label=dict(enumerate(OBJECTS)),
        label2id={name: i for i, name in enumerate(OBJECTS)},
    )


def _count(state: State, pattern: str) -> int:
    """One more than the largest number that the pattern's group takes."""
    return max((int(m.group(1)) for m in map(re.compile(pattern).match, state) if m), default=-1) + 1
