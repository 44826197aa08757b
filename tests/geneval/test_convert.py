"""mmdet checkpoints to transformers: both naming schemes, damage refused; `test_detector.py` runs what comes out."""

import json
import re

import pytest
import torch

from geneval.convert import ConversionError, convert_checkpoint, converted_model, read_state
from geneval.detector import class_names, detector_identity
from geneval.prompts import OBJECTS


def _mmdet_3_name(name):
    """mmdet 3's name of an mmdet 2 tensor."""
    name = re.sub(r"(pixel_decoder\.encoder\.layers\.\d+)\.attentions\.0\.", r"\1.self_attn.", name)
    name = re.sub(r"(transformer_decoder\.layers\.\d+)\.attentions\.0\.", r"\1.cross_attn.", name)
    name = re.sub(r"(transformer_decoder\.layers\.\d+)\.attentions\.1\.", r"\1.self_attn.", name)
    return re.sub(r"(panoptic_head\..*layers\.\d+)\.ffns\.0\.", r"\1.ffn.", name)


def test_both_naming_schemes_give_the_same_model(mmdet_state, mmdet_checkpoint, tmp_path):
    renamed = {_mmdet_3_name(name): value for name, value in mmdet_state.items()}
    assert sum(a != b for a, b in zip(mmdet_state, renamed)) > 50
    torch.save({"state_dict": renamed}, tmp_path / "three.pth")
    two = converted_model(read_state(mmdet_checkpoint)).state_dict()
    three = converted_model(read_state(tmp_path / "three.pth")).state_dict()
    assert len(two) > len(mmdet_state) and all(torch.equal(two[name], three[name]) for name in two)


def test_the_folder_says_where_it_comes_from(mmdet_checkpoint, tmp_path):
    out = tmp_path / "detector"
    convert_checkpoint(mmdet_checkpoint, out)
    identity = detector_identity(out)
    assert len(identity["converted_from"]) == 64 and not identity["is_original"]
    assert identity["preprocessing"]["size"] == {"shortest_edge": 800, "longest_edge": 1333}
    config = json.loads((out / "config.json").read_text())
    assert class_names({int(i): name for i, name in config["id2label"].items()}, out) == list(OBJECTS)
    with pytest.raises(FileExistsError):
        convert_checkpoint(mmdet_checkpoint, out)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda s: s.pop("panoptic_head.pixel_decoder.mask_feature.bias"), "1 tensors missing"),
        (lambda s: s.update({"backbone.extra": torch.zeros(1)}), "unknown tensor"),
        (lambda s: s.update({"panoptic_head.query_embed.weight": torch.zeros(3, 3)}), "1 of another shape"),
        (lambda s: s.pop("backbone.patch_embed.projection.weight"), "is missing"),
        (lambda s: s.update({"panoptic_head.cls_embed.weight": torch.zeros(5, 64)}), "4 classes"),
    ],
)
def test_a_checkpoint_that_is_not_the_whole_detector_is_refused(mmdet_state, damage, said):
    changed = dict(mmdet_state)
    damage(changed)
    with pytest.raises(ConversionError, match=said):
        converted_model(changed)


def test_files_that_are_no_checkpoint_are_refused(tmp_path):
    path = tmp_path / "x.pth"
    for content in (b"", b"not a checkpoint", b"PK\x03\x04 torn"):
        path.write_bytes(content)
        with pytest.raises(ConversionError, match=r"x\.pth"):
            read_state(path)
    torch.save({"state_dict": {"a": torch.zeros(1)}}, path)
    with pytest.raises(ConversionError, match="no mmdet Mask2Former"):
        read_state(path)
    with pytest.raises(FileNotFoundError):
        read_state(tmp_path / "nowhere.pth")
