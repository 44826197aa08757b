"""What a person sees where nothing changes for a while: how much of the whole is done."""

from pathlib import Path

from ablations.runner.costs import Costs
from ablations.runner.live import Clock, Lines
from ablations.runner.plan import plan_cells
from ablations.runner.schedule import State
from ablations.runner.store import Store
from ablations.studies import load_study

FILE = str(Path(__file__).parent / "counting_study.py")


def test_a_silent_minute_is_broken(tmp_path, monkeypatch, capsys):
    study, store = load_study(FILE), Store(tmp_path / "store")
    cells = plan_cells(study, "smoke", study.setting("smoke"), [0], ["few", "many"])
    lines = Lines(Clock(tmp_path, store, Costs.of(store, "smoke"), 1))
    states = [State(cells[0], "running"), State(cells[1], "waiting")]
    lines.show(states)
    assert "few-s0: running" in capsys.readouterr().out
    lines.show(states)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr("ablations.runner.live.SILENT_SECONDS", -1.0)
    lines.show(states)
    assert "0 of 2 cells, 0%, about " in capsys.readouterr().out
    lines.show([State(cell, "done") for cell in cells])
    assert "of 2 cells" not in capsys.readouterr().out.splitlines()[-1]
