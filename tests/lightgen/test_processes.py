"""Several processes on one machine train as one does: every draw comes from the pair, not from the process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from lightgen.preference.pairs import Pair, write_pairs
from lightgen.training.config import TrainConfig
from lightgen.training.journal import read_journal
from lightgen.training.train import train
from tests.lightgen import squares

SETTINGS = ("steps=4", "batch_size=6", "noise_draws=2", "learning_rate=1e-3", "beta=50", "measured_pairs=4")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    tiny = squares.build(folder / "tiny")
    config = TrainConfig(samples_seen=320, batch_size=32, learning_rate=5e-3, warmup_steps=5, ema_decay=0.9)
    components = {"vae": tiny.vae, "text_encoder": tiny.text_encoder, "sampling": tiny.sampling}
    train(config, tiny.model, tiny.latents, folder / "run", **components)
    return folder / "run/model"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    listed = []
    for number in range(9):
        names = {}
        for which, color in (("chosen", (20 * number, 0, 200)), ("rejected", (0, 20 * number, 90))):
            names[which] = folder / f"{number}-{which}.png"
            Image.new("RGB", (16, 16), color).save(names[which])
        listed.append(Pair(prompt="a red square", **names))
    return write_pairs(listed, folder / "pairs.jsonl")


def launch(processes: int, *words, path=()) -> subprocess.CompletedProcess:
    launcher = ["accelerate.commands.launch", "--cpu", "--num_processes", str(processes), "--num_machines", "1"]
    # Port 0: a free one, as other tests and users of the machine may run at the same time.
    launcher += ["--main_process_port", "0"]
    quiet = ["--mixed_precision", "no", "--dynamo_backend", "no", "--num_cpu_threads_per_process", "1"]
    launched = [*launcher, *quiet, "--module"] if processes > 1 else []
    command = [sys.executable, "-m", *launched, "lightgen", *map(str, words)]
    given = os.environ.get("PYTHONPATH")
    paths = os.pathsep.join(map(str, [*path, Path(__file__).parents[2], *([given] if given else [])]))
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)


@pytest.mark.slow
def test_two_processes_prefer_as_one_does(base, pairs, tmp_path):
    for processes in (1, 2):
        words = ["dpo", base, "--pairs", pairs, "--out", tmp_path / str(processes)]
        done = launch(processes, *words, "--log-every", 1, "--set", *SETTINGS)
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (load_file(tmp_path / f"{n}/model/diffusion_pytorch_model.safetensors") for n in (1, 2))
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=2e-4)
    rows = [read_journal(tmp_path / f"{n}/metrics.jsonl") for n in (1, 2)]
    for name in ("loss", "winner_drift", "grad_norm"):
        assert [row[name] for row in rows[1]] == pytest.approx([row[name] for row in rows[0]], rel=1e-2, abs=1e-4)
    drifts = [json.loads((tmp_path / f"{n}/training.json").read_text())["result"]["drift"] for n in (1, 2)]
    assert drifts[1]["winner"] == pytest.approx(drifts[0]["winner"], abs=1e-4)
