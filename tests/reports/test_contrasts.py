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
from reports.page.head import card
from reports.records.study import Contrast, read_study
from reports.tables import contrasts as tables
from reports.tables.table import to_latex, to_markdown
from reports.verdicts import UNSETTLED, _judged, between, primary, verdicts

T_2 = 4.302652729911275  # Student's quantile with two degrees of freedom


def edit(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def answer(root, name="diversity_beats_volume"):
    return next(verdict for verdict in verdicts(read_study(root)) if verdict.contrast.name == name)


def judged(ci, *, smallest=0.03, scale="cpu", seeds=(0, 1, 2), p=None):
    """The verdict on an interval, as if the seeds alone had given it."""
    contrast = Contrast(
        name="c",
        label="c",
        sides=(("a",), ("b",)),
        metric="geneval/overall",
        smallest_effect=smallest,
        claim="it helps",
    )
    low, high = ci
    parts = [Part("seeds", np.asarray(((high - low) / 2 / T_2) ** 2), np.asarray(2.0))]
    found = Difference(inference=Inference(effect=(low + high) / 2, parts=parts), seeds=seeds)
    return _judged(SimpleNamespace(scale=scale), contrast, found, {}, {contrast: p})


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
    assert card(study, found[0]).claimed == "+0.09 (Table 2)" and card(study, found[1]).claimed == ""
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


@pytest.mark.parametrize("side", [[], ["small-diverse-none", "small-diverse-none"], ["nobody"], [1], "nobody"])
def test_a_side_names_different_variants(make_study, side):
    root = make_study()
    edit(root / "study.json", lambda d: d["contrasts"][0].update(a=side))
    with pytest.raises(ValueError, match=r"contrasts\[0\]: "):
        read_study(root)
