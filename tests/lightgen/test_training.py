import dataclasses
import functools
import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from lightgen.data.latents import LatentDataset
from lightgen.model.folder import load_pipeline, load_transformer, model_identity, read_lineage
from lightgen.training.config import LoopConfig, TrainConfig
from lightgen.training.journal import Journal, read_journal
from lightgen.training.optimization import Average, learning_rate_at, make_optimizer
from lightgen.training.order import order
from lightgen.training.state import load_state, save_state
from lightgen.training.train import train
from tests.lightgen import squares


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return squares.build(tmp_path_factory.mktemp("tiny"))


CONFIG = TrainConfig(
    samples_seen=30 * 8,
    batch_size=8,
    learning_rate=3e-3,
    warmup_steps=5,
    ema_decay=0.9,
    seed=3,
)


LOOP = LoopConfig(log_every=4, save_every_seconds=0.0)


def run(tiny, out, config=CONFIG, loop=LOOP, **options):
    components = {"vae": tiny.vae, "text_encoder": tiny.text_encoder, "sampling": tiny.sampling}
    return train(config, tiny.model, tiny.latents, out, **components, loop=loop, **options)


def weights(folder):
    return load_file(folder / "model/diffusion_pytorch_model.safetensors")


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def losses(folder):
    return [(row["step"], row["loss"], row["grad_norm"]) for row in read_journal(folder / "metrics.jsonl")]


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """A run that was never interrupted, and its result."""
    out = tmp_path_factory.mktemp("whole")
    return out, run(tiny, out)


def test_operations_are_counted_alike_whatever_the_seed(tiny, whole, tmp_path):
    other = run(tiny, tmp_path / "run", dataclasses.replace(CONFIG, seed=4))
    assert other["flops"] == whole[1]["flops"]


def test_a_run_writes_a_model_metrics_and_its_result(tiny, whole):
    out, result = whole
    assert result["status"] == "complete" and result["steps"] == 30 and result["samples"] == 240
    assert result["flops"] > 0
    rows = read_journal(out / "metrics.jsonl")
    assert [row["step"] for row in rows] == [4, 8, 12, 16, 20, 24, 28, 30]
    assert set(rows[0]) == {
        "step", "samples", "loss", "mse", "lr", "grad_norm", "seconds", "samples_per_second",
    }  # fmt: skip
    assert rows[-1]["loss"] < rows[0]["loss"]
    pipeline = load_pipeline(out / "model")
    assert pipeline.sampling == tiny.sampling
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline("a red square", generator=torch.Generator().manual_seed(0)).images[0].size == (16, 16)
    assert json.loads((out / "training.json").read_text())["train"]["seed"] == 3


def test_the_same_call_again_returns_the_finished_result(tiny, whole):
    out, result = whole
    before = (out / "metrics.jsonl").stat().st_mtime_ns
    assert run(tiny, out) == result
    assert (out / "metrics.jsonl").stat().st_mtime_ns == before


def test_a_part_of_the_cache_is_learned_from_and_a_mapped_one_gives_the_same_weights(tiny, tmp_path, monkeypatch):
    short = dataclasses.replace(CONFIG, samples_seen=80)
    first = run(tiny, tmp_path / "a", short, ids=[3, 8, 1, 30])
    assert first["steps"] == 10
    assert first == run(tiny, tmp_path / "a", short, ids=[3, 8, 1, 30])
    with pytest.raises(ValueError, match="other"):
        run(tiny, tmp_path / "a", short, ids=[3, 8, 1, 31])
    monkeypatch.setattr("lightgen.training.train.LatentDataset", functools.partial(LatentDataset, ram_limit=0))
    run(tiny, tmp_path / "b", short, ids=[3, 8, 1, 30])
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))


def test_the_caller_s_random_state_is_left_alone(tiny, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run(tiny, tmp_path, dataclasses.replace(CONFIG, samples_seen=8))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("every", [1, 7])
def test_a_run_stopped_again_and_again_ends_in_the_same_weights(tiny, whole, tmp_path, every):
    calls = 0

    def stop():
        nonlocal calls
        calls += 1
        return calls % (every + 1) == 0

    statuses = []
    while not statuses or statuses[-1] == "stopped":
        statuses.append(run(tiny, tmp_path, stop=stop)["status"])
    assert len(statuses) > 30 // (every + 1)
    assert same(weights(tmp_path), weights(whole[0]))
    assert losses(tmp_path) == losses(whole[0])


def test_a_resumed_run_may_log_and_save_at_another_pace(tiny, whole, tmp_path):
    """The same weights come out, and the rows after the stop follow the new pace."""
    asked = []

    def stop():
        asked.append(len(asked))
        return len(asked) == 11

    assert run(tiny, tmp_path, stop=stop)["status"] == "stopped"
    assert run(tiny, tmp_path, loop=LoopConfig(log_every=10, save_every_seconds=100.0))["status"] == "complete"
    assert same(weights(tmp_path), weights(whole[0]))
    assert [row["step"] for row in read_journal(tmp_path / "metrics.jsonl")] == [4, 8, 20, 30]
    record = json.loads((tmp_path / "training.json").read_text())
    assert set(record) == {"train", "model", "latents", "weights", "start", "result", "seal"}
    assert not {"log_every", "save_every_seconds", "compile"} & set(record["train"])
    with pytest.raises(ValueError, match="log_every is 0"):
        LoopConfig(log_every=0)


KILLED_AGAIN_AND_AGAIN = """
import json, os, signal, sys, time
from pathlib import Path
from lightgen.disk.config import from_dict
from lightgen.model.config import MARConfig, SamplingConfig
from lightgen.training.config import LoopConfig, TrainConfig
from lightgen.training.train import train

given = json.loads(sys.argv[1])
paths = {name: Path(given[name]) for name in ("latents", "out", "vae", "text_encoder")}
pointer = paths["out"] / "resume/latest.json"
saved = lambda: json.loads(pointer.read_text())["step"] if pointer.is_file() else 0

for step, delay in ((1, 0.0), (6, 0.002), (7, 0.004), (13, 0.001), (20, 0.003)):
    child = os.fork()
    if child == 0:
        train(from_dict(TrainConfig, given["train"]), from_dict(MARConfig, given["model"]), **paths,
              sampling=from_dict(SamplingConfig, given["sampling"]),
              loop=LoopConfig(log_every=4, save_every_seconds=0.0))
        os._exit(0)
    while saved() < step:
        time.sleep(0.0005)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    print(saved())
"""


def test_killing_the_process_at_any_moment_loses_nothing(tiny, whole, tmp_path):
    """One process after another is killed with SIGKILL while it saves after every step; the last one ends by itself."""
    given = {
        "train": dataclasses.asdict(CONFIG),
        "model": dataclasses.asdict(tiny.model),
        "sampling": dataclasses.asdict(tiny.sampling),
        "latents": str(tiny.latents),
        "out": str(tmp_path),
        "vae": str(tiny.vae),
        "text_encoder": str(tiny.text_encoder),
    }
    command = [sys.executable, "-c", KILLED_AGAIN_AND_AGAIN, json.dumps(given)]
    steps = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert len(steps) == 5 and int(steps[-1]) < 30
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 22, "lo')
    assert run(tiny, tmp_path)["status"] == "complete"
    assert same(weights(tmp_path), weights(whole[0]))
    assert losses(tmp_path) == losses(whole[0])


def test_raw_and_averaged_weights_differ(tiny, whole, tmp_path):
    run(tiny, tmp_path, weights="raw")
    assert not same(weights(tmp_path), weights(whole[0]))
    state = load_state(tmp_path / "resume")[1]
    assert same(weights(tmp_path), {name[6:]: value for name, value in state.items() if name.startswith("model.")})


def test_a_loss_that_is_not_finite_is_an_outcome(tiny, tmp_path):
    result = run(tiny, tmp_path, dataclasses.replace(CONFIG, learning_rate=1e30, clip_norm=1e30, warmup_steps=0))
    assert result["status"] == "diverged" and 0 < result["steps"] < 30
    assert all(value.isfinite().all() for value in load_state(tmp_path / "resume")[1].values())
    load_transformer(tmp_path / "model")
    assert json.loads((tmp_path / "training.json").read_text())["result"]["status"] == "diverged"


def test_training_can_start_from_a_model(tiny, whole, tmp_path):
    config = dataclasses.replace(CONFIG, samples_seen=8, learning_rate=1e-12)
    run(tiny, tmp_path, config, start=whole[0] / "model")
    started, given = weights(tmp_path), weights(whole[0])
    for name in given:
        torch.testing.assert_close(started[name], given[name])
    assert read_lineage(tmp_path / "model") == [model_identity(whole[0] / "model")]
    assert read_lineage(whole[0] / "model") == []


def test_what_does_not_fit_is_refused(tiny, whole, tmp_path):
    with pytest.raises(ValueError, match="other settings"):
        run(tiny, whole[0], dataclasses.replace(CONFIG, seed=4))
    with pytest.raises(ValueError, match="less than one batch"):
        dataclasses.replace(CONFIG, samples_seen=7)
    components = {"vae": tiny.vae, "text_encoder": tiny.text_encoder, "sampling": tiny.sampling}
    wrong = dataclasses.replace(tiny.model, text_channels=16)
    with pytest.raises(ValueError, match="8 text channels"):
        train(CONFIG, wrong, tiny.latents, tmp_path, **components)
    with pytest.raises(ValueError, match="--keep-padding"):
        train(CONFIG, dataclasses.replace(tiny.model, attend_to_padding=True), tiny.latents, tmp_path, **components)
    with pytest.raises(ValueError, match="not the vae encoder"):
        train(CONFIG, tiny.model, tiny.latents, tmp_path, **{**components, "vae": tiny.text_encoder})


def test_every_epoch_shows_every_sample_once_in_its_own_order():
    stream = torch.cat([order(1, position, 6, 10) for position in range(0, 30, 6)])
    epochs = stream.split(10)
    assert all(epoch.sort().values.tolist() == list(range(10)) for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])
    assert torch.equal(order(1, 7, 16, 10), stream[7:23])
    assert not torch.equal(order(2, 0, 10, 10), epochs[0])


def test_the_learning_rate_follows_its_formula():
    options = {"peak": 1.0, "warmup_steps": 4, "total_steps": 12}
    assert [learning_rate_at(step, **options) for step in (0, 3, 4, 11)] == [0.25, 1.0, 1.0, 1.0]
    assert learning_rate_at(8, **options, schedule="cosine") == pytest.approx(0.5)
    assert learning_rate_at(12, **options, schedule="cosine") == pytest.approx(0)


def test_the_average_follows_its_formula():
    value = torch.zeros(1)
    average = Average([value], decay=0.5, warmup=True)
    expected = 0.0
    for step, new in enumerate([1.0, 2.0, 3.0]):
        value.fill_(new)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * new
    assert average.values[0].item() == pytest.approx(expected)


def test_weight_decay_spares_biases_norms_and_the_head(tiny):
    from lightgen.model.mar import MAR

    model = MAR(tiny.model)
    optimizer = make_optimizer(model, learning_rate=1.0, weight_decay=0.1, betas=(0.9, 0.95))
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in decayed}
    assert "token_embed.weight" in names and "encoder_positions" in names
    assert not any(name.startswith("head.") or name.endswith(".bias") or "norm" in name for name in names)


def test_a_damaged_state_is_one_clear_error(tmp_path):
    save_state(tmp_path, 3, {"a": torch.ones(100)}, {"seconds": 1.0})
    step, tensors, record = load_state(tmp_path)
    assert step == 3 and tensors["a"].sum() == 100 and record == {"seconds": 1.0}
    path = tmp_path / "state_000000003.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(ValueError, match="truncated"):
        load_state(tmp_path)
    path.write_bytes(b"\xff" * len(data))
    with pytest.raises(ValueError, match="damaged"):
        load_state(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="missing"):
        load_state(tmp_path)


def test_a_journal_drops_its_torn_tail_and_later_rows(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    journal = Journal(path, last_step=2)
    journal.write({"step": 3, "loss": 0.5})
    journal.close()
    assert read_journal(path) == [{"step": 1}, {"step": 2}, {"step": 3, "loss": 0.5}]


def test_an_unfinished_cache_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="prepare"):
        LatentDataset(tmp_path)
