"""What a score costs: the front, what is drawn of it, and times that are damaged."""

import json
import sys

import pytest

from reports.__main__ import main
from reports.figures.front import front
from reports.front import front_line, priced, read_speed
from reports.pack import pack
from reports.records.study import read_study
from reports.scores import scores
from reports.tables.front import front as front_table


def _timed(make_study, times):
    root = make_study()
    (root / "speed.json").write_text(json.dumps({"seconds": times}))
    study = read_study(root)
    return study, scores(study)


def _by_score(study):
    found = scores(study)
    names = [variant.name for variant in study.variants if not variant.is_control]
    return sorted(names, key=lambda name: found[name, "", "overall"].value)


def test_the_front_is_what_nothing_cheaper_or_as_cheap_beats(make_study):
    study = read_study(make_study())
    found = scores(study)
    worst, *_, second, best = _by_score(study)
    times = {best: [0.4, 0.5], second: [0.01, 0.02], worst: [0.015, 0.03]}
    (study.folder / "speed.json").write_text(json.dumps({"seconds": times}))
    assert [(row.variant.name, row.is_on_front) for row in priced(study, found)] == [
        (second, True), (worst, False), (best, True)
    ]  # fmt: skip
    # Ranges that overlap are one time: the better one then stands alone.
    (study.folder / "speed.json").write_text(json.dumps({"seconds": times | {best: [0.018, 0.5]}}))
    assert [row.variant.name for row in priced(study, found) if row.is_on_front] == [best]
    (table,) = front_table(study, found)
    assert [row["variant"] for row in table.data] == [second, worst, best]
    assert [row["on_front"] for row in front(study, found).data] == [False, False, True]
    assert study.variant(best).label in front_line(study, found)


def test_without_times_or_where_all_cost_alike_nothing_is_shown(make_study):
    study, found = _timed(make_study, {"small-narrow-none": [0.01], "small-diverse-none": [0.011]})
    assert front(study, found) is None and not front_table(study, found) and not front_line(study, found)
    (study.folder / "speed.json").unlink()
    assert read_speed(study.folder) == {} and front(study, found) is None


@pytest.mark.parametrize("values", [[], [0.0], ["1"], 3, [float("nan")]])
def test_damaged_times_are_refused(make_study, values, capsys, monkeypatch):
    study, _ = _timed(make_study, {"small-narrow-none": values})
    monkeypatch.setattr(sys, "argv", ["reports", "build", str(study.folder)])
    assert main() == 2
    assert "speed.json" in capsys.readouterr().err


def test_a_packed_study_keeps_its_times(make_study, tmp_path):
    study, _ = _timed(make_study, {"small-narrow-none": [0.01], "small-diverse-none": [0.05]})
    pack(study.folder, tmp_path / "packed", slim=True)
    assert read_speed(tmp_path / "packed") == read_speed(study.folder)
    assert "What a score costs" in (tmp_path / "packed/report/report.md").read_text()
    assert (tmp_path / "packed/report/figures/front.png").is_file()
