"""A score on the way: training goes on as if nobody had looked, and a run that goes on measures nothing twice."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lightgen.training.config import LoopConfig, TrainConfig
from lightgen.training.evaluation import Evaluation
from lightgen.training.train import train
from tests.lightgen import squares

ICONS = Path(__file__).parents[1] / "ablations" / "icons" / "components"
CONFIG = TrainConfig(samples_seen=96, batch_size=8, learning_rate=5e-3, warmup_steps=2, ema_decay=0.9)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return squares.build(tmp_path_factory.mktemp("tiny"))


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


@pytest.mark.slow
def test_geneval_scores_a_model_in_training(tiny, tmp_path):
    from ablations.train import scorer
    from geneval.judge import Judge
    from geneval.metric import GenEval
    from geneval.prompts import prompt_suite

    judge = Judge.from_pretrained(ICONS / "detector", ICONS / "clip", device="cpu")
    prompts = prompt_suite(["cup", "car"], num_prompts=1)
    score = scorer(GenEval(judge), prompts, 2, tiny.vae, tiny.text_encoder, tiny.sampling)
    _train(tiny, tmp_path / "run", evaluation=Evaluation(function=score, every=8))
    (row,) = _rows(tmp_path / "run")
    assert row["step"] == 8 and row["geneval/images"] == 2 * len(prompts)
    assert 0 <= row["geneval/overall_low"] <= row["geneval/overall"] <= row["geneval/overall_high"] <= 1
