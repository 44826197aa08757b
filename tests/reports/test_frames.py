"""Records as DataFrames, and the same study compared with itself after a change."""

import json
import shutil
import sys

import pytest

import reports
from geneval.statistics import summarize
from reports.__main__ import main
from reports.comparison import comparison
from reports.records.study import read_study


def test_a_row_a_metric_and_cell(finished):
    found = reports.frame(finished)
    study = read_study(finished)
    assert len(found) == sum(len(cell.metrics) for cell in study.complete())
    row = found[(found.variant == "small-diverse-none") & (found.metric == "geneval/colors")].iloc[0]
    metric = study.complete("small-diverse-none")[0].metrics["geneval/colors"]
    assert (row.value, row.low, row.high, row.n) == (metric.value, *metric.ci, metric.n)
    assert (row["factor.diversity"], row.split, row.task, row.seed) == ("diverse", "all", "colors", 0)


def test_a_row_a_contrast(finished):
    found = reports.verdicts(finished)
    assert list(found.contrast) == ["diversity_beats_volume", "volume", "preference", "interaction"]
    assert set(found.verdict) == {"seen on one seed, settles nothing"} and list(found.is_primary)[:2] == [True, False]


def test_an_empty_study_gives_an_empty_frame_and_no_study_one_line(make_study, tmp_path):
    root = make_study()
    for path in root.glob("cells/*/result.json"):
        path.unlink()
    found = reports.frame(root)
    assert found.empty and "value" in found.columns
    with pytest.raises(FileNotFoundError, match="not found"):
        reports.frame(tmp_path)


@pytest.fixture
def changed(finished, tmp_path):
    """The finished study with one verdict turned and one metric of another version."""
    root = tmp_path / "after"
    shutil.copytree(finished, root)
    cell = root / "cells/small-diverse-none-s0"
    lines = (cell / "results.jsonl").read_text().splitlines()
    row = json.loads(lines[0])
    lines[0] = json.dumps({**row, "correct": not row["correct"]})
    (cell / "results.jsonl").write_text("\n".join(lines) + "\n")
    record = json.loads((cell / "result.json").read_text())
    rows = [json.loads(line) for line in lines]
    found = summarize(rows, resamples=2)
    for name, made in {"overall": found["overall"], **found["tasks"]}.items():
        record["metrics"][f"geneval/{name}"]["value"] = made["value"]
    record["metrics"]["fid[icon-clip,n=1000]"]["version"] = "other weights"
    (cell / "result.json").write_text(json.dumps(record))
    return root


def test_what_a_change_of_code_changed_is_shown(finished, changed):
    table = comparison(read_study(finished), read_study(changed))
    rows = {(row["variant"], row["metric"].split("[")[0]): row for row in table.data}
    same, other = rows["small-narrow-none", "geneval/overall"], rows["small-diverse-none", "geneval/overall"]
    assert same["difference"] == 0 and same["changed"] == 0
    assert other["changed"] == 1 and abs(other["difference"]) == pytest.approx(1 / 72)
    assert "different versions" in rows["small-diverse-none", "fid"]["note"]
    assert rows["teacher", "kid"]["difference"] == 0


def test_pictures_that_were_made_otherwise_are_marked(finished, changed):
    for root, steps in ((finished, 8), (changed, 16)):
        path = root / "cells/small-narrow-none-s0/result.json"
        made = {"steps": steps, "guidance": 3.0, "processes": steps}
        path.write_text(json.dumps({**json.loads(path.read_text()), "protocol": made}))
    table = comparison(read_study(finished), read_study(changed))
    rows = {(row["variant"], row["metric"].split("[")[0]): row for row in table.data}
    assert rows["small-narrow-none", "geneval/overall"]["note"] == "pictures made otherwise: steps"
    assert rows["small-narrow-none", "geneval/overall"]["difference"] == 0
    assert not rows["small-diverse-none", "geneval/overall"]["note"]


def test_other_studies_are_not_compared(finished, changed, capsys, monkeypatch):
    study = json.loads((changed / "study.json").read_text())
    (changed / "study.json").write_text(json.dumps({**study, "name": "dpo_sweep"}))
    for path in changed.glob("cells/*/result.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "study": "dpo_sweep"}))
    monkeypatch.setattr(sys, "argv", ["reports", "compare", str(finished), str(changed)])
    assert main() == 2 and "not the same study" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["reports", "compare", str(finished), str(finished), "--json"])
    assert main() == 0 and len(json.loads(capsys.readouterr().out)) > 10
