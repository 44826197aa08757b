import argparse
import os
import pickle
from pathlib import Path

import pytest
import torch

from lightgen.model.convert import convert, our_name, read_checkpoint
from lightgen.model.encoders import load_complete
from lightgen.model.mar import MAR


def write_checkpoint(path: Path, golden, **changes) -> Path:
    """A checkpoint as the released training script writes it."""
    state = dict(golden.weights)
    average = {name: value * 0.5 for name, value in state.items()}
    arguments = argparse.Namespace(model="fluid_large", blr=1e-4, patch_size=2, output_dir="out")
    content = {"model": state, "model_ema": average, "optimizer": {"state": {}, "param_groups": []}, "epoch": 8}
    torch.save(content | {"args": arguments} | changes, path)
    return path


def options(golden):
    return {"heads": golden.settings["heads"], "max_text_length": golden.settings["max_length"]}


@pytest.mark.parametrize("weights", ["model", "model_ema"])
def test_a_released_checkpoint_becomes_a_complete_folder(tmp_path, golden, weights):
    checkpoint = write_checkpoint(tmp_path / "checkpoint-8.pth", golden)
    config = convert(checkpoint, tmp_path / "out", weights=weights, **options(golden))
    model = load_complete(MAR, tmp_path / "out")
    assert model.mar_config == config
    assert config.width == golden.settings["width"] and config.head_depth == golden.settings["head_depth"]
    assert config.normalized_residual and config.attend_to_padding and config.position_grid == 16
    factor = 1.0 if weights == "model" else 0.5
    for name, value in golden.weights.items():
        assert torch.equal(model.state_dict()[our_name(name)], value * factor)


def test_older_file_layouts_are_read_too(tmp_path, golden):
    content = {"model": dict(golden.weights), "args": argparse.Namespace()}
    torch.save(content, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert read_checkpoint(tmp_path / "old.pth").keys() == golden.weights.keys()


class Malicious:
    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("place", ["args", "model", "extra", "plain pickle"])
def test_a_malicious_pickle_is_refused_and_runs_nothing(tmp_path, golden, place):
    target, path = tmp_path / "it-ran", tmp_path / "evil.pth"
    if place == "plain pickle":
        path.write_bytes(pickle.dumps({"model": Malicious(target)}))
    else:
        write_checkpoint(path, golden, **{place: Malicious(target)})
    with pytest.raises(ValueError, match=r"refused|torn or no PyTorch checkpoint"):
        convert(path, tmp_path / "out", **options(golden))
    assert not target.exists() and not (tmp_path / "out").exists()


def test_a_namespace_cannot_carry_code(tmp_path, golden):
    arguments = argparse.Namespace(callback=Malicious(tmp_path / "it-ran"))
    with pytest.raises(ValueError, match="refused"):
        convert(write_checkpoint(tmp_path / "evil.pth", golden, args=arguments), tmp_path / "out", **options(golden))
    assert not (tmp_path / "it-ran").exists()


def test_what_does_not_fit_is_listed(tmp_path, golden):
    state = dict(golden.weights)
    state["buffer_token"] = torch.zeros(1)
    state["mask_token"] = torch.zeros(1, 1, 3)
    del state["cross_norm.bias"]
    checkpoint = write_checkpoint(tmp_path / "other.pth", golden, model=state)
    with pytest.raises(ValueError) as error:
        convert(checkpoint, tmp_path / "out", **options(golden))
    for part in ("missing: cross_norm.bias", "unexpected: buffer_token", "mask_token (1, 1, 3) instead of"):
        assert part in str(error.value)
    assert not (tmp_path / "out").exists()


def test_other_files_are_refused_with_their_reason(tmp_path, golden):
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        convert(tmp_path / "absent.pth", tmp_path / "out")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    with pytest.raises(ValueError, match=r"refused|no PyTorch checkpoint"):
        convert(tmp_path / "text.pth", tmp_path / "out")
    torch.save({"state_dict": {}}, tmp_path / "entries.pth")
    with pytest.raises(ValueError, match="no entry 'model'; found: state_dict"):
        convert(tmp_path / "entries.pth", tmp_path / "out")
    torch.save({"model": {"class_emb.weight": torch.zeros(2)}}, tmp_path / "mar.pth")
    with pytest.raises(ValueError, match=r"not a LightGen state dict: missing .*it has class_emb\.weight"):
        convert(tmp_path / "mar.pth", tmp_path / "out")
    checkpoint = write_checkpoint(tmp_path / "whole.pth", golden)
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"refused|torn"):
        convert(checkpoint, tmp_path / "out")
    with pytest.raises(ValueError, match="does not divide into 5 heads"):
        convert(write_checkpoint(tmp_path / "heads.pth", golden), tmp_path / "out", heads=5)
