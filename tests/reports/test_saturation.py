"""The amount from which on a score is level: known curves, and what the interval says where nothing is known."""

import dataclasses
import json

import numpy as np
import pytest

from reports.records.study import read_study
from reports.saturation import bends, saturation

X = np.log10([100.0, 300.0, 1000.0, 3000.0, 10000.0])


@pytest.mark.parametrize("bend", [2.5, 3.0, 3.7, 4.0])
def test_the_bend_of_a_known_curve_is_found(bend):
    curve = 0.2 + 0.15 * (np.minimum(X, bend) - 2)
    assert abs(bends(curve, X) - bend) < 0.01
    assert np.allclose(bends(np.stack([curve, 3 * curve + 1]), X), bend, atol=0.01)


def test_what_never_rises_is_level_from_the_start():
    assert bends(0.5 - 0.1 * X, X) == X[0] and bends(np.full(5, 0.3), X) == X[0]


def _volumes(make_study, chances):
    """A study whose variants are amounts, each cell's verdicts set to a share of right images."""
    root = make_study(seeds=(0, 1, 2))
    study = json.loads((root / "study.json").read_text())
    names = [variant["name"] for variant in study["variants"] if "control" not in variant["factors"]][: len(chances)]
    random = np.random.default_rng(0)
    for name, chance in zip(names, chances, strict=True):
        for seed in (0, 1, 2):
            path = root / f"cells/{name}-s{seed}/results.jsonl"
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            rows = [row | {"correct": bool(random.random() < chance)} for row in rows]
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            record = path.with_name("result.json")
            given = json.loads(record.read_text())
            given["metrics"] = {}
            record.write_text(json.dumps(given))
    for variant, amount in zip(study["variants"], (100, 1000, 10000), strict=False):
        variant["factors"]["images"] = f"{amount}"
    (root / "study.json").write_text(json.dumps(study))
    return read_study(root), names


def test_a_clear_bend_is_inside_its_interval(make_study):
    found = saturation(*_volumes(make_study, (0.0, 1.0, 1.0)), "images")
    assert (found.amount, found.interval, found.seeds) == (1000, (1000, 1000), 3)
    assert found.line() == "1,000 [1,000, 1,000], 3 seeds"


def test_where_nothing_is_known_the_line_says_so(make_study):
    found = saturation(*_volumes(make_study, (0.5, 0.5, 0.5)), "images")
    assert found.interval == (100.0, 10000.0)
    assert found.line().endswith("both ends are those of what was measured: not known")


def test_what_has_no_bend_to_find_is_refused(make_study):
    study, names = _volumes(make_study, (0.1, 0.2, 0.3))
    with pytest.raises(ValueError, match=r"volume of .* is .*, no amount"):
        saturation(study, names, "volume")
    with pytest.raises(ValueError, match="has no variant 'nobody'"):
        saturation(study, ["nobody"], "images")
    with pytest.raises(ValueError, match="three variants of rising amounts"):
        saturation(study, names[::-1], "images")
    with pytest.raises(ValueError, match="0 seeds have all"):
        saturation(dataclasses.replace(study, cells=study.cells[:1]), names, "images")
