"""The page of claims: every number from the records beside it, and one clear line for what they do not have."""

import json
import shutil
import statistics
from types import SimpleNamespace

import pytest
from scipy import stats

from reports.claims import _ranks, build_claims
from reports.records.study import read_study
from reports.verdict import verdicts

HEAD = 'title = "Claims"\npaper = "A paper"\n'


def claim(**fields):
    given = {"id": "H1", "claim": "More helps", "place": "Fig. 1", "change": "more seeds", **fields}
    lines = (f"{name} = {json.dumps(value)}" for name, value in given.items())
    return "[[claim]]\n" + "\n".join(lines) + "\n"


@pytest.fixture
def folder(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "diversity_sweep-cpu")
    return tmp_path


def build(folder, *claims):
    (folder / "claims.toml").write_text(HEAD + "".join(claims), encoding="utf-8")
    return build_claims(folder)


def test_a_row_says_what_the_study_s_own_report_says(folder):
    study = read_study(folder / "diversity_sweep-cpu")
    verdict = verdicts(study)[0]
    out = build(folder, claim(study=study.name, contrasts=[verdict.contrast.name]))
    for name in ("index.html", "claims.md"):
        text = (out / name).read_text()
        assert f"{verdict.difference.effect:+.3f}" in text and verdict.outcome in text
        assert "diversity_sweep-cpu/report/" in text


def test_records_that_lost_their_study_are_refused(folder):
    (folder / "diversity_sweep-cpu" / "study.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"diversity_sweep-cpu.study\.json: not found"):
        build(folder, claim(study="diversity_sweep", contrasts=["claim"]))


def test_a_hostile_claim_is_text(folder):
    out = build(folder, claim(claim="<script>alert(1)</script>", cannot="it cannot"))
    page = (out / "index.html").read_text()
    assert "<script>" not in page and "&lt;script&gt;" in page and "cannot be tested here: it cannot" in page


def test_numbers_of_a_file_are_told_and_counted_as_measured(folder):
    (folder / "cost.json").write_text('{"sentences": ["792 M parameters"]}')
    text = (build(folder, claim(facts="cost.json")) / "claims.md").read_text()
    assert "792 M parameters" in text and "1 measured" in text


def test_what_was_not_run_or_not_made_is_said(folder):
    name = verdicts(read_study(folder / "diversity_sweep-cpu"))[0].contrast.name
    out = build(
        folder,
        claim(study="volume_sweep", contrasts=["a"]),
        claim(id="H2", study="diversity_sweep", contrasts=[name, "nope"]),
        claim(id="H3", study="diversity_sweep", contrasts=["nope"]),
    )
    text = (out / "claims.md").read_text()
    assert "not run yet: python -m ablations.run volume_sweep --seeds 0 1 2" in text
    assert text.count("not made in these records: nope") == 2 and "its variants were not made" in text


def cells(seed, scores, measures):
    """A complete cell for each variant a, b, c."""
    return [
        SimpleNamespace(variant=name, seed=seed, metrics={"geneval/overall": SimpleNamespace(value=score),
                                                          "vendi": SimpleNamespace(value=measure)})
        for name, score, measure in zip("abc", scores, measures, strict=True)
    ]  # fmt: skip


def test_the_order_of_variants_by_two_metrics_is_kendall_s():
    found = [cells(0, (1, 2, 3), (3, 2, 1)), cells(1, (1, 2, 3), (1, 2, 3)), cells(2, (3, 1, 2), (1, 2, 3))]
    study = SimpleNamespace(name="study", complete=lambda: [cell for seed in found for cell in seed])
    taus = [-1, 1, -1 / 3]
    half = stats.t.ppf(0.975, 2) * statistics.stdev(taus) / 3**0.5
    assert half > 1
    assert _ranks(study, "abc", ["vendi"]) == [
        "order of 3 training sets by geneval/overall and by vendi: Kendall's tau -0.11 [-1.00, +1.00], 3 seeds"
    ]
    with pytest.raises(ValueError, match="0 seeds with geneval/overall, kid"):
        _ranks(study, "abc", ["kid"])


def test_what_others_found_stands_beside_the_numbers(folder):
    out = build(folder, claim(cannot="it cannot", related="Others found it too."))
    assert all("Others: Others found it too." in (out / name).read_text() for name in ("index.html", "claims.md"))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"study": "diversity_sweep", "spread": "small-diverse"}, "complete cells of 'small-diverse'"),
        ({}, "needs one of contrasts, spread, facts and cannot"),
        ({"cannot": "x", "why": "y"}, "unknown why"),
        ({"cannot": "x", "ranks": ["a"]}, "ranks: expected dict"),
        ({"cannot": "x", "change": None}, "Invalid value"),
    ],
)
def test_what_the_records_do_not_have_is_one_line(fields, says, folder):
    with pytest.raises(ValueError, match=says):
        build(folder, claim(**fields))


@pytest.mark.parametrize("ranks", ["{of = ['a']}", "{of = ['a'], by = []}", "{of = ['a'], by = [1]}"])
def test_ranks_name_variants_and_metrics(ranks, folder):
    with pytest.raises(ValueError, match="ranks needs two lists of names"):
        build(folder, claim(cannot="x") + f"ranks = {ranks}\n")


@pytest.mark.parametrize("given", ["[{what = 'x', of = ['a']}]", "[{what = 'x', of = [], by = 'y'}]", "['x']"])
def test_a_saturation_says_what_of_which_variants_and_by_which_factor(given, folder):
    with pytest.raises(ValueError, match="saturation"):
        build(folder, claim(cannot="x") + f"saturation = {given}\n")


def test_a_row_tells_where_the_score_is_level_and_what_it_costs(make_study):
    root = make_study(seeds=(0, 1))
    study = json.loads((root / "study.json").read_text())
    names = ["small-narrow-none", "small-diverse-none", "large-narrow-none"]
    for variant in study["variants"]:
        if variant["name"] in names:
            variant["factors"]["images"] = f"{10 ** (2 + names.index(variant['name']))}"
    (root / "study.json").write_text(json.dumps(study))
    (root / "speed.json").write_text(json.dumps({"seconds": {names[0]: [0.001], names[1]: [0.005]}}))
    more = f"front = true\nsaturation = [{{what = 'level from', of = {names}, by = 'images'}}]\n"
    root.rename(root.parent / "diversity_sweep-cpu")
    row = claim(study="diversity_sweep", contrasts=[study["contrasts"][0]["name"]])
    text = (build(root.parent, row + more) / "claims.md").read_text()
    assert "- level from: " in text and "- score at the time of an image that nothing cheaper reaches: " in text
