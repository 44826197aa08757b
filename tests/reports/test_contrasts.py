"""Scores, verdicts and the refusal to compare what may not be compared."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from reports import scores
from reports.contrasts import Difference
from reports.figures.interaction import interaction
from reports.figures.looks import looks
from reports.inference import Inference, Part
from reports.page.head import answer as headline
from reports.records.study import Contrast, read_study
from reports.tables import contrasts as tables
from reports.tables.latex import to_latex
from reports.tables.table import to_markdown
from reports.verdict import UNSETTLED, _at_a_bound, _judged, between, primary, verdicts

T_2 = 4.302652729911275  # Student's quantile with two degrees of freedom


def edit(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def answer(root, name="diversity_beats_volume"):
    return next(verdict for verdict in verdicts(read_study(root)) if verdict.contrast.name == name)


def judged(ci, *, smallest=0.03, scale="cpu", seeds=(0, 1, 2), p=None, scores=()):
    """The verdict on an interval, as if the seeds alone had given it."""
    contrast = Contrast(
        name="c",
        label="c",
        sides=(("a",), ("b",)),
        metric="detail/spectrum_gap",
        smallest_effect=smallest,
        claim="it helps",
    )
    low, high = ci
    parts = [Part("seeds", np.asarray(((high - low) / 2 / T_2) ** 2), np.asarray(2.0))]
    found = Difference(inference=Inference(effect=(low + high) / 2, parts=parts), seeds=seeds, scores=scores)
    return _judged(SimpleNamespace(scale=scale, draws="nested"), contrast, found, {}, {contrast: p})


@pytest.mark.parametrize(
    "ci, expected, words",
    [
        ((0.0301, 0.20), "supported", "it helps"),
        ((0.01, 0.20), "inconclusive", "clear of 0, but it may be smaller"),
        ((-0.05, 0.20), "inconclusive", "holds both 0 and 0.03"),
        ((-0.05, 0.029), "refuted", "speaks against: it helps"),
        ((-0.20, -0.10), "refuted", "points the other way"),
        ((0.1, 0.1), "inconclusive", "Nothing varies"),
    ],
)
def test_the_verdict_follows_from_interval_and_smallest_effect(ci, expected, words):
    found = judged(ci)
    assert found.outcome == expected and words in found.sentence


def test_a_smoke_run_is_never_conclusive():
    found = judged((0.5, 0.6), scale="smoke")
    assert found.outcome == "inconclusive" and "proves nothing" in found.sentence


@pytest.mark.parametrize("seeds, outcome", [((0,), UNSETTLED[1]), ((0, 1), UNSETTLED[2])])
def test_fewer_than_three_seeds_settle_nothing(seeds, outcome):
    found = judged((0.5, 0.6), seeds=seeds)
    assert found.outcome == outcome and found.kind == "unsettled" and "needs three training seeds" in found.sentence
    assert found.detectable is None


def test_scores_at_a_bound_tell_nothing_apart():
    assert "draw nothing right" in _at_a_bound((0.0, 0.014), 0.03)
    assert "nothing is left" in _at_a_bound((0.98, 0.999), 0.03)
    assert not _at_a_bound((0.0, 0.3), 0.03) and not _at_a_bound((0.9, 0.999), 0.03) and not _at_a_bound((), 0.03)


def test_models_that_draw_nothing_right_refute_nothing():
    assert judged((-0.05, 0.029)).outcome == "refuted"
    found = judged((-0.05, 0.029), scores=(0.003, 0.0))
    assert found.outcome == "inconclusive" and "draw nothing right" in found.sentence


def test_a_corrected_p_value_can_take_a_verdict_back():
    assert judged((0.05, 0.20), p=0.04).outcome == "supported"
    found = judged((0.05, 0.20), p=0.06)
    assert found.outcome == "inconclusive" and "would say supported; corrected" in found.sentence


def test_the_planted_effect_is_found_and_where_it_comes_from(finished):
    found = answer(finished).difference
    assert found.prompts == 36 and found.seeds == (0,)
    assert found.ci[0] <= found.effect <= found.ci[1] and found.effect > 0.1
    # The narrow sets lack the diverse and the unseen compositions and know the shared ones well.
    assert found.parts["unseen", "overall"].effect > 0.2 > found.parts["shared", "overall"].effect


def test_scores_are_the_means_of_the_rows(finished):
    study = read_study(finished)
    found = scores.scores(study)
    rows = study.complete("small-diverse-none")[0].rows
    hits = [row["correct"] for row in rows if row["tag"] == "colors" and row["split"] == "unseen"]
    score = found["small-diverse-none", "unseen", "colors"]
    assert score.value == pytest.approx(sum(hits) / len(hits)) and score.n == len(hits)
    record = study.complete("small-diverse-none")[0].record
    assert found["small-diverse-none", "", "overall"].value == pytest.approx(record.metrics["geneval/overall"].value)


def test_seeds_are_paired_by_what_both_sides_have(make_study):
    root = make_study(seeds=(0, 1, 2))
    (root / "cells" / "small-diverse-none-s1" / "result.json").unlink()
    assert answer(root).difference.seeds == (0, 2)


def test_a_missing_side_is_not_an_answer(make_study):
    root = make_study()
    (root / "cells" / "large-narrow-none-s0" / "result.json").unlink()
    found = answer(root)
    assert found.difference.effect is None and "no complete cell of large-narrow-none" in found.sentence


def test_versions_are_never_compared(make_study):
    root = make_study()
    path = root / "cells" / "large-narrow-none-s0" / "result.json"
    edit(path, lambda d: d["metrics"]["geneval/overall"].update(version="another judge"))
    found = answer(root)
    assert found.difference.effect is None and "different versions" in found.sentence
    parts = scores.by_version(scores.scores(read_study(root)))
    assert [len({name for name, *_ in part}) for part in parts] == [9, 1]


def test_other_prompts_are_not_an_answer(make_study):
    root = make_study()
    path = root / "cells" / "large-narrow-none-s0" / "results.jsonl"
    path.write_text(path.read_text().replace('\\"index\\": 0', '\\"index\\": 99'))
    assert "Not answered" in answer(root).sentence


def test_a_metric_without_verdicts_gives_no_verdict(make_study):
    root = make_study()
    edit(root / "study.json", lambda d: d["contrasts"][0].update(metric="fid[icon-clip,n=1000]"))
    found = answer(root)
    assert found.outcome == UNSETTLED[1] and found.difference.effect < 0 and found.difference.ci is None


def test_a_contrast_on_one_split_and_task(make_study):
    root = make_study()
    edit(root / "study.json", lambda d: d["contrasts"][0].update(metric="geneval@unseen/colors"))
    assert answer(root).difference.prompts == 2


def spectral(root, seeds, gaps):
    """A study whose cells of two variants have these spectrum gaps, and a contrast between them."""
    for name, values in gaps.items():
        for seed, value in zip(seeds, values):
            edit(
                root / f"cells/{name}-s{seed}/result.json",
                lambda data, value=value: data["metrics"]["detail/spectrum_gap[n=1000]"].update(value=value),
            )
    a, b = gaps
    edit(root / "study.json", lambda data: data["contrasts"][0].update(metric="detail/spectrum_gap", a=a, b=b))
    return answer(root)


def test_a_measure_without_verdicts_is_judged_by_its_seeds(make_study):
    seeds = (0, 1, 2, 3)
    gaps = {"small-narrow-none": (0.9, 1.0, 1.1, 1.0), "small-diverse-none": (0.5, 0.58, 0.72, 0.6)}
    found = spectral(make_study(seeds=seeds), seeds, gaps)
    differences = [a - b for a, b in zip(*gaps.values())]
    effect = found.difference.effect
    assert effect == pytest.approx(sum(differences) / 4) and found.outcome == "supported"
    half = 3.1824463 * (sum((d - effect) ** 2 for d in differences) / 3 / 4) ** 0.5
    assert found.difference.ci == pytest.approx((effect - half, effect + half), rel=1e-6)
    assert found.detectable > 0.03 + half


def test_the_records_own_intervals_widen_that_of_their_difference(make_study):
    root = make_study(seeds=(0, 1, 2))
    edit(root / "study.json", lambda d: d["contrasts"][0].update(metric="clip_score"))
    names = [part.name for part in answer(root).difference.inference.parts]
    assert names == ["seeds", "prompts"]


def test_the_primary_contrast_is_the_one_that_says_so_and_the_others_are_corrected(make_study):
    root = make_study(seeds=(0, 1, 2), per_task=12)
    assert [v.contrast.is_primary for v in verdicts(read_study(root))] == [True, False, False, False]
    before = answer(root, "volume").p_zero
    edit(root / "study.json", lambda d: d["contrasts"][1].update(primary=True))
    found = verdicts(read_study(root))
    assert primary(found).contrast.name == "volume" and primary(found).p_zero <= before
    alone = [v.difference.inference.p_value(0.0) for v in found]
    assert all(v.p_zero >= p for v, p in zip(found, alone)) and found[1].p_zero == alone[1]
    edit(root / "study.json", lambda d: d["contrasts"][2].update(primary=True))
    with pytest.raises(ValueError, match="volume, preference are primary; one may be"):
        read_study(root)


def test_what_was_claimed_stands_beside_what_was_measured(make_study):
    root = make_study()
    edit(root / "study.json", lambda d: d["contrasts"][0].update(published_effect=0.09, published_source="Table 2"))
    study = read_study(root)
    found = verdicts(study)
    assert headline(study, found).numbers.endswith("; claimed +0.09 (Table 2)")
    for table in (tables.contrasts(found), tables.effects(found)):
        assert "+0.09 (Table 2)" in to_markdown(table) and "(Table 2)" in to_latex(table)
    edit(root / "study.json", lambda d: d["contrasts"][0].update(published_effect="much"))
    with pytest.raises(ValueError, match="published_effect: expected a number"):
        read_study(root)


def test_draws_of_an_arm_are_a_factor_like_seeds(make_study):
    root = make_study(seeds=(0, 1, 2))
    data = json.loads((root / "study.json").read_text())
    narrow = ["small-narrow-none", "large-narrow-none", "small-narrow-dpo"]  # as if they were three draws
    for variant in data["variants"]:
        if variant["name"] in narrow:
            variant["factors"] = {"diversity": "narrow", "draw": str(narrow.index(variant["name"]))}
    data["contrasts"][0].update(a="small-diverse-none", b=narrow)
    data["contrasts"][1].update(a=["small-diverse-none", "large-diverse-none"], b=narrow)
    (root / "study.json").write_text(json.dumps(data))
    found, both = verdicts(read_study(root))[:2]
    parts = {part.name: part for part in found.difference.inference.parts}
    assert set(parts) == {"seeds", "draws", "prompts"} and parts["draws"].degrees == 2
    each = [between(read_study(root), "small-diverse-none", name, "geneval/overall").difference for name in narrow]
    assert found.difference.effect == pytest.approx(sum(one.effect for one in each) / 3)
    assert found.difference.ci[0] < min(one.effect for one in each)
    assert [part.degrees for part in both.difference.inference.parts if part.name == "draws"] == [1, 2]
    study = read_study(root)
    assert looks(study)["small-narrow-none"] == looks(study)["small-narrow-dpo"] and interaction(
        study, scores.scores(study)
    )
    assert tables.contrasts([found]).data[0]["b"] == "small-narrow-none, large-narrow-none, small-narrow-dpo"


def test_each_seed_may_have_draws_of_its_own(make_study):
    root = make_study(seeds=(0, 1, 2))
    narrow = ["small-narrow-none", "large-narrow-none"]

    def drawn(data):
        for variant in data["variants"]:
            if variant["name"] in narrow:
                variant["factors"] = {"diversity": "narrow", "draw": str(narrow.index(variant["name"]))}
        data["contrasts"][0].update(a="small-diverse-none", b=narrow)

    edit(root / "study.json", drawn)
    crossed = answer(root).difference
    edit(root / "study.json", lambda data: data.update(draws="nested"))
    nested = answer(root).difference
    assert crossed.has_part("draws") and not nested.has_part("draws") and nested.effect == crossed.effect
    assert nested.ci[0] > crossed.ci[0]
    edit(root / "study.json", lambda data: (data.update(draws="crossed"), data["contrasts"][0].update(b=narrow[:1])))
    found = answer(root)
    assert found.outcome == "inconclusive" and "is one random draw of its arm" in found.sentence
    edit(root / "study.json", lambda data: data.update(draws="woven"))
    with pytest.raises(ValueError, match="draws: 'woven' is not one of crossed, nested"):
        read_study(root)


def test_seeds_may_have_splits_of_their_own(make_study):
    root = make_study(seeds=(0, 1, 2))
    names = ("small-diverse-none", "large-narrow-none")
    expected = []
    for seed in (0, 1, 2):
        shares = {}
        for name in names:
            cell = root / f"cells/{name}-s{seed}"
            splits = json.loads((cell / "prompts.json").read_text())
            moved = {
                text: {"split": "unseen" if (place + seed) % 3 == 0 else "shared"} for place, text in enumerate(splits)
            }
            if name == names[0]:  # one prompt on which the seed's cells disagree
                moved[next(text for text in moved if moved[text]["split"] == "unseen")] = {"split": "shared"}
            (cell / "prompts.json").write_text(json.dumps(moved))
            shares[name] = [json.loads(line) for line in (cell / "results.jsonl").read_text().splitlines()]
            chosen = {text for text, entry in moved.items() if entry["split"] == "unseen"}
            shares[name] = (chosen, shares[name])
        both = shares[names[0]][0] & shares[names[1]][0]
        assert both < shares[names[1]][0]
        tasks = []
        for task in dict.fromkeys(row["tag"] for row in shares[names[0]][1]):
            hits = [
                [r["correct"] for r in rows if r["tag"] == task and r["metadata"] in both]
                for _, rows in shares.values()
            ]
            tasks.append(np.mean(hits[0]) - np.mean(hits[1]))
        expected.append(np.mean(tasks))
    part = answer(root).difference.parts["unseen", "overall"]
    assert part.effect == pytest.approx(np.mean(expected)) and part.prompts == 33  # each seed lacks another one
    assert scores.scores(read_study(root))[names[1], "unseen", "overall"].prompts == 36


def test_levels_of_a_dose_give_the_rise_of_their_line(make_study):
    root = make_study(seeds=(0, 1, 2))
    levels = ["large-diverse-dpo", "large-diverse-none", "small-diverse-none", "small-narrow-none"]
    edit(root / "study.json", lambda d: d["contrasts"][0].update(a=levels[0], between=levels[1:3], b=levels[3]))
    found, study = answer(root), read_study(root)
    means = [np.mean([c.metrics["geneval/overall"].value for c in study.complete(name)]) for name in levels]
    assert found.difference.effect == pytest.approx(3 * np.polyfit([3, 2, 1, 0], means, 1)[0])
    assert [part.name for part in found.difference.inference.parts] == ["seeds", "prompts"]
    edit(root / "study.json", lambda d: d["contrasts"][0].update(metric="kid"))
    assert answer(root).difference.has_part("prompts") and answer(root).difference.effect < 0
    edit(root / "study.json", lambda d: d["contrasts"][0].update(minus=levels[:2]))
    with pytest.raises(ValueError, match="between: expected null or a list of sides, and then no minus"):
        read_study(root)


def test_a_metric_of_several_ways_must_be_named_whole(make_study):
    root = make_study()

    def again(data):
        data["metrics"]["kid[other,n=1000]"] = data["metrics"]["kid[icon-clip,n=1000]"]

    edit(root / "cells/large-narrow-none-s0/result.json", again)
    edit(root / "study.json", lambda d: d["contrasts"][0].update(metric="kid"))
    assert "in several ways, the contrast must name one: kid[icon-clip,n=1000], kid[other" in answer(root).sentence
    edit(root / "study.json", lambda d: d["contrasts"][0].update(metric="vendi"))
    assert "vendi was not measured in small-diverse-none-s0" in answer(root).sentence


@pytest.mark.parametrize("side", [[], ["small-diverse-none", "small-diverse-none"], ["nobody"], [1], "nobody"])
def test_a_side_names_different_variants(make_study, side):
    root = make_study()
    edit(root / "study.json", lambda d: d["contrasts"][0].update(a=side))
    with pytest.raises(ValueError, match=r"contrasts\[0\]: "):
        read_study(root)


def test_one_prompt_a_task_settles_nothing(make_study):
    found = answer(make_study(per_task=1, seeds=(0, 1, 2)))
    assert found.outcome == "inconclusive" and ("No task has two prompts" in found.sentence or not found.difference.ci)
