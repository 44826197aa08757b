from dataclasses import replace

import pytest

from ablations.data import IconData
from ablations.icons.scenes import arrange, parse
from ablations.icons.world import world
from ablations.prompts import (
    AllCaptions,
    IconPrompts,
    TrainingCaptions,
    copies_by_task,
    learning_prompts,
    shown_prompts,
    split_by_prompt,
)

DATA = IconData()
BENCHMARK = IconPrompts(world="cpu", num_prompts=50, seed=43)
FEWER = IconPrompts(world="cpu", num_prompts=24, seed=43)


def training(diversity, volume="small"):
    return TrainingCaptions(dataset=DATA.dataset(volume, diversity, 0).config)


@pytest.mark.parametrize("diversity", ["narrow", "diverse"])
def test_they_are_training_captions_that_no_benchmark_prompt_has(diversity):
    prompts = learning_prompts(training(diversity).candidates(), BENCHMARK.prompts(), 120, 0)
    assert len(prompts) >= 30
    assert not {p.prompt for p in prompts} & {p.prompt for p in BENCHMARK.prompts()}
    splits = {entry["split"] for entry in split_by_prompt(prompts, "cpu").values()}
    assert splits <= ({"shared"} if diversity == "narrow" else {"shared", "diverse"})


def test_the_pictures_shown_cover_tasks_and_splits():
    prompts, splits = BENCHMARK.prompts(), BENCHMARK.splits()
    shown = shown_prompts(prompts, splits, 24)
    assert len(shown) == 24 == len(set(shown))
    assert {prompts[i].tag for i in shown} == {p.tag for p in prompts}
    assert {splits[prompts[i].line()]["split"] for i in shown} == {"shared", "diverse", "unseen"}


def test_tasks_are_balanced():
    prompts = learning_prompts(training("diverse", "large").candidates(), FEWER.prompts(), 100, 0)
    copies = copies_by_task(prompts, 4, 1000)
    totals = {task: count * sum(p.tag == task for p in prompts) for task, count in copies.items()}
    assert max(totals.values()) <= 1.25 * min(totals.values()) and set(totals) >= {"counting", "position", "color_attr"}
    assert max(copies_by_task(prompts, 4, 8).values()) == 8


def test_those_of_the_whole_world_hold_what_no_training_set_shows():
    prompts = learning_prompts(AllCaptions(world="cpu").candidates(), FEWER.prompts(), 400, 0)
    assert not {p.prompt for p in prompts} & {p.prompt for p in FEWER.prompts()}
    splits = {entry["split"] for entry in split_by_prompt(prompts, "cpu").values()}
    assert splits == {"shared", "diverse", "unseen"}


def test_where_the_benchmark_asks_for_everything_there_is_nothing_to_learn_from():
    everything = list(AllCaptions(world="smoke").candidates())
    with pytest.raises(ValueError, match="no caption is outside the benchmark"):
        learning_prompts(everything, everything, 10, 0)


def test_colored_forms_are_in_no_training_set_and_the_teacher_draws_them_right():
    """Colored things counted or side by side: of words that training sets know, and parsed as they are written."""
    asked = replace(BENCHMARK, templates="colored")
    prompts = asked.prompts()
    assert 80 < len(prompts) <= 100 and {prompt.tag for prompt in prompts} == {"counting", "position"}
    assert all(clause.color for prompt in prompts for clause in prompt.include)
    trained = {prompt.prompt for prompt in AllCaptions(world="cpu").candidates()}
    assert not trained & {prompt.prompt for prompt in prompts}
    assert {entry["split"] for entry in asked.splits().values()} == {"shared", "diverse", "unseen"}
    here = world("cpu")
    for prompt in prompts:
        request = parse(prompt.prompt, here)
        assert request["prompt"] == prompt.prompt
        scene = arrange(request, here, seed=1)
        drawn = [(thing.name, thing.color) for thing in scene.objects]
        for clause in prompt.include:
            assert drawn.count((clause.class_name, clause.color)) == clause.count
    assert asked.prompts() == prompts and BENCHMARK.prompts()[0].prompt == "a photo of a clock"
