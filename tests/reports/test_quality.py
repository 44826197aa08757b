"""The plots of image quality: rows behind each, and broken files refused."""

from __future__ import annotations

import json
import re

import pytest

from reports.figures.by_variant import detail, fid_by_size
from reports.figures.quality import quality
from reports.records.study import read_study


@pytest.fixture(scope="module")
def study(finished):
    return read_study(finished)


def test_every_measure_of_images_has_a_panel(study):
    names = {row["metric"].split("[")[0] for row in quality(study).data}
    assert names == {"fid", "kid", "clip_score", "detail/spectrum_gap"}


def test_fid_by_size_ends_in_its_limit(study):
    figure = fid_by_size(study)
    rows = [row for row in figure.data if row["variant"] == "small-diverse-none"]
    assert [row["n"] for row in rows] == [200, 280, 400, 1000, "infinite"]
    limit = study.complete("small-diverse-none")[0].quality["fid_infinity"]
    assert rows[-1]["fid"] == limit["value"] and rows[-1]["stderr"] == limit["stderr"]
    assert "where their line over 1/N ends" in figure.svg and rows[0]["metric"] == "fid[icon-clip,n=1000]"


def test_detail_has_a_panel_a_variant(study):
    figure = detail(study)
    assert {row["variant"] for row in figure.data} == {variant.name for variant in study.variants}
    assert all(variant.label in figure.svg for variant in study.variants if len(variant.label) < 20)


def test_a_study_without_quality_has_no_such_plots(make_study):
    root = make_study()
    for path in root.glob("cells/*/result.json"):
        data = json.loads(path.read_text())
        data["metrics"] = {name: metric for name, metric in data["metrics"].items() if name.startswith("geneval")}
        data["items"].pop("quality")
        path.write_text(json.dumps(data))
        (path.parent / "quality.json").unlink()
    study = read_study(root)
    assert quality(study) is fid_by_size(study) is detail(study) is None


@pytest.mark.parametrize(
    "broken, message",
    [
        ({"fid_by_n": [[0, 3.0]]}, r"fid_by_n\[0\]: expected \[images, FID\]"),
        ({"fid_infinity": {"value": 3.0}}, "fid_infinity: stderr: missing"),
        ({"spectrum": {"frequencies": [1], "generated": [1, 2], "reference": [1]}}, "as many numbers"),
    ],
)
def test_a_broken_file_makes_the_cell_unreadable(make_study, broken, message):
    root = make_study()
    (root / "cells/small-diverse-none-s0/quality.json").write_text(json.dumps(broken))
    cell = next(cell for cell in read_study(root).cells if cell.name == "small-diverse-none-s0")
    assert cell.state == "unreadable" and re.search(message, cell.reason)
