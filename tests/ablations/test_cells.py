import dataclasses
import json
from pathlib import Path

import pytest

from ablations.cells import cell_from_json, cell_to_json, component_identity, plan_cells
from ablations.run import optional_variants
from ablations.studies import load_study
from ablations.study import override

STUDY = load_study(str(Path(__file__).parent / "counting_study.py"))


def cells_of(study=STUDY, seeds=(0,), only=()):
    return {cell.name: cell for cell in plan_cells(study, "smoke", seeds, only)}


def keys(cell):
    return {step.stage: step.key for step in cell.steps}


def test_bases_come_before_the_variants_built_on_them():
    names = list(cells_of(only=["few-dpo", "few", "many"]))
    assert names == ["few-s0", "many-s0", "few-dpo-s0"]


def test_variants_share_what_they_have_in_common_and_nothing_else():
    cells = cells_of()
    base, dpo, many = (keys(cells[f"{name}-s0"]) for name in ("few", "few-dpo", "many"))
    assert dpo["train"] == base["train"]
    assert dpo["judge"] != base["judge"]
    assert not set(many.values()) & set(base.values())


def test_a_seed_changes_the_seeded_stages_and_what_follows_them_only():
    cells = cells_of(seeds=(0, 1), only=["few"])
    first, second = keys(cells["few-s0"]), keys(cells["few-s1"])
    assert first["teach"] == second["teach"]
    assert first["train"] != second["train"] and first["judge"] != second["judge"]


def test_controls_are_made_once_however_many_seeds_there_are():
    assert [name for name in cells_of(seeds=(0, 1, 2)) if name.startswith("alone")] == ["alone-s0"]


def test_optional_variants_are_made_only_by_name():
    many = dataclasses.replace(STUDY.variant("many"), optional=True)
    study = dataclasses.replace(STUDY, variants=[many if v.name == "many" else v for v in STUDY.variants])
    assert not [name for name in cells_of(study) if name.startswith("many")]
    assert list(cells_of(study, only=["many", "few"])) == ["many-s0", "few-s0"]
    assert cells_of(study, only=["many"])["many-s0"] == cells_of()["many-s0"]
    assert optional_variants(study, "smoke", plan_cells(study, "smoke", [0])) == ["many"]
    assert optional_variants(study, "smoke", plan_cells(study, "smoke", [0], ["many"])) == []


def test_a_stage_version_and_its_settings_move_its_key_and_those_below():
    stages = {**STUDY.stages, "train": dataclasses.replace(STUDY.stages["train"], version=2)}
    old, new = keys(cells_of()["few-s0"]), keys(cells_of(dataclasses.replace(STUDY, stages=stages))["few-s0"])
    assert (old["teach"] == new["teach"], old["train"] == new["train"], old["judge"] == new["judge"]) == (
        True,
        False,
        False,
    )
    scales = {"smoke": override(STUDY.scales["smoke"], {"preference.steps": 0, "train.steps": 5})}
    changed = keys(cells_of(dataclasses.replace(STUDY, scales=scales))["few-s0"])
    assert changed["teach"] == old["teach"] and changed["train"] != old["train"]


def test_a_choice_at_its_neutral_value_leaves_the_keys_as_they_were():
    def with_choice(value):
        stage = dataclasses.replace(STUDY.stages["train"], neutral={"train.new": 0})
        scales = {
            "smoke": override(
                {**STUDY.scales["smoke"], "train": {**STUDY.scales["smoke"]["train"], "new": 0}}, {"train.new": value}
            )
        }
        return keys(
            cells_of(dataclasses.replace(STUDY, scales=scales, stages={**STUDY.stages, "train": stage}))["few-s0"]
        )

    before = keys(cells_of()["few-s0"])
    assert with_choice(0) == before
    assert with_choice(1)["train"] != before["train"] and with_choice(1)["teach"] == before["teach"]


def test_a_stage_is_given_only_what_it_declares():
    assert set(cells_of()["few-s0"].step("teach").recipe) == {"data"}
    assert cells_of()["few-s0"].step("judge").recipe == {}


def test_a_cell_survives_json():
    cell = cells_of()["few-dpo-s0"]
    assert cell_from_json(json.loads(json.dumps(cell_to_json(cell)))) == cell


def test_component_identity_is_of_contents_and_names_what_is_missing(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"weights")
    assert component_identity(tmp_path / "a") == component_identity(tmp_path / "b")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "model.safetensors").write_bytes(b"other")
    assert component_identity(tmp_path / "c") != component_identity(tmp_path / "a")
    with pytest.raises(FileNotFoundError, match=r"no \.safetensors"):
        component_identity(tmp_path / "d")
