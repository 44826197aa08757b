import dataclasses
from pathlib import Path

import pytest

from ablations.studies import load_study
from ablations.study import override

STUDY = load_study(str(Path(__file__).parent / "counting_study.py"))
RECIPE = {"model": {"width": 96, "dropout": 0.1, "tied": False, "name": "a"}}


def test_override_changes_only_what_it_names_and_leaves_the_base():
    changed = override(RECIPE, {"model.width": 128, "model.dropout": 0})
    assert changed == {"model": {"width": 128, "dropout": 0.0, "tied": False, "name": "a"}}
    assert isinstance(changed["model"]["dropout"], float)
    assert RECIPE["model"]["width"] == 96


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"modl.width": 1}, "no section 'modl'.*model"),
        ({"model.widht": 1}, "no entry 'widht'.*width, dropout"),
        ({"model.width": 1.5}, "must be a int"),
        ({"model.width": True}, "must be a int"),
        ({"model.tied": 1}, "must be a bool"),
        ({"model": 1}, "no entry"),
    ],
)
def test_override_refuses_unknown_names_and_other_types(change, says):
    with pytest.raises(ValueError, match=says):
        override(RECIPE, change)


def test_a_study_refuses_names_that_cannot_be_folders_or_that_repeat_and_contrasts_of_nothing():
    with pytest.raises(ValueError, match="cannot name a folder"):
        dataclasses.replace(STUDY, name="../up")
    with pytest.raises(ValueError, match="share a name"):
        dataclasses.replace(STUDY, variants=[STUDY.variants[0], STUDY.variants[0]], contrasts=[])
    with pytest.raises(ValueError, match="no variant 'many'"):
        dataclasses.replace(STUDY, variants=STUDY.variants[:2])


def test_unknown_names_are_answered_with_the_valid_ones(tmp_path):
    with pytest.raises(ValueError, match="few-dpo, few, many"):
        STUDY.variant("fewer")
    with pytest.raises(ValueError, match="smoke, cpu"):
        STUDY.recipe("huge", STUDY.variants[0])
    with pytest.raises(ValueError, match="there are"):
        load_study("no_such_study")
    with pytest.raises(FileNotFoundError, match="is not there"):
        load_study(str(tmp_path / "absent.py"))
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(ValueError, match="holds no STUDY"):
        load_study(str(tmp_path / "empty.py"))


def test_the_sweep_has_the_release_s_quirks_as_one_optional_variant():
    sweep = load_study("diversity_sweep")
    assert [v.name for v in sweep.variants if v.optional] == ["large-diverse-released"]
    for scale in ("smoke", "cpu", "gpu"):
        plain, quirky = (sweep.recipe(scale, sweep.variant(f"large-diverse{end}")) for end in ("", "-released"))
        changed = {f"{s}.{n}": v for s, values in quirky.items() for n, v in values.items() if plain[s][n] != v}
        assert changed == {
            "encode.flips": True,
            "model.normalized_residual": True,
            "model.attend_to_padding": True,
            "train.ema_decay": 0.0,
            "train.ema_warmup": False,
        }
        assert quirky["train"]["beta2"] == 0.95
