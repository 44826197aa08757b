"""A score on the way: training goes on as if nobody had looked, and a run that goes on measures nothing twice."""

import json
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ablations.settings import SETTINGS
from lightgen.disk.config import override
from lightgen.training.config import LoopConfig, TrainConfig
from lightgen.training.evaluation import Evaluation, installed_evaluation
from lightgen.training.tracking import Tracking
from lightgen.training.train import train
from tests.lightgen import squares

ROOT = Path(__file__).parents[1]
ICONS = ROOT / "ablations" / "icons" / "components"
CONFIG = TrainConfig(samples_seen=96, batch_size=8, learning_rate=5e-3, warmup_steps=2, ema_decay=0.9)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    from geneval.prompts import prompt_suite

    tiny = squares.build(tmp_path_factory.mktemp("tiny"))
    tiny.prompts = tiny.latents.parent / "prompts.jsonl"
    asked = prompt_suite(["cup", "car"], num_prompts=2)
    tiny.prompts.write_text("".join(f"{prompt.line()}\n" for prompt in asked))
    return tiny


def _train(tiny, out, **more):
    parts = {"vae": tiny.vae, "text_encoder": tiny.text_encoder, "sampling": tiny.sampling, "device": "cpu"}
    return train(CONFIG, tiny.model, tiny.latents, out, **parts, **more)


def _rows(out):
    return [json.loads(line) for line in (out / "evaluations.jsonl").read_text().splitlines()]


def test_training_does_not_notice_that_it_is_measured(tiny, tmp_path):
    seen = []

    def measure(step, model):
        assert not model.training
        torch.manual_seed(7)
        total = sum(float(parameter.detach().sum()) for parameter in model.parameters())
        seen.append(step)
        return {"sum": total}

    _train(tiny, tmp_path / "plain")
    stops = iter([False] * 9 + [True] * 100)
    evaluation = Evaluation(function=measure, every=4)
    stopped = _train(
        tiny,
        tmp_path / "measured",
        evaluation=evaluation,
        stop=lambda: next(stops),
        loop=LoopConfig(save_every_seconds=0),
    )
    assert stopped["status"] == "stopped" and seen == [4, 8]
    done = _train(tiny, tmp_path / "measured", evaluation=evaluation)
    assert done["steps"] == 12 and seen == [4, 8]  # the last step's model is the result itself
    assert [row["step"] for row in _rows(tmp_path / "measured")] == [4, 8]
    ours, plain = (
        load_file(tmp_path / name / "model" / "diffusion_pytorch_model.safetensors") for name in ("measured", "plain")
    )
    assert ours.keys() == plain.keys() and all(torch.equal(ours[name], plain[name]) for name in ours)
    with pytest.raises(ValueError, match="at least 1"):
        Evaluation(function=measure, every=0)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """This project as pip leaves it: its entry points, as pyproject.toml declares them, where Python looks for them."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    folder = tmp_path / "site" / "lightgen_bench-0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: lightgen-bench\nVersion: 0\n")
    groups = (f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in names.items()) for group, names in declared.items())
    (folder / "entry_points.txt").write_text("\n".join(groups))
    monkeypatch.syspath_prepend(tmp_path / "site")
    return tmp_path / "site"


def command(tiny, out, *more):
    """`lightgen train` with a score by the embedded judge."""
    changes = [f"model.{name}={json.dumps(value)}" for name, value in vars(tiny.model).items()]
    changes += ["sampling.num_steps=4", "train.samples_seen=16", "train.batch_size=4", "flips=false"]
    asked = [f"detector={ICONS / 'detector'}", f"clip={ICONS / 'clip'}", f"prompts={tiny.prompts}"]
    words = [tiny.latents, "--out", out, "--vae", tiny.vae, "--text-encoder", tiny.text_encoder, "--device", "cpu"]
    return ["train", *words, "--log-every", 2, "--evaluate-every", 2, "--evaluate", *asked, *more, "--set", *changes]


@pytest.mark.slow
def test_geneval_scores_a_model_in_training(tiny, installed, tmp_path):
    """By the command, in two processes: one measures, and the other waits for it."""
    from tests.lightgen.test_processes import launch

    words = command(tiny, tmp_path / "run", *(["--track", "tensorboard"] if find_spec("tensorboard") else []))
    done = launch(2, *words, path=[installed])
    assert done.returncode == 0, done.stderr[-3000:]
    rows, num_prompts = _rows(tmp_path / "run"), len(tiny.prompts.read_text().splitlines())
    assert [row["step"] for row in rows] == [2] and rows[0]["geneval/images"] == num_prompts
    assert 0 <= rows[0]["geneval/overall_low"] <= rows[0]["geneval/overall"] <= rows[0]["geneval/overall_high"] <= 1
    if find_spec("tensorboard"):
        seen = scalars(tmp_path / "run" / "tensorboard")
        assert seen["geneval/overall"] == [(2, pytest.approx(rows[0]["geneval/overall"]))]
        assert [step for step, _ in seen["loss"]] == [2, 4]


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_a_tracked_run_that_goes_on_shows_each_step_once(tiny, tmp_path):
    pytest.importorskip("tensorboard")
    stops = iter([False] * 5 + [True] * 100)
    pace = {"track": "tensorboard", "log_every": 2, "save_every_seconds": 0}
    _train(tiny, tmp_path, loop=LoopConfig(**pace), stop=lambda: next(stops))
    _train(tiny, tmp_path, loop=LoopConfig(**pace))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert scalars(tmp_path / "tensorboard")["loss"] == [(row["step"], pytest.approx(row["loss"])) for row in rows]


def test_wandb_keeps_a_run_on_this_disk(tiny, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    _train(tiny, tmp_path, loop=LoopConfig(track="wandb", log_every=2))
    (kept,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert b"samples_per_second" in kept.read_bytes()


@pytest.mark.parametrize(
    ("kind", "told"), [("tensorboard", r"pip install 'lightgen-bench\[track\]'"), ("wandb", "pip install wandb")]
)
def test_a_tracker_that_is_not_installed_is_told_with_what_brings_it(kind, told, tmp_path, monkeypatch):
    monkeypatch.setattr(f"lightgen.training.tracking.is_{kind}_available", lambda: False)
    with pytest.raises(ImportError, match=told):
        Tracking(kind, tmp_path, 0)


def test_another_tracker_is_refused_with_those_that_work():
    """Trackio's folder is fixed for a process as it is imported, and a worker trains several models."""
    with pytest.raises(ValueError, match="'none', 'tensorboard', 'wandb'"):
        override(SETTINGS["smoke"], {"runtime.track": "trackio"})


def test_who_scores_is_what_this_installation_declares(tiny, installed, tmp_path):
    parts = {"vae": tiny.vae, "text_encoder": tiny.text_encoder, "sampling": tiny.sampling, "device": "cpu"}
    with pytest.raises(ValueError, match="unknown name detektor in --evaluate; valid names: detector, clip"):
        installed_evaluation("geneval", asked={"detektor": "x"}, **parts)
    with pytest.raises(ValueError, match="lacks detector"):
        installed_evaluation("geneval", asked={}, **parts)
    (installed / "lightgen_bench-0.dist-info" / "entry_points.txt").unlink()
    other = installed / "other-1.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1\n")
    (other / "entry_points.txt").write_text("[lightgen.evaluations]\ngeneval = os:getcwd\n")
    with pytest.raises(ValueError, match="pip install -e"):
        installed_evaluation("geneval", asked={}, **parts)
