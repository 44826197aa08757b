"""Folders name classes as data: only those of the table and of diffusers are loaded, and nothing else is imported."""

import json
import sys
from typing import ClassVar

import pytest
import torch

from geneval import pipelines
from geneval.pipelines import load_pipeline

EVIL = 'from pathlib import Path\nPath("imported").touch()\nclass EvilPipeline: pass\nclass Part: pass\n'


def _index(folder, **record):
    folder.mkdir(exist_ok=True)
    (folder / "model_index.json").write_text(json.dumps(record))
    return folder


@pytest.mark.parametrize(
    "record",
    [
        {"_class_name": "EvilPipeline", "part": ["evil_code", "Part"]},
        {"_class_name": "StableDiffusionPipeline", "unet": ["evil_code", "Part"]},
        {"_class_name": "LightGenPipeline", "vae": ["evil_code.part", "Part"]},
        {"_class_name": ["evil_code", "EvilPipeline"]},
        {"_class_name": "evil_code.EvilPipeline"},
    ],
)
def test_code_beside_the_working_folder_is_not_imported(record, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil_code.py").write_text(EVIL)
    with pytest.raises(ValueError, match=r"model_index\.json: c(lass|omponent) .*(evil_code|EvilPipeline)") as caught:
        load_pipeline(str(_index(tmp_path / "model", **record)))
    assert "\n" not in str(caught.value)
    assert "evil_code" not in sys.modules and not (tmp_path / "imported").exists()


def test_folders_that_are_no_pipeline_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model_index\.json"):
        load_pipeline(str(tmp_path))
    with pytest.raises(ValueError, match="NoSuchPipeline"):
        load_pipeline(str(_index(tmp_path, _class_name="NoSuchPipeline")))


def test_components_of_diffusers_own_pipeline_modules_are_allowed(tmp_path):
    """As the safety checker of Stable Diffusion, whose library is its pipeline's module."""
    record = {"vae": ["diffusers", "AutoencoderKL"], "safety_checker": ["stable_diffusion", "SafetyChecker"]}
    record |= {"feature_extractor": [None, None], "sizes": [8, 16]}
    pipelines._check_components(record, ("diffusers", "transformers"), tmp_path)
    with pytest.raises(ValueError, match="component 'x'"):
        pipelines._check_components({"x": ["os", "system"]}, ("diffusers", "transformers"), tmp_path)


def test_a_model_that_names_its_components_is_loaded_by_its_own_function(tmp_path, monkeypatch):
    class Loaded:
        components: ClassVar[dict] = {}

        def set_progress_bar_config(self, disable):
            pass

        def to(self, device):
            return self, device

    (tmp_path / "components.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        load_pipeline(str(tmp_path))
    (tmp_path / "config.json").write_text('{"_class_name": "os.system"}')
    with pytest.raises(ValueError, match=r"class 'os\.system' is none of LightGenPipeline, MAR"):
        load_pipeline(str(tmp_path))
    (tmp_path / "config.json").write_text('{"_class_name": "MAR"}')
    asked = []
    module = type(sys)("lightgen.model.folder")
    module.load_pipeline = lambda folder, torch_dtype: asked.append((folder, torch_dtype)) or Loaded()
    monkeypatch.setitem(sys.modules, "lightgen.model.folder", module)
    assert load_pipeline(str(tmp_path), "cpu", "float16")[1] == "cpu"
    assert asked == [(str(tmp_path), torch.float16)]
