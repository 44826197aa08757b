"""The preference study: what its variants share, and that its own stages do what the report says of them."""

import json
from pathlib import Path

import pytest

from ablations.cells import Work, plan_cells
from ablations.estimate import Estimate
from ablations.preferring import retune, samples
from ablations.store import Store
from ablations.studies import load_study
from ablations.study import override
from ablations.suite import copies_by_task, evaluation_prompts, preference_prompts, split_by_prompt
from geneval.prompts import official_prompts

STUDY = load_study("dpo_sweep")


def cells(*only):
    return {cell.variant: cell for cell in plan_cells(STUDY, "cpu", [0], only)}


def test_every_variant_starts_from_the_base_of_its_seed():
    planned = cells()
    base = planned["base"].step("train").key
    for name, cell in planned.items():
        if name != "teacher":
            assert (cell.step("train").key == base) == (not name.startswith(("flips", "longer"))), name
    assert planned["flips-verifier"].step("train").key == planned["flips"].step("train").key


def test_sft_and_the_placebo_learn_from_the_verifier_s_own_pairs():
    planned = cells()
    pairs = planned["verifier"].step("verifier_pairs").key
    for name in ("sft", "random", "verifier-gentle", "verifier-stiff"):
        assert planned[name].step("verifier_pairs").key == pairs
    recipes = [planned[name].recipe["dpo"] for name in ("verifier", "sft")]
    assert {key for key in recipes[0] if recipes[0][key] != recipes[1][key]} == {"kind"}
    assert all(
        recipe["steps"] * recipe["batch_size"] == recipes[0]["steps"] * recipes[0]["batch_size"] for recipe in recipes
    )


def test_the_last_of_several_rounds_compares_what_is_sampled_and_sft_has_as_many():
    planned = cells()
    cell, control = planned["verifier-rounds"], planned["sft-rounds"]
    first, last = cell.step("finish"), cell.step("finish_2")
    assert first.inputs == {"model": "prefer_2", "pairs": "verifier_pairs_3", "origin": "train"}
    assert last.inputs == {"model": "finish", "pairs": "verifier_pairs_4", "origin": "train"}
    assert last.recipe["finish"]["guidance_scale"] == cell.recipe["sampling"]["guidance_scale"]
    assert cell.step("prefer_3") is None and "finish" not in cell.step("prefer_2").recipe
    assert cell.step("generate").inputs == {"model": "finish_2"}
    assert [step.stage for step in cell.steps] == [step.stage for step in control.steps]
    placebo = planned["random-rounds"]
    assert placebo.step("random_pairs_3").inputs == {"pairs": "verifier_pairs_3"}
    assert placebo.step("finish").inputs == {**first.inputs, "pairs": "random_pairs_3"}
    assert placebo.step("samples_2").inputs == {"model": "prefer"}
    assert control.step("verifier_pairs").key == cell.step("verifier_pairs").key
    (far,) = cells("verifier-far").values()
    assert far.recipe["preference"]["extrapolation"] == 2.0


def test_lightgen_s_own_strength_is_among_them():
    recipe = cells()["teacher-pairs-lightgen"].recipe
    assert recipe["dpo"]["beta"] == 5000 and recipe["dpo"]["learning_rate"] == 1e-8
    assert recipe["preference"]["source"] == "teacher"


def test_the_hypotheses_are_contrasts_and_the_options_are_made_only_by_name():
    names = {contrast.name.split("-")[0] for contrast in STUDY.contrasts}
    assert {"h7", "h8", "h9"} <= names
    assert not {name for name in cells() if name.removeprefix("verifier-") in ("ipo", "hinge", "simpo", "lora")}
    optional = [variant.name for variant in STUDY.variants if variant.optional]
    changed = cells(*optional)
    assert changed["verifier-sdpo"].recipe["dpo"]["sdpo"] and changed["verifier-refresh"].recipe["dpo"]["refresh_every"]


def test_preference_prompts_are_not_the_benchmark_s_and_tasks_are_balanced():
    recipe = STUDY.scales["cpu"]
    benchmark = evaluation_prompts(recipe["evaluation"], "cpu")
    prompts = preference_prompts(recipe["data"], 0, benchmark, 100)
    assert not {p.prompt for p in prompts} & {p.prompt for p in benchmark}
    copies = copies_by_task(prompts, 4, 1000)
    totals = {task: count * sum(p.tag == task for p in prompts) for task, count in copies.items()}
    assert max(totals.values()) <= 1.25 * min(totals.values()) and set(totals) >= {"counting", "position", "color_attr"}
    assert max(copies_by_task(prompts, 4, 8).values()) == 8


def test_preference_prompts_of_the_whole_world_hold_what_no_training_set_shows():
    recipe = STUDY.scales["cpu"]
    benchmark = evaluation_prompts(recipe["evaluation"], "cpu")
    prompts = preference_prompts(recipe["data"], 0, benchmark, 400, captions="all")
    assert not {p.prompt for p in prompts} & {p.prompt for p in benchmark}
    splits = {entry["split"] for entry in split_by_prompt(prompts, "cpu", "world").values()}
    assert splits == {"shared", "diverse", "unseen"}
    with pytest.raises(ValueError, match="valid: training, all"):
        preference_prompts(recipe["data"], 0, benchmark, 400, captions="some")


def test_a_round_samples_the_model_before_which_is_its_reference_and_tells_drift_from_the_base():
    planned = cells("verifier", "verifier-twice", "verifier-thrice")
    cell = planned["verifier-twice"]
    assert cell.step("prefer").key == planned["verifier"].step("prefer").key
    assert cell.step("samples_2").inputs == {"model": "prefer"}
    assert cell.step("prefer_2").inputs["origin"] == "train" and "reference" not in cell.step("prefer_2").inputs
    assert cell.step("generate").inputs == {"model": "prefer_2"}
    third = planned["verifier-thrice"]
    assert third.step("prefer_2").key == cell.step("prefer_2").key
    assert third.step("samples_3").inputs == {"model": "prefer_2"}
    assert third.step("prefer_3").inputs == {"model": "prefer_2", "pairs": "verifier_pairs_3", "origin": "train"}
    for source, rounds, finishes, message in (
        ("verifier", 5, 0, r"preference\.rounds is 5"),
        ("random", 2, 2, r"finish\.rounds is 2"),
        ("detail", 2, 0, r"up to 4 for the sources verifier, random"),
    ):
        changes = {"preference.enabled": True, "preference.source": source, "preference.rounds": rounds}
        changes["finish.rounds"] = finishes
        with pytest.raises(ValueError, match=message):
            STUDY.path(override(STUDY.scales["cpu"], changes))


def test_preference_prompts_of_one_s_own_data_come_from_geneval_s_generator():
    prompts = preference_prompts({"shards": "data"}, 3, official_prompts(), 60)
    asked = {prompt.prompt for prompt in official_prompts()}
    assert len(prompts) > 40 and not asked & {prompt.prompt for prompt in prompts}
    assert prompts != preference_prompts({"shards": "data"}, 4, official_prompts(), 60)


def work(tmp_path, grades, monkeypatch, **sections):
    """A step's work in which making and judging pictures is replaced by given grades of (guidance, prompt number)."""
    whole = STUDY.scales["smoke"]
    recipe = {"data": whole["data"], "evaluation": whole["evaluation"], "preference": {"captions": "all"}, **sections}

    def graded(work, prompts, images, *, copies, seed, guidance_scale=None):
        return {
            f"{number:05d}/samples/{copy:05d}.png": grades(guidance_scale, prompt)
            for number, prompt in enumerate(prompts)
            for copy in range(copies)
        }

    monkeypatch.setattr("ablations.preferring._graded", graded)
    return Work(
        out=Path(tmp_path), inputs={}, recipe=recipe, seed=0, stop=lambda: False, progress=lambda fraction: None
    )


def test_retuned_guidance_is_the_best_mean_of_task_means_and_the_smaller_of_equals(tmp_path, monkeypatch):
    settings = {"enabled": True, "scales": [1.5, 2.0, 3.0], "prompts": 20, "copies": 2}

    def grades(scale, prompt):  # 3.0 wins the one task that has most prompts, 1.5 and 2.0 all the others
        return 1.0 if (scale == 3.0) == (prompt.tag == "color_attr") else 0.5

    found = retune(work(tmp_path, grades, monkeypatch, retune=settings))
    assert found["guidance_scale"] == 1.5 and found["right"]["1.5"] == found["right"]["2"] > found["right"]["3"]
    assert json.loads((tmp_path / "sampling.json").read_text()) == {"guidance_scale": 1.5}


def test_samples_are_counted_by_task(tmp_path, monkeypatch):
    preference = {"captions": "training", "prompts": 20, "copies": 2, "max_copies": 6}
    given = work(tmp_path, lambda scale, prompt: float(prompt.tag == "colors"), monkeypatch, preference=preference)
    found = samples(given)
    kept = json.loads((tmp_path / "grades.json").read_text())
    assert found["images"] == sum(len(grades) for grades in kept.values()) and found["right"]["colors"] == 1.0
    assert found["right"]["position"] == 0.0


@pytest.mark.parametrize("name", ["teacher-pairs", "verifier", "guidance"])
def test_what_needs_no_drawing_teacher_can_be_asked_at_paper_scale(name):
    assert "paper" in (STUDY.variant(name).scales or STUDY.scales)


def test_all_but_the_control_are_made_for_every_seed():
    planned = plan_cells(STUDY, "cpu", [4, 5])
    seeds = {}
    for cell in planned:
        seeds.setdefault(cell.variant, []).append(cell.seed)
    assert seeds.pop("teacher") == [4]
    assert set(map(tuple, seeds.values())) == {(4, 5)}


def test_a_later_round_is_expected_to_cost_what_the_first_does(tmp_path):
    expected = Estimate.of(Store(tmp_path), "cpu")
    steps = cells()["verifier-rounds"].steps
    assert all(expected.of_stage(step.stage)[0] > 0 for step in steps)
    assert expected.of_stage("samples_4") == expected.of_stage("samples") != expected.of_stage("finish_2")
    assert expected.of_stage("unheard_of_2") == (0.0, 0.0)
