"""Figures: the same bytes for the same records, and no figure without its rows."""

from __future__ import annotations

import io
import json
from itertools import pairwise

import pytest
from PIL import Image

from reports.figures.curves import label_ends, training
from reports.figures.drift import drift
from reports.figures.figure import MUTED
from reports.figures.geneval import geneval, splits
from reports.figures.interaction import interaction
from reports.figures.looks import Look, looks
from reports.figures.preference import preference
from reports.records.study import read_study
from reports.scores import scores


@pytest.fixture(scope="module")
def study(finished):
    return read_study(finished)


def test_bytes_are_the_same_twice(study):
    found = scores(study)
    first, second = interaction(study, found), interaction(study, found)
    assert first.svg == second.svg and first.png == second.png
    assert "<dc:date>" not in first.svg


def test_each_figure_has_its_rows_and_can_be_opened(study, tmp_path):
    figure = splits(study, scores(study))
    figure.write(tmp_path)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv", ".png", ".svg"]
    assert Image.open(io.BytesIO(figure.png), formats=["PNG"]).width > 1000
    assert len(figure.data) == 10 * 4


def test_color_is_diversity_marker_is_volume_filling_is_preference(study):
    look = looks(study)
    small, large = look["small-diverse-none"], look["large-diverse-none"]
    assert small.color == large.color != look["small-narrow-none"].color
    assert small.marker != large.marker and small.is_filled and not look["small-diverse-dpo"].is_filled
    assert look["teacher"].color == MUTED


def test_a_dollar_sign_is_a_dollar_sign(make_study):
    root = make_study()
    path = root / "study.json"
    path.write_text(path.read_text().replace("small, narrow", r"$\\frac{1"))
    study = read_study(root)
    assert r"$\frac{1" in geneval(study, scores(study)).svg


def test_cells_that_share_a_curve_draw_it_once(make_study):
    root = make_study()
    base = (root / "cells/small-narrow-none-s0/training.jsonl").read_text()
    (root / "cells/small-narrow-dpo-s0/training.jsonl").write_text(base)
    cells = {row["cell"] for row in training(read_study(root)).data}
    assert "small-narrow-none-s0" in cells and "small-narrow-dpo-s0" not in cells


def test_labels_at_the_ends_do_not_touch(study):
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    ax.set_ylim(0, 1)
    look = Look("#000000")
    label_ends(ax, {f"curve {i}": (0.98 + i / 1000, look) for i in range(8)}, gap=0.05)
    heights = sorted(text.xy[1] for text in ax.texts)
    assert heights[-1] <= 1.0 + 1e-9 and all(b - a >= 0.05 - 1e-9 for a, b in pairwise(heights))


def test_preference_curves_have_their_panels(study):
    fields = {row["field"] for row in preference(study).data}
    assert fields == {"winner_drift", "loser_drift", "accuracy", "loss"}


def test_a_study_without_crossed_factors_has_no_interaction(make_study):
    root = make_study()
    path = root / "study.json"
    path.write_text(
        path.read_text().replace('"interaction": {"rows": "volume", "columns": "diversity"}', '"interaction": null')
    )
    study = read_study(root)
    assert interaction(study, scores(study)) is None


def test_a_variant_may_have_a_factor_of_its_own(make_study):
    folder = make_study()
    data = json.loads((folder / "study.json").read_text())
    data["variants"][-3]["factors"] = {"switches": "released"}
    (folder / "study.json").write_text(json.dumps(data))
    study = read_study(folder)
    assert geneval(study, scores(study)).svg


def test_scores_stand_over_drift_and_what_was_not_preferred_has_none(make_study):
    root = make_study(seeds=(0, 1))
    assert drift(read_study(root), scores(read_study(root))) is None
    for seed, moved in ((0, 0.02), (1, 0.04)):
        path = root / f"cells/small-diverse-dpo-s{seed}/result.json"
        data = json.loads(path.read_text())
        measured = {"value": moved, "ci": [moved - 0.01, moved + 0.01], "n": 512, "higher_is_better": False}
        data["metrics"]["preference/winner_drift"] = {**measured, "version": "1"}
        path.write_text(json.dumps(data))
    study = read_study(root)
    figure = drift(study, scores(study))
    rows = {(row["variant"], row["seed"]): row for row in figure.data}
    assert rows["small-diverse-dpo", 1]["winner_drift"] == 0.04 and rows["small-diverse-dpo", 1]["was_preferred"]
    assert rows["small-diverse-none", 0]["winner_drift"] == 0 and not rows["small-diverse-none", 0]["was_preferred"]
    assert "small, diverse + DPO: " in figure.svg
