"""A trained model on disk: its transformer, the parts it names, and the pipeline they make."""

import json
import shutil

import pytest
import torch

from lightgen.model.config import SamplingConfig
from lightgen.model.folder import (
    export,
    load_encoders,
    load_pipeline,
    load_transformer,
    model_identity,
    read_components,
    read_lineage,
    write_model,
)
from lightgen.model.mar import MAR
from lightgen.model.pipeline import LightGenPipeline
from tests.lightgen import squares

SAMPLING = SamplingConfig(num_steps=2, num_head_steps=2, guidance_scale=2.0)


@pytest.fixture
def parts(tiny, tmp_path):
    """The frozen parts, in folders of their own that a test may break."""
    vae, text = shutil.copytree(tiny.vae, tmp_path / "vae"), shutil.copytree(tiny.text_encoder, tmp_path / "text")
    return {"vae": vae, "text_encoder": text}


@pytest.fixture
def model(parts, tmp_path):
    torch.manual_seed(0)
    write_model(MAR(squares.MODEL), tmp_path / "model", **parts, sampling=SAMPLING, ancestors=["one", "two"])
    return tmp_path / "model"


def picture(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline("a red square", generator=torch.Generator().manual_seed(0)).images[0].tobytes()


def test_a_model_folder_holds_the_transformer_alone_and_names_its_parts(model, parts):
    names = {path.name for path in model.iterdir()}
    assert names == {"config.json", "diffusion_pytorch_model.safetensors", "components.json", "lineage.json"}
    record = json.loads((model / "components.json").read_text())
    assert record["vae"]["folder"] == str(parts["vae"]) and len(record["vae"]["sha256"]) == 64
    assert read_components(model) == (parts["vae"], parts["text_encoder"], SAMPLING)
    assert read_lineage(model) == ["one", "two"]
    assert load_transformer(model).mar_config == squares.MODEL
    tokenizer, text = load_encoders(model)
    assert (tokenizer.channels, text.channels, text.max_length) == (2, 8, 12)


def test_an_exported_pipeline_is_the_same_model_and_needs_no_other_folder(model, parts, tmp_path):
    export(model, tmp_path / "pipeline")
    expected = picture(load_pipeline(model))
    for folder in (*parts.values(), model):
        folder.rename(folder.with_name(f"{folder.name}.away"))
    moved, away = tmp_path / "pipeline", tmp_path / "model.away"
    assert picture(load_pipeline(moved)) == picture(LightGenPipeline.from_pretrained(moved)) == expected
    assert {"vae", "text_encoder", "tokenizer", "transformer", "model_index.json"} <= {p.name for p in moved.iterdir()}
    assert model_identity(moved) == model_identity(away) and read_lineage(moved) == ["one", "two"]
    weights = (load_transformer(folder).state_dict() for folder in (moved, away))
    assert all(torch.equal(*pair) for pair in zip(*(w.values() for w in weights), strict=True))
    export(moved, tmp_path / "again")
    assert model_identity(tmp_path / "again") == model_identity(moved)


def test_no_saved_config_names_a_path(model, parts, tmp_path):
    """A model that was loaded from one folder and saved to another says nothing of the first."""
    write_model(load_transformer(model), tmp_path / "second", **parts, sampling=SAMPLING)
    assert model_identity(tmp_path / "second") == model_identity(model)
    export(tmp_path / "second", tmp_path / "pipeline")
    found = [*(tmp_path / "second").rglob("*.json"), *(tmp_path / "pipeline").rglob("*.json")]
    for path in found:
        text = path.read_text()
        assert path.name == "components.json" or (str(tmp_path) not in text and "_name_or_path" not in text), path


def test_the_identity_follows_config_and_weights_and_no_path(model, parts, tmp_path):
    before = model_identity(model)
    write_model(load_transformer(model), tmp_path / "other", vae=parts["vae"], text_encoder=parts["text_encoder"],
                sampling=SamplingConfig())  # fmt: skip
    assert model_identity(tmp_path / "other") == before
    changed = load_transformer(model)
    with torch.no_grad():
        changed.null_text.add_(1)
    write_model(changed, tmp_path / "other", **parts, sampling=SAMPLING)
    assert model_identity(tmp_path / "other") != before


@pytest.mark.parametrize("name", ["vae", "text_encoder"])
def test_a_part_that_is_gone_or_changed_is_named(model, parts, tmp_path, name):
    moved = parts[name].rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match=rf"the {name} folder .* is missing; .*{name}="):
        load_pipeline(model)
    load_transformer(model)  # needs no other part
    assert picture(load_pipeline(model, **{name: moved}))
    export(model, tmp_path / "whole", **{name: moved})  # as the error says
    assert picture(load_pipeline(tmp_path / "whole")) == picture(load_pipeline(model, **{name: moved}))
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps(config | {"note": 1}))
    with pytest.raises(ValueError, match=rf"the {name} folder .*moved.* has changed"):
        load_pipeline(model, **{name: moved})


def test_other_folders_are_refused(model, tiny, tmp_path):
    export(model, tmp_path / "pipeline")
    with pytest.raises(ValueError, match="parts of its own"):
        load_pipeline(tmp_path / "pipeline", vae=tiny.vae)
    for load in (load_pipeline, load_transformer, model_identity, read_components):
        with pytest.raises(FileNotFoundError, match=r"neither a model folder .* nor a pipeline"):
            load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no \.safetensors"):
        write_model(
            load_transformer(model), tmp_path / "x", vae=tmp_path / "none", text_encoder=tmp_path, sampling=SAMPLING
        )
    assert not (tmp_path / "x").exists()


def test_diffusers_loads_an_exported_folder_by_its_own_verb(model, tmp_path, monkeypatch):
    from diffusers import DiffusionPipeline

    for module in ("constants", "dynamic_modules_utils"):
        monkeypatch.setattr(f"diffusers.utils.{module}.HF_MODULES_CACHE", str(tmp_path / "modules"))
    export(model, tmp_path / "pipeline")
    folder = str(tmp_path / "pipeline")
    loaded = DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)
    assert type(loaded).__name__ == "LightGenPipeline" and picture(loaded) == picture(load_pipeline(model))
