"""Scores, verdicts and the refusal to compare what may not be compared."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from reports import contrasts, scores
from reports.records.study import Contrast, read_study


def edit(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def answer(root, name="diversity_beats_volume"):
    return next(a for a in contrasts.verdicts(read_study(root)) if a.contrast.name == name)


def verdict(ci, *, smallest=0.03, scale="cpu"):
    contrast = Contrast(
        name="c", label="c", a="a", b="b", metric="geneval/overall", smallest_effect=smallest, claim="it helps"
    )

    study = SimpleNamespace(scale=scale)
    effect = 0.0 if ci is None else sum(ci) / 2
    difference = contrasts.Difference(effect=effect, ci=ci, prompts=9, detectable=0.1)
    return contrasts._judged(study, contrast, difference, (0,), {})


@pytest.mark.parametrize(
    "ci, expected, words",
    [
        ((0.03, 0.20), "supported", "it helps"),
        ((0.01, 0.20), "inconclusive", "clear of 0, but it may be smaller"),
        ((-0.05, 0.20), "inconclusive", "holds both 0 and 0.03"),
        ((-0.05, 0.029), "refuted", "speaks against: it helps"),
        ((-0.20, -0.10), "refuted", "points the other way"),
        ((0.0, 0.0), "inconclusive", "All prompts agree"),
        (None, "inconclusive", "no interval"),
    ],
)
def test_the_verdict_follows_from_interval_and_smallest_effect(ci, expected, words):
    found = verdict(ci)
    assert found.outcome == expected and words in found.sentence


def test_a_smoke_run_is_never_conclusive():
    found = verdict((0.5, 0.6), scale="smoke")
    assert found.outcome == "inconclusive" and "proves nothing" in found.sentence


def test_the_planted_effect_is_found_and_where_it_comes_from(finished):
    found = answer(finished)
    assert found.outcome == "supported" and found.prompts == 36 and found.seeds == (0,)
    assert found.ci[0] <= found.effect <= found.ci[1]
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
    assert answer(root).seeds == (0, 2)


def test_a_missing_side_is_not_an_answer(make_study):
    root = make_study()
    (root / "cells" / "large-narrow-none-s0" / "result.json").unlink()
    found = answer(root)
    assert found.effect is None and "no complete cell of large-narrow-none" in found.sentence


def test_versions_are_never_compared(make_study):
    root = make_study()
    path = root / "cells" / "large-narrow-none-s0" / "result.json"
    edit(path, lambda d: d["metrics"]["geneval/overall"].update(version="another judge"))
    found = answer(root)
    assert found.effect is None and "different versions" in found.sentence
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
    assert found.outcome == "inconclusive" and found.effect < 0 and found.ci is None


def test_a_contrast_on_one_split_and_task(make_study):
    root = make_study()
    edit(root / "study.json", lambda d: d["contrasts"][0].update(metric="geneval@unseen/colors"))
    assert answer(root).prompts == 2


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
    assert found.effect == pytest.approx(sum(differences) / 4) and found.outcome == "supported"
    half = 3.1824463 * (sum((d - found.effect) ** 2 for d in differences) / 3 / 4) ** 0.5
    assert found.ci == pytest.approx((found.effect - half, found.effect + half), rel=1e-6)
    assert found.detectable > half


def test_two_seeds_settle_nothing_where_there_are_no_verdicts(make_study):
    gaps = {"small-narrow-none": (0.9, 1.0), "small-diverse-none": (0.5, 0.6)}
    found = spectral(make_study(seeds=(0, 1)), (0, 1), gaps)
    assert found.ci is None and found.outcome == "inconclusive" and found.effect == pytest.approx(0.4)
