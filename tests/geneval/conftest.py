"""Where the goldens lie, and tiny random components in their libraries' own folder formats."""

import json
import lzma
import os
from pathlib import Path

import pytest

_COPY = Path(__file__).parents[1] / "golden"
CLASSES = ("cat", "dog", "bus")


@pytest.fixture(scope="session")
def geneval_golden() -> Path:
    return Path(os.environ.get("GENEVAL_GOLDEN", _COPY / "geneval"))


@pytest.fixture(scope="session")
def mmdet_golden() -> Path:
    return Path(os.environ.get("MMDET_GOLDEN", _COPY / "mmdet"))


@pytest.fixture(scope="session")
def mmdet_state(mmdet_golden) -> dict:
    """mmdet's tensors under mmdet's names, float32, without its index buffers."""
    from safetensors.torch import load

    plain, packed = mmdet_golden / "weights.safetensors", mmdet_golden / "weights.safetensors.xz"
    state = load(plain.read_bytes() if plain.is_file() else lzma.decompress(packed.read_bytes()))
    return {name: value.float() for name, value in state.items() if "relative_position_index" not in name}


@pytest.fixture(scope="session")
def mmdet_checkpoint(mmdet_golden, mmdet_state, tmp_path_factory) -> Path:
    """A .pth as mmdet writes it: the golden's own, or its tensors in the same structure and PyTorch's old format."""
    import torch

    whole = mmdet_golden / "tiny_mmdet.pth"
    if whole.is_file():
        return whole
    index = {"backbone.stages.0.blocks.0.attn.w_msa.relative_position_index": torch.zeros(49, 49, dtype=torch.long)}
    path = tmp_path_factory.mktemp("mmdet") / "tiny_mmdet.pth"
    content = {"meta": {"CLASSES": ["person"], "epoch": 1}, "state_dict": mmdet_state | index}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


@pytest.fixture(scope="session")
def detector_folder(tmp_path_factory) -> Path:
    """A Mask2Former of three classes for 32 px pictures."""
    import torch
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("detector")
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


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory) -> Path:
    """A CLIP with random weights."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip")
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    save_file(open_clip.CLIP(**config).state_dict(), folder / "open_clip_model.safetensors")
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    return folder
