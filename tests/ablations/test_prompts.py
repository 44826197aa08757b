import pytest

from ablations.data import Benchmark, IconData
from ablations.prompts import (
    AllCaptions,
    GeneratedCaptions,
    OfficialPrompts,
    TrainingCaptions,
    copies_by_task,
    learning_prompts,
    shown_prompts,
    split_by_prompt,
)

DATA = IconData()
BENCHMARK = DATA.prompts(Benchmark())
FEWER = DATA.prompts(Benchmark(num_prompts=24))


def training(diversity, volume="small"):
    return TrainingCaptions(dataset=DATA.dataset(volume, diversity, 0).config)


@pytest.mark.parametrize("diversity", ["narrow", "diverse"])
def test_they_are_training_captions_that_no_benchmark_prompt_has(diversity):
    prompts = learning_prompts(training(diversity), BENCHMARK, 120, 0)
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
    prompts = learning_prompts(training("diverse", "large"), FEWER, 100, 0)
    copies = copies_by_task(prompts, 4, 1000)
    totals = {task: count * sum(p.tag == task for p in prompts) for task, count in copies.items()}
    assert max(totals.values()) <= 1.25 * min(totals.values()) and set(totals) >= {"counting", "position", "color_attr"}
    assert max(copies_by_task(prompts, 4, 8).values()) == 8


def test_those_of_the_whole_world_hold_what_no_training_set_shows():
    prompts = learning_prompts(AllCaptions(world="cpu"), FEWER, 400, 0)
    assert not {p.prompt for p in prompts} & {p.prompt for p in FEWER.prompts()}
    splits = {entry["split"] for entry in split_by_prompt(prompts, "cpu").values()}
    assert splits == {"shared", "diverse", "unseen"}


def test_for_one_s_own_data_they_come_from_geneval_s_generator():
    official = OfficialPrompts()
    prompts = learning_prompts(GeneratedCaptions(num_prompts=60, seed=1003), official, 60, 3)
    asked = {prompt.prompt for prompt in official.prompts()}
    assert len(prompts) > 40 and not asked & {prompt.prompt for prompt in prompts}
    assert prompts != learning_prompts(GeneratedCaptions(num_prompts=60, seed=1004), official, 60, 4)


def test_where_the_benchmark_asks_for_everything_there_is_nothing_to_learn_from():
    class All:
        def prompts(self):
            return list(AllCaptions(world="smoke").candidates())

    with pytest.raises(ValueError, match="no caption is outside the benchmark"):
        learning_prompts(AllCaptions(world="smoke"), All(), 10, 0)
