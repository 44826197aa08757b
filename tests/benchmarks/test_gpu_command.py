"""`python -m benchmarks gpu`: order, records, failures that are named; and what fits, by arithmetic."""

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import measurement
from benchmarks.gpu.batch import BYTES_PER_PARAMETER, SPARE, activations, fitting_batch, num_parameters
from benchmarks.gpu.config import PARTS, GpuConfig
from benchmarks.gpu.job import TINY, Job
from benchmarks.gpu.training import time_training
from lightgen.presets import PRESETS
from lightgen.training.config import LoopConfig


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="unknown part 'speed'; valid: environment, tests, training"):
        GpuConfig(parts=("speed",))
    with pytest.raises(ValueError, match="minutes is 0"):
        GpuConfig(minutes=0)


def test_parts_come_in_order_and_a_failing_one_is_named(tmp_path, monkeypatch):
    """Parts are other programs here: one ends well, one fails and says why, one is killed by the system."""
    program = tmp_path / "part.py"
    program.write_text(
        "import json, sys, os\n"
        "name, path = sys.argv[1:3]\n"
        "os.makedirs(os.path.dirname(path), exist_ok=True)\n"
        "json.dump({'failed': 'OutOfMemoryError: none left'} if name == 'training' else {}, open(path, 'w'))\n"
        "os.abort() if name == 'sampling' else sys.exit(name == 'training')\n"
    )
    popen = measurement.subprocess.Popen

    def started(words):
        return popen([sys.executable, str(program), *words[3:]], stderr=measurement.subprocess.DEVNULL)

    monkeypatch.setattr(measurement.subprocess, "Popen", started)
    parts = ("sampling", "training", "environment")
    assert measurement.measure(GpuConfig(out=tmp_path / "out", device="cpu", parts=parts, minutes=8)) == 1
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["device"] == "cpu" and list(summary["parts"]) == ["environment", "training", "sampling"]
    assert summary["parts"]["environment"] == "done"
    assert summary["parts"]["training"] == "failed: OutOfMemoryError: none left"
    assert summary["parts"]["sampling"] == "failed: exit code -6"


def test_what_time_does_not_suffice_for_is_named(tmp_path):
    assert measurement.measure(GpuConfig(out=tmp_path, device="cpu", minutes=0.01)) == 0
    assert set(json.loads((tmp_path / "summary.json").read_text())["parts"].values()) == {"no time left"}


def test_every_part_has_a_program():
    from benchmarks.gpu.part import RUN

    assert list(RUN) == list(PARTS)


def test_a_batch_fits_by_its_bytes():
    by_image = activations(TINY)
    assert 0 < by_image.checkpointed < by_image.plain
    weights = BYTES_PER_PARAMETER * num_parameters(TINY)
    assert fitting_batch(TINY, (weights + 10.5 * by_image.plain) / SPARE) == 10
    assert fitting_batch(TINY, (weights + 10.5 * by_image.checkpointed) / SPARE, checkpoint=True) == 10
    assert fitting_batch(TINY, weights) == 0


@pytest.mark.slow
def test_the_stated_batches_of_the_released_model():
    model = PRESETS["released"].model
    assert [fitting_batch(model, gigabytes * 1e9) for gigabytes in (80, 141)] == [52, 105]


def test_training_is_timed_at_half_the_batch_where_memory_does_not_suffice(tmp_path, monkeypatch):
    from benchmarks.gpu import training

    sizes = []

    def timed(job, config, pace, batch):
        sizes.append(batch)
        if batch > 1:
            raise torch.OutOfMemoryError("none left")
        return {"batch": batch}

    monkeypatch.setattr(training, "_timed", timed)
    job = Job("training", Path(tmp_path / "training.json"), torch.device("cpu"), "tiny", 60)
    assert time_training(job, TINY, LoopConfig()) == {"batch": 1} and sizes == [4, 2, 1]
    job.add("said", {"rate": 1})
    assert json.loads((tmp_path / "training.json").read_text())["rows"] == [{"rate": 1}]
