import dataclasses
import json
from pathlib import Path

import pytest

from ablations.runner import graph
from ablations.runner.plan import find_cell, optional_variants, plan_cells, read_plan, write_plan
from ablations.studies import load_study
from lightgen.disk.config import override

STUDY = load_study(str(Path(__file__).parent / "counting_study.py"))


def cells_of(study=STUDY, seeds=(0,), only=(), changes=None):
    setting = override(study.setting("smoke"), changes or {})
    return {cell.name: cell for cell in plan_cells(study, "smoke", setting, seeds, only)}


def keys(cell):
    return {step.name: step.key for step in cell.steps}


def made(change):
    """The study with another list of variants."""
    return dataclasses.replace(STUDY, variants=lambda setting, seed: change(STUDY.variants(setting, seed)))


def test_bases_come_before_the_variants_built_on_them():
    assert list(cells_of(only=["few-dpo", "few", "many"])) == ["few-s0", "many-s0", "few-dpo-s0"]


def test_variants_share_what_they_have_in_common_and_nothing_else():
    cells = cells_of()
    base, dpo, many = (keys(cells[f"{name}-s0"]) for name in ("few", "few-dpo", "many"))
    assert dpo["train"] == base["train"]
    assert dpo["judge"] != base["judge"]
    assert not set(many.values()) & set(base.values())


def test_a_seed_changes_the_seeded_steps_and_what_follows_them_only():
    cells = cells_of(seeds=(0, 1), only=["few"])
    first, second = keys(cells["few-s0"]), keys(cells["few-s1"])
    assert first["teach"] == second["teach"]
    assert first["train"] != second["train"] and first["judge"] != second["judge"]


def test_a_setting_moves_the_keys_of_what_reads_it_and_of_what_follows():
    old, new = keys(cells_of()["few-s0"]), keys(cells_of(changes={"train.steps": 5})["few-s0"])
    assert new["teach"] == old["teach"] and new["train"] != old["train"] and new["judge"] != old["judge"]


def test_controls_are_made_once_however_many_seeds_there_are():
    assert [name for name in cells_of(seeds=(0, 1, 2)) if name.startswith("alone")] == ["alone-s0"]


def test_optional_variants_are_made_only_by_name():
    study = made(lambda found: [dataclasses.replace(v, optional=v.name == "many") for v in found])
    assert not [name for name in cells_of(study) if name.startswith("many")]
    assert list(cells_of(study, only=["many", "few"])) == ["many-s0", "few-s0"]
    assert cells_of(study, only=["many"])["many-s0"].key == cells_of()["many-s0"].key
    setting = study.setting("smoke")
    assert optional_variants(study, "smoke", setting, plan_cells(study, "smoke", setting, [0])) == ["many"]
    assert optional_variants(study, "smoke", setting, plan_cells(study, "smoke", setting, [0], ["many"])) == []


def test_a_variant_that_the_setting_does_not_allow_is_left_out_and_named_with_the_reason():
    assert "never-s0" not in cells_of()
    with pytest.raises(ValueError, match="never cannot be made: there is nothing to count"):
        cells_of(only=["never"])


def test_names_that_cannot_be_folders_or_that_repeat_and_contrasts_of_nothing_are_refused():
    with pytest.raises(ValueError, match="cannot name a folder"):
        cells_of(dataclasses.replace(STUDY, name="../up"))
    with pytest.raises(ValueError, match="share a name"):
        cells_of(made(lambda found: [*found, found[0]]))
    with pytest.raises(ValueError, match="no variant 'many'"):
        cells_of(made(lambda found: found[:2]))


def test_unknown_names_are_answered_with_the_valid_ones(tmp_path):
    with pytest.raises(ValueError, match="few-dpo, few, many"):
        cells_of(only=["fewer"])
    with pytest.raises(ValueError, match="smoke, cpu"):
        STUDY.setting("huge")
    with pytest.raises(ValueError, match="there are"):
        load_study("no_such_study")
    with pytest.raises(FileNotFoundError, match="is not there"):
        load_study(str(tmp_path / "absent.py"))
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(ValueError, match="holds no STUDY"):
        load_study(str(tmp_path / "empty.py"))


def test_a_cell_survives_its_plan(tmp_path):
    cells = cells_of()
    write_plan(tmp_path / "plan.json", STUDY, "smoke", list(cells.values()))
    plan = read_plan(tmp_path)
    for name, cell in cells.items():
        assert find_cell(plan, name, STUDY) == cell
    with pytest.raises(ValueError, match="no cell 'fewer-s0' in the plan; there are"):
        find_cell(plan, "fewer-s0", STUDY)


@pytest.mark.parametrize("name", ["diversity_sweep", "dpo_sweep"])
def test_the_package_s_studies_survive_their_plans(name, tmp_path):
    study = load_study(name)
    cells = plan_cells(study, "cpu", study.setting("cpu"), [0, 1])
    write_plan(tmp_path / "plan.json", study, "cpu", cells)
    plan = read_plan(tmp_path)
    assert [find_cell(plan, cell.name, study) for cell in cells] == cells


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"step": "os.system"}, "names the step 'os.system'; there are Teach, Train, Prefer, Judge"),
        ({"images": 11}, "plan again"),
        ({"imags": 11}, "unknown name imags"),
        ({"images": "ten"}, "expected int"),
    ],
)
def test_a_plan_that_the_code_would_not_make_is_refused_and_nothing_is_imported(change, says):
    data = json.loads(json.dumps(graph.to_json(cells_of()["few-s0"].ends)))
    first = next(iter(data))
    assert list(graph.from_json(data, STUDY.steps)) == list(data)
    data[first] |= change
    with pytest.raises(ValueError, match=says):
        graph.from_json(data, STUDY.steps)
