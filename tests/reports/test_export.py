"""A study for other tools: what they read back is what the records say."""

import json
import sys

import pytest
import yaml

from reports.__main__ import main
from reports.export import to_hub_card, to_tensorboard
from reports.records.study import read_study


def told(monkeypatch, *given):
    monkeypatch.setattr(sys, "argv", ["reports", "export", *map(str, given)])
    return main()


def test_the_card_is_of_the_best_model_and_says_its_limits(finished, tmp_path, monkeypatch, capsys):
    assert told(monkeypatch, finished, "--to", "hub-card", "--out", tmp_path / "card") == 0
    board = json.loads((tmp_path / "card/leaderboard.json").read_text())
    values = [row["geneval"]["overall"]["value"] for row in board]
    assert len(board) == 8 and values == sorted(values, reverse=True)  # no controls
    _, head, text = (tmp_path / "card/README.md").read_text().split("---\n", 2)
    (entry,) = yaml.safe_load(head)["model-index"]
    assert entry["name"] == board[0]["variant"]
    assert entry["results"][0]["metrics"][0]["value"] == pytest.approx(values[0], abs=1e-6)
    assert "an uncorrected maximum" in text and "seen on one seed, settles nothing" in text and "KID" in text
    assert told(monkeypatch, finished, "--to", "hub-card", "--out", tmp_path / "card") == 2
    assert "is not empty" in capsys.readouterr().err


def test_the_hub_s_own_reader_takes_the_card(finished, tmp_path):
    from huggingface_hub import ModelCard

    to_hub_card(read_study(finished), tmp_path / "card")
    card = ModelCard.load(tmp_path / "card/README.md")
    assert card.data.eval_results[0].metric_type == "geneval/overall"


def test_a_study_without_verdicts_has_no_card(make_study, tmp_path):
    root = make_study()
    for path in root.glob("cells/*/result.json"):
        path.unlink()
    with pytest.raises(ValueError, match="nothing to card"):
        to_hub_card(read_study(root), tmp_path / "card")


def test_tensorboard_reads_back_every_score(finished, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    study = read_study(finished)
    to_tensorboard(study, tmp_path)
    cell = study.complete()[0]
    (path,) = (tmp_path / cell.name).iterdir()
    found = {}
    for event in EventFileLoader(str(path)).Load():
        for value in event.summary.value:
            found[event.step, value.tag] = value.tensor.float_val[0] if value.HasField("tensor") else value.simple_value
    assert found[0, "geneval/overall"] == pytest.approx(cell.metrics["geneval/overall"].value)
    assert found[int(cell.training[-1]["samples"]), "training/loss"] == pytest.approx(cell.training[-1]["loss"])


@pytest.mark.parametrize("name", ["trackio", "tensorboard"])
def test_what_is_not_installed_is_named(finished, tmp_path, monkeypatch, capsys, name):
    monkeypatch.setitem(sys.modules, name, None)
    for part in ("compat", "compat.proto", "compat.proto.event_pb2"):
        monkeypatch.setitem(sys.modules, f"{name}.{part}", None)
    assert told(monkeypatch, finished, "--to", name, "--out", tmp_path / "out") == 2
    assert f"{name} is not installed" in capsys.readouterr().err


def test_trackio_keeps_a_run_a_cell(finished, tmp_path):
    pytest.importorskip("trackio")
    from reports.export import to_trackio

    to_trackio(read_study(finished), tmp_path / "runs")
    assert list((tmp_path / "runs").rglob("*.db"))
