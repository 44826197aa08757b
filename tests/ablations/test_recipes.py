"""Each recipe's sections fill the dataclasses that the stages build from them, with nothing left to a default."""

import dataclasses

import pytest

from ablations.icons.render import DatasetConfig
from ablations.icons.world import WORLDS
from ablations.studies import load_study, study_names
from ablations.suite import dataset_config, evaluation_prompts, preference_prompts, shown_prompts, split_by_prompt

RECIPES = [
    pytest.param(study.recipe(scale, variant), id=f"{study.name}-{scale}-{variant.name}")
    for study in map(load_study, study_names())
    for scale in study.scales
    for variant in study.variants
]


def test_every_entry_is_there_and_of_its_type():
    from lightgen.disk.config import from_dict
    from lightgen.model.config import MARConfig, SamplingConfig
    from lightgen.preference.config import PreferenceConfig
    from lightgen.training.config import TrainConfig

    filled = {"model": MARConfig, "train": TrainConfig, "dpo": PreferenceConfig, "sampling": SamplingConfig}
    for parameters in RECIPES:
        (recipe,) = parameters.values
        for section, kind in filled.items():
            names = {field.name for field in dataclasses.fields(kind)} - {"seed"}
            assert set(recipe[section]) == names, section
            from_dict(kind, dict(recipe[section]))


def test_all_variants_of_the_sweep_see_the_same_number_of_samples():
    study = load_study("diversity_sweep")
    for scale, recipe in study.scales.items():
        assert {study.recipe(scale, v)["train"]["samples_seen"] for v in study.variants} == {
            recipe["train"]["samples_seen"]
        }


@pytest.mark.parametrize("recipe", RECIPES)
def test_data_of_a_world_can_be_made(recipe):
    if recipe["data"]["world"] in WORLDS:
        assert isinstance(dataset_config(recipe["data"], seed=0), DatasetConfig)


@pytest.mark.parametrize("diversity", ["narrow", "diverse"])
def test_preference_prompts_are_training_captions_that_no_benchmark_prompt_has(diversity):
    recipe = load_study("diversity_sweep").scales["cpu"]
    data = {**recipe["data"], "volume": "small", "diversity": diversity}
    benchmark = evaluation_prompts(recipe["evaluation"], "cpu")
    prompts = preference_prompts(data, 0, benchmark, 120)
    assert len(prompts) >= 30
    assert not {p.prompt for p in prompts} & {p.prompt for p in benchmark}
    splits = {entry["split"] for entry in split_by_prompt(prompts, "cpu", "world").values()}
    assert splits <= ({"shared"} if diversity == "narrow" else {"shared", "diverse"})


def test_the_pictures_shown_cover_tasks_and_splits():
    recipe = load_study("diversity_sweep").scales["cpu"]
    prompts = evaluation_prompts(recipe["evaluation"], "cpu")
    splits = split_by_prompt(prompts, "cpu", "world")
    shown = shown_prompts(prompts, splits, 24)
    assert len(shown) == 24 == len(set(shown))
    assert {prompts[i].tag for i in shown} == {p.tag for p in prompts}
    assert {splits[prompts[i].line()]["split"] for i in shown} == {"shared", "diverse", "unseen"}
