"""What the variants of the package's studies share, and that steps do what the report says of them."""

import dataclasses
import json
from pathlib import Path

import pytest

from ablations.recipes import pairs, preferred, trained
from ablations.runner.costs import Costs
from ablations.runner.plan import plan_cells
from ablations.runner.step import Work, numbered
from ablations.runner.store import Store
from ablations.settings import Runtime
from ablations.steps import Prefer, RankedPairs, Sample, Train, TuneGuidance
from ablations.studies import load_study, study_names

SWEEP, DPO = load_study("diversity_sweep"), load_study("dpo_sweep")


def cells(*only, study=DPO, seeds=(0,), scale="cpu"):
    return {cell.variant: cell for cell in plan_cells(study, scale, study.setting(scale), seeds, only)}


def named(cell):
    return numbered(cell.steps)


def model_of(cell):
    return named(cell)["generate"].model


def rounds(model):
    """The preference trainings that led to the model, in their order."""
    return [*rounds(model.model), model] if isinstance(model, Prefer) else []


def changed(a, b):
    """Dotted names of the fields in which two dataclasses differ."""
    found = {}
    for field in dataclasses.fields(a):
        one, other = getattr(a, field.name), getattr(b, field.name)
        if one != other:
            found[field.name] = other
    return found


def test_the_sweep_has_the_release_s_quirks_as_one_optional_variant():
    variants = SWEEP.variants_of("cpu", SWEEP.setting("cpu"), 0)
    optional = [v.name for v in variants if v.optional]
    others = ("-best", "-twice", "-some", "-many", "-colored")
    assert [name for name in optional if not name.endswith(others)] == ["large-diverse-released"]
    for scale in ("smoke", "cpu", "gpu"):
        found = cells("large-diverse", "large-diverse-released", study=SWEEP, scale=scale)
        plain, quirky = (model_of(found[f"large-diverse{end}"]) for end in ("", "-released"))
        assert changed(plain.latents, quirky.latents) == {"flips": True, "keep_padding": True}
        assert changed(plain.model, quirky.model) == {"normalized_residual": True, "attend_to_padding": True}
        assert changed(plain.config, quirky.config) == {"ema_decay": 0.0, "ema_warmup": False}
        assert quirky.config.beta2 == 0.95


@pytest.mark.parametrize("scale", ["smoke", "cpu", "gpu"])
def test_all_variants_of_the_sweep_see_the_same_number_of_samples(scale):
    steps = [step for cell in cells(study=SWEEP, scale=scale).values() for step in cell.steps]
    seen = {step.config.samples_seen for step in steps if isinstance(step, Train)}
    assert seen == {SWEEP.setting(scale).train.samples_seen}


def test_every_variant_starts_from_the_base_of_its_seed():
    planned = cells()
    base = planned["base"].step("train").key
    for name, cell in planned.items():
        if name != "teacher":
            assert (cell.step("train").key == base) == (not name.startswith(("flips", "longer"))), name
    assert planned["flips-verifier"].step("train").key == planned["flips"].step("train").key
    assert model_of(planned["longer"]).config.samples_seen == 2 * model_of(planned["base"]).config.samples_seen


def test_sft_and_the_placebo_learn_from_the_verifier_s_own_pairs():
    planned = cells("verifier", "sft", "random", "verifier-gentle", "verifier-stiff")
    found = planned["verifier"].step("ranked_pairs").key
    for name in ("sft", "random", "verifier-gentle", "verifier-stiff"):
        assert planned[name].step("ranked_pairs").key == found
    assert changed(model_of(planned["verifier"]).config, model_of(planned["sft"]).config) == {"kind": "sft"}
    assert model_of(planned["random"]).pairs.pairs == model_of(planned["verifier"]).pairs


def test_rounds_sample_the_model_before_which_is_the_reference_and_tell_drift_from_the_base():
    planned = cells("verifier", "verifier-twice", "verifier-thrice")
    once, twice, thrice = (model_of(planned[name]) for name in ("verifier", "verifier-twice", "verifier-thrice"))
    assert once.origin is None and once.pairs.samples.round == 1
    assert twice.model == once and thrice.model == twice
    assert twice.origin == once.model == thrice.origin and isinstance(once.model, Train)
    assert twice.pairs.samples.model == once and twice.pairs.samples.round == 2
    assert list(named(planned["verifier-thrice"]))[-4:] == ["judge", "draw_benchmark", "describe_reference", "quality"]


def test_the_last_of_several_rounds_compare_what_is_sampled_and_sft_and_placebo_have_as_many():
    planned = cells("verifier-rounds", "sft-rounds", "random-rounds")
    last, control, placebo = (model_of(planned[f"{name}-rounds"]) for name in ("verifier", "sft", "random"))

    scales = [model.config.guidance_scale for model in rounds(last)]
    assert scales == [1.0, 1.0, 3.0, 3.0] and scales[-1] == DPO.setting("cpu").sampling.guidance_scale
    assert [m.config.learning_rate for m in rounds(last)] == [2e-4, 2e-4, 1e-4, 1e-4]
    for other in (control, placebo):
        assert [m.config.guidance_scale for m in rounds(other)] == scales
    assert {m.config.kind for m in rounds(control)} == {"sft"}
    assert rounds(control)[0].pairs == rounds(last)[0].pairs and rounds(control)[1].pairs != rounds(last)[1].pairs
    assert all(m.pairs.pairs.samples.model == m.model for m in rounds(placebo))


def test_a_better_base_is_asked_the_same_by_the_recipe_of_the_training_study():
    found = cells("base", "verifier-rounds", "better", "better-rounds", "better-flips", "better-flips-verifier")
    base, better = model_of(found["base"]), model_of(found["better"])
    assert better.config.samples_seen == base.config.samples_seen and better.latents != base.latents
    assert (better.config.schedule, better.config.per_image_ratio) == ("constant", True)
    last, plain = model_of(found["better-rounds"]), model_of(found["verifier-rounds"])
    assert [m.config for m in rounds(last)] == [m.config for m in rounds(plain)]
    assert rounds(last)[0].model == better == last.origin
    mended = model_of(found["better-flips-verifier"])
    assert mended.model == model_of(found["better-flips"]) and mended.model.latents.flips
    assert dataclasses.replace(mended.model, latents=better.latents) == better
    assert model_of(cells("together", study=load_study("training_sweep"))["together"]) == better


def test_only_own_samples_can_be_drawn_anew_and_unknown_sources_are_named():
    setting = DPO.setting("cpu")
    base = trained(setting, 0)
    with pytest.raises(ValueError, match="2 rounds of the source detail; only verifier, random"):
        preferred(setting, base, 0, [setting.preference.dpo] * 2, source="detail")
    with pytest.raises(ValueError, match="valid: verifier, random, teacher, detail, layout"):
        pairs(setting, base, base, 0, "coin")


def test_lightgen_s_own_strength_and_the_options_are_there():
    strength = model_of(cells()["teacher-pairs-lightgen"])
    assert (strength.config.beta, strength.config.learning_rate) == (5000, 1e-8)
    assert strength.pairs.name == "teacher_pairs"
    names = {contrast.name.split("-")[0] for contrast in DPO.contrasts}
    assert {"h7", "h8", "h9"} <= names
    options = [v.name for v in DPO.variants_of("cpu", DPO.setting("cpu"), 0) if v.optional]
    assert not set(options) & set(cells()) and len(options) == 23
    found = cells(*options)
    assert model_of(found["verifier-sdpo"]).config.sdpo and model_of(found["verifier-refresh"]).config.refresh_every
    far = model_of(found["verifier-far"])
    assert far.extrapolation == 2.0 and far.pairs.samples.copies == 32 and far.pairs.per_task == 1600


def test_all_but_the_control_are_made_for_every_seed():
    seeds = {}
    for cell in plan_cells(DPO, "cpu", DPO.setting("cpu"), [4, 5]):
        seeds.setdefault(cell.variant, []).append(cell.seed)
    assert seeds.pop("teacher") == [4]
    assert set(map(tuple, seeds.values())) == {(4, 5)}


@pytest.mark.parametrize("study", [load_study(name) for name in study_names()], ids=lambda study: study.name)
@pytest.mark.parametrize("scale", ["smoke", "cpu"])
def test_every_step_has_an_expected_cost(study, scale, tmp_path):
    expected = Costs.of(Store(tmp_path), scale)
    names = {step.name for cell in cells(study=study, scale=scale).values() for step in cell.steps}
    assert not [name for name in names if name not in expected.costs]
    assert expected.of_step("unheard_of") == (0.0, 0.0)


def work(tmp_path):
    return Work(out=Path(tmp_path), made=lambda step: Path(tmp_path), runtime=Runtime())


def graded_by(grades, monkeypatch, module):
    """Making and judging pictures is replaced by given grades of (guidance, prompt)."""

    def graded(work, model, prompts, images, call, judges, *, copies, seed):
        return {
            f"{number:05d}/samples/{copy:05d}.png": grades(call["guidance_scale"], prompt)
            for number, prompt in enumerate(prompts)
            for copy in range(copies)
        }

    monkeypatch.setattr(f"ablations.steps.{module}.graded", graded)


def test_retuned_guidance_is_the_best_mean_of_task_means_and_the_smaller_of_equals(tmp_path, monkeypatch):
    step = cells("guidance", scale="smoke")["guidance"].step("tune_guidance")
    assert isinstance(step, TuneGuidance)
    step = dataclasses.replace(step, scales=(1.5, 2.0, 3.0), learned=dataclasses.replace(step.learned, count=20))
    # 3.0 wins the one task that has most prompts, 1.5 and 2.0 all the others
    graded_by(lambda s, prompt: 1.0 if (s == 3.0) == (prompt.tag == "color_attr") else 0.5, monkeypatch, "prefer")
    found = step.run(work(tmp_path))
    assert found["guidance_scale"] == 1.5 and found["right"]["1.5"] == found["right"]["2"] > found["right"]["3"]
    assert json.loads((tmp_path / "sampling.json").read_text()) == {"guidance_scale": 1.5}


def test_samples_are_counted_by_task(tmp_path, monkeypatch):
    step = cells("verifier", scale="smoke")["verifier"].step("sample")
    assert isinstance(step, Sample)
    graded_by(lambda scale, prompt: float(prompt.tag == "colors"), monkeypatch, "pairs")
    found = step.run(work(tmp_path))
    kept = json.loads((tmp_path / "grades.json").read_text())
    assert found["images"] == sum(len(grades) for grades in kept.values()) and found["right"]["colors"] == 1.0
    assert found["right"]["position"] == 0.0


def test_pairs_of_a_caption_grow_with_its_samples():
    step = cells("verifier")["verifier"].step("ranked_pairs")
    assert isinstance(step, RankedPairs) and step.per_prompt == 3 and step.samples.copies == 8


def test_a_second_resolution_keeps_the_model_s_shape_and_sees_a_third_more():
    planned = cells(study=load_study("resolution_sweep"))
    base, tuned, longer = (model_of(planned[name]) for name in ("base", "tuned", "longer"))
    assert tuned.start == longer.start == base and tuned.model == base.model and model_of(planned["zero-shot"]) == base
    assert tuned.config.samples_seen == longer.config.samples_seen == base.config.samples_seen // 3
    assert tuned.config.learning_rate == base.config.learning_rate / 10
    assert tuned.latents.dataset.config.world == "cpu@1.5"
    scratch = model_of(planned["scratch"])
    assert scratch.model.position_grid == 3 and scratch.config.samples_seen == 80_000
    sides = {name: (named(cell)["generate"].side, named(cell)["generate"].sampling.num_steps)
             for name, cell in planned.items() if not name.startswith("restored")}  # fmt: skip
    assert sides["base"] == sides["longer"] == (0, 4) and sides["zero-shot"] == sides["tuned"] == (48, 9)
    assert sides["tuned-few-steps"] == (48, 4)


def test_after_twice_the_training_its_end_and_its_best_part_are_of_one_training():
    found = cells("small-diverse", "small-diverse-best", "small-diverse-twice", study=SWEEP)
    best, end = (model_of(found[f"small-diverse-{name}"]) for name in ("best", "twice"))
    assert best.training == end.training and (best.part, end.part) == (0, best.training.snapshots)
    assert end.training.config.samples_seen == 2 * model_of(found["small-diverse"]).config.samples_seen


def test_colored_forms_are_asked_of_the_bases_themselves_and_of_the_teacher():
    found = cells("small-diverse", "small-diverse-colored", "teacher-colored", study=SWEEP)
    assert model_of(found["small-diverse-colored"]) == model_of(found["small-diverse"])
    for name in ("small-diverse-colored", "teacher-colored"):
        judge = found[name].ends[0]
        assert judge.prompts.templates == "colored" == judge.images.prompts.templates
    assert found["small-diverse"].ends[0].prompts.templates == "geneval"
