"""Intervals: what each part adds, never narrower than the seeds say, and covering the truth as often as they claim."""

import numpy as np
import pytest

from reports.coverage import KINDS, SHARES, Design, coverage
from reports.inference import Inference, Part, contrast, half_width, holm, parts

T_2 = 4.302652729911275


def side(values):
    return {"task": np.asarray(values, dtype=float)}


def drawn(generator, seeds=3, draws=1, prompts=8, *, luck=0.0, tasks=6):
    effect = generator.normal(0, luck, (seeds, 1, 1))
    return {str(i): effect + generator.normal(0.5, 0.1, (seeds, draws, prompts)) for i in range(tasks)}


def test_seeds_alone_are_students_t():
    found = contrast([side([[[0.032]], [[0.076]], [[0.082]]]), side(np.zeros((3, 1, 1)))])
    assert found.interval() == pytest.approx((-0.0045, 0.1312), abs=1e-4)  # as the issue gives it
    assert found.effect == pytest.approx(0.19 / 3)


def test_the_interval_is_never_narrower_than_the_seeds():
    generator = np.random.default_rng(0)
    for _ in range(50):
        sides = [drawn(generator), drawn(generator)]
        seeds = sum(a.mean((1, 2)) - b.mean((1, 2)) for a, b in zip(*map(dict.values, sides))) / 6
        floor = T_2 * seeds.std(ddof=1) / 3**0.5
        assert half_width(parts(sides)) >= floor * (1 - 1e-9)


def test_prompts_that_all_seeds_share_are_not_in_the_seeds_scatter():
    prompt = np.linspace(-0.2, 0.2, 8)
    values = np.broadcast_to(prompt, (3, 1, 8))
    found = contrast([side(values), side(np.zeros((3, 1, 8)))])
    assert {part.name: float(part.variance) for part in found.parts} == pytest.approx(
        {"seeds": 0.0, "prompts": prompt.var(ddof=1) / 8}
    )


def test_seeds_that_agree_by_luck_do_not_hide_the_scatter_of_the_prompts():
    generator = np.random.default_rng(4)
    values = generator.normal(0, 1, (3, 1, 40))
    values -= values.mean(-1, keepdims=True)  # the seeds' means are all 0
    found = contrast([side(values), side(np.zeros((3, 1, 40)))])
    assert found.interval()[1] >= 1.96 * float(values.mean(0).std(ddof=1)) / 40**0.5


def test_what_varies_anew_in_each_image_is_counted_once():
    generator = np.random.default_rng(1)
    sums = {"seeds": 0.0, "prompts": 0.0}
    for _ in range(300):
        for part in parts([side(generator.normal(0, 1, (3, 1, 40))), side(np.zeros((3, 1, 40)))]):
            sums[part.name] += float(part.variance) / 300
    assert sums["seeds"] == pytest.approx(1 / 120, rel=0.15) and sums["prompts"] < 0.25 / 120


def test_as_many_draws_on_both_sides_are_paired():
    draws = np.array([0.1, 0.2, 0.4]).reshape(1, 3, 1) * np.ones((3, 1, 1))
    assert [float(p.variance) for p in parts([side(draws), side(draws)]) if p.name == "draws"] == pytest.approx([0.0])
    alone = [p for p in parts([side(draws), side(np.zeros((3, 1, 1)))]) if p.name == "draws"]
    assert float(alone[0].variance) == pytest.approx(np.var([0.1, 0.2, 0.4], ddof=1) / 3) and alone[0].degrees == 2


def test_prompts_that_no_two_seeds_share_are_in_the_seeds_scatter():
    generator = np.random.default_rng(5)
    sums = {"seeds": 0.0, "prompts": 0.0}
    for _ in range(300):
        values = np.full((3, 1, 60), np.nan)
        for seed in range(3):
            values[seed, 0, 20 * seed : 20 * seed + 20] = generator.normal(0, 1, 20)
        for part in parts([side(values), side(np.where(np.isnan(values), np.nan, 0.0))]):
            sums[part.name] += float(part.variance) / 300
            assert part.alone is None or float(part.alone) == pytest.approx(1 / 60, rel=0.8)
    assert sums["seeds"] == pytest.approx(1 / 60, rel=0.15) and sums["prompts"] == pytest.approx(0, abs=1e-9)


def test_what_seeds_share_of_their_prompts_covers_the_truth():
    generator, hits = np.random.default_rng(6), 0
    for _ in range(600):
        effect = generator.normal(0, 1, (1, 1, 30)) + generator.normal(0, 0.1, (3, 1, 1))
        values = effect + generator.normal(0, 0.5, (3, 1, 30))
        values[0, 0, :10] = values[1, 0, 10:20] = values[2, 0, 20:] = np.nan
        hits += abs(np.nanmean(values, -1).mean()) <= half_width(parts([side(values), side(0 * values)]))
    assert hits / 600 >= 0.95 - 2 * (0.05 * 0.95 / 600) ** 0.5


def test_a_task_of_one_prompt_is_as_uncertain_as_the_others():
    generator = np.random.default_rng(2)
    many, one = generator.normal(0, 1, (1, 1, 50)), generator.normal(0, 1, (1, 1, 1))
    zero = {"many": np.zeros((1, 1, 50)), "one": np.zeros((1, 1, 1))}
    (part,) = parts([{"many": many, "one": one}, zero])
    assert float(part.variance) == pytest.approx(many.var(ddof=1) * (1 / 50 + 1) / 4)
    assert contrast([side([[[1.0]]]), side([[[0.0]]])]).interval() is None


def test_the_p_value_is_the_level_whose_interval_just_reaches():
    found = Inference(effect=0.1, parts=[Part("seeds", np.asarray(0.001), np.asarray(2.0)),
                                         Part("prompts", np.asarray(0.0005), np.asarray(40.0))])  # fmt: skip
    p = found.p_value(0.03)
    assert half_width(found.parts, 1 - p) == pytest.approx(0.07, rel=1e-6)
    low, high = found.interval()
    assert found.p_value(low) == pytest.approx(0.05) == pytest.approx(found.p_value(high))
    assert found.p_value(0.1) == 1.0
    assert Inference(effect=0.1, parts=[]).p_value(0.0) is None


def test_the_detectable_effect_is_supported_four_times_in_five():
    generator = np.random.default_rng(3)
    variance, trials = 0.01, 4000
    found = Inference(effect=0.0, parts=[Part("seeds", np.asarray(variance / 4), np.asarray(3.0))])
    values = generator.normal(found.detectable(0.03), variance**0.5, (trials, 4, 1, 1))
    many = parts([{"task": values}, {"task": np.zeros_like(values)}])
    supported = values.mean((1, 2, 3)) - half_width(many) >= 0.03
    assert supported.mean() == pytest.approx(0.8, abs=0.02)


def test_holm_is_the_textbook_s():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.9, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize("outcome", ["Gaussian", "binary"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_cover_the_truth(outcome, kind, seeds):
    """At least 95 %, less what chance takes from 1000 drawn studies (two standard errors)."""
    for share in SHARES:
        design = Design(outcome=outcome, kind=kind, seeds=seeds, prompts=8, share=share)
        assert coverage(design, trials=1000)[0] >= 0.95 - 2 * (0.05 * 0.95 / 1000) ** 0.5, design


def test_intervals_of_many_prompts_cover_the_truth():
    design = Design(outcome="binary", kind="interaction", seeds=3, prompts=100, share=0.5)
    assert coverage(design, trials=500)[0] >= 0.93
