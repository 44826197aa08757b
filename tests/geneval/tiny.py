"""Tiny random judges in their libraries' own folder formats, and mmdet's tensors."""

import json
import lzma
from pathlib import Path
from typing import Any

CLASSES = ("cat", "dog", "bus")
BOXES = {0: "N/A", 1: "cat", 2: "mouse", 3: "tvmonitor"}


def make_detector(folder: Path) -> Path:
    """A Mask2Former of three classes for 32 px pictures."""
    import torch
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    torch.manual_seed(0)
    backbone = SwinConfig(
        image_size=32, patch_size=2, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = Mask2FormerConfig(
        backbone_config=backbone, num_queries=6, hidden_dim=32, feature_size=32, mask_feature_size=32, encoder_layers=1,
        decoder_layers=2, encoder_feedforward_dim=32, dim_feedforward=32, num_attention_heads=2,
        id2label=dict(enumerate(CLASSES)), label2id={name: i for i, name in enumerate(CLASSES)},
    )  # fmt: skip
    model = Mask2FormerForUniversalSegmentation(config)
    # Confident random answers, so that prompts are sometimes met and colors are asked for.
    torch.nn.init.normal_(model.class_predictor.weight, std=2.0)
    model.save_pretrained(folder)
    settings = {"size": {"shortest_edge": 32, "longest_edge": 64}, "size_divisor": 16}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def make_box_detector(folder: Path) -> Path:
    """A DETR of three classes and a gap in their numbering."""
    import torch
    from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessor, ResNetConfig

    torch.manual_seed(0)
    backbone = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1] * 4, layer_type="basic", out_features=["stage4"]
    )
    config = DetrConfig(
        use_timm_backbone=False, backbone_config=backbone, backbone=None, use_pretrained_backbone=False, d_model=16,
        encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
        decoder_ffn_dim=16, num_queries=12, id2label=BOXES, label2id={v: k for k, v in BOXES.items()},
    )  # fmt: skip
    processor = DetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    return save_box_detector(DetrForObjectDetection(config), folder, processor)


def save_box_detector(model: Any, folder: Path, processor: Any) -> Path:
    """With confident random answers, so that objects are found."""
    import torch

    for name, parameter in model.named_parameters():
        if "class" in name and parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=2.0)
        elif "class" in name:
            parameter.data[0] = -10.0  # seldom the gap in the numbering
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def make_clip(folder: Path) -> Path:
    """A CLIP with random weights."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    save_file(open_clip.CLIP(**config).state_dict(), folder / "open_clip_model.safetensors")
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    return folder


def mmdet_tensors(golden: Path) -> dict[str, Any]:
    """mmdet's tensors under mmdet's names, float32, without its index buffers."""
    from safetensors.torch import load

    plain, packed = golden / "weights.safetensors", golden / "weights.safetensors.xz"
    state = load(plain.read_bytes() if plain.is_file() else lzma.decompress(packed.read_bytes()))
    return {name: value.float() for name, value in state.items() if "relative_position_index" not in name}


def write_mmdet(path: Path, state: dict[str, Any], **options: Any) -> Path:
    """A .pth as mmdet writes it."""
    import torch

    index = {"backbone.stages.0.blocks.0.attn.w_msa.relative_position_index": torch.zeros(49, 49, dtype=torch.long)}
    torch.save({"meta": {"CLASSES": ["person"], "epoch": 1}, "state_dict": state | index}, path, **options)
    return path
