"""One setting: its rows, its changes by name, data that is drawn or one's own, weights by name."""

import dataclasses
import math

import pytest

from ablations.data import IconData, OwnData
from ablations.recipes import prompts
from ablations.runner.folder import flat
from ablations.runner.plan import plain
from ablations.settings import SETTINGS, Components, Setting
from ablations.studies import load_study, study_names
from lightgen.disk.config import from_dict, override


@pytest.mark.parametrize("name", study_names())
def test_every_row_survives_json(name):
    for setting in load_study(name).settings.values():
        assert from_dict(Setting, plain(setting)) == setting


def test_a_folder_makes_the_data_one_s_own_and_keeps_the_volumes():
    changed = override(SETTINGS["cpu"], {"data.folder": "photos", "data.small": 7, "model.width": 128})
    assert changed.data == OwnData(folder="photos", small=7, large=8000)
    assert changed.model.width == 128 and SETTINGS["cpu"].model.width == 96
    with pytest.raises(ValueError, match=r"unknown name foldre in Setting\.data; valid names: world.*; or folder"):
        override(SETTINGS["cpu"], {"data.foldre": "photos"})
    with pytest.raises(ValueError, match="unknown world 'mars'"):
        override(SETTINGS["cpu"], {"data.world": "mars"})


def test_the_embedded_weights_are_found_wherever_the_package_lies():
    for kind in ("vae", "text", "detector", "clip"):
        assert (Components().weights(kind).location / "quality.json").is_file()
    own = Components(vae="weights/vae").weights("vae")
    assert own.location.is_absolute() and own.path.endswith("weights/vae")


@pytest.mark.parametrize("name", study_names())
def test_studies_of_own_data_leave_out_what_must_be_drawn(name):
    study = load_study(name)
    setting = override(study.setting("cpu"), {"data.folder": "photos"})
    found = study.variants_of("cpu", setting, 0)
    levels = {f"{volume}-{level}" for volume in ("small", "large") for level in ("some", "many")}
    if name not in ("caption_sweep", "distillation_sweep", "resolution_sweep"):  # all of which must be drawn
        better = {f"better{more}" for more in ("", "-rounds", "-flips", "-flips-verifier")}
        left = {v.name for v in found if v.why_not and not v.name.endswith("-colored")}
        assert left <= {"teacher", "layout", "together", *better, *levels}
    assert all(v.ends or v.why_not for v in found)


def test_icon_data_splits_its_prompts_and_official_ones_have_none():
    data = IconData()
    own = prompts(SETTINGS["cpu"])
    assert {entry["split"] for entry in own.splits().values()} == {split.name for split in data.splits}
    assert prompts(override(SETTINGS["cpu"], {"benchmark.prompts": "official"})).splits() == {}


def test_settings_hold_plain_values_alone():
    for setting in SETTINGS.values():
        assert dataclasses.asdict(setting) == dataclasses.asdict(from_dict(Setting, plain(setting)))


@pytest.mark.parametrize("data", [{}, {"data.folder": "photos"}])
def test_no_number_of_a_setting_is_negative_or_none_at_all(data):
    setting = override(SETTINGS["cpu"], data)
    free = {"model.mask_mean", "train.seed", "preference.dpo.seed", "benchmark.seed", "benchmark.prompt_seed"}
    numbers = {k: v for k, v in flat(plain(setting)).items() if type(v) in (int, float)}
    for name, value in numbers.items():
        for wrong in (-1,) if isinstance(value, int) else (-1.0, math.nan, math.inf):
            if name in free and math.isfinite(wrong):
                continue
            with pytest.raises(ValueError, match=name.rpartition(".")[2]):
                override(setting, {name: wrong})
    counts = {"benchmark.copies", "preference.copies", "train.batch_size", "runtime.generate_batch", "data.small"}
    for name in counts & set(numbers):
        with pytest.raises(ValueError, match="is 0, must be at least 1"):
            override(setting, {name: 0})


def test_a_small_set_is_not_larger_than_a_large_one():
    setting = override(SETTINGS["cpu"], {"data.small": 9000})
    with pytest.raises(ValueError, match=r"data\.small is 9000 and data\.large 8000"):
        setting.data.check(setting.model)
