import dataclasses
import json
import signal
import sys

import pytest
import torch
from PIL import Image

from lightgen.__main__ import main
from lightgen.model.folder import load_pipeline
from lightgen.model.mar import MAR
from lightgen.presets import PREFERENCES, PRESETS, SWITCHES, preset, switched
from lightgen.training.journal import read_journal
from tests.lightgen import squares

SMALL = [
    *(f"model.{name}={json.dumps(value)}" for name, value in dataclasses.asdict(squares.MODEL).items()),
    *("train.samples_seen=64", "train.batch_size=8", "train.warmup_steps=2"),
    *("sampling.num_steps=2", "sampling.num_head_steps=2"),
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return squares.build(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def handlers():
    """Commands set signal handlers; give the test process its own back."""
    names = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    before = {name: signal.getsignal(name) for name in names}
    yield
    for name, handler in before.items():
        signal.signal(name, handler)


@pytest.fixture
def run(monkeypatch, capsys):
    """Run one command; (exit code, standard output, standard error)."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["lightgen", *map(str, words)])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return call


def test_the_verbs_follow_each_other_from_captions_to_images(tiny, run, tmp_path):
    (tmp_path / "captions.txt").write_text("a red square\na big green square\n")
    encoders = ["--vae", tiny.vae, "--text-encoder", tiny.text_encoder]
    words = ["--teacher", tiny.dataset, "--copies", 6, "--device", "cpu"]
    code, out, err = run("distill", tmp_path / "captions.txt", "--out", tmp_path / "set", *words)
    assert code == 0 and "12 images" in out, err

    words = [*encoders, "--max-length", 12, "--device", "cpu"]
    code, out, err = run("prepare", tmp_path / "set", "--out", tmp_path / "latents", *words)
    assert code == 0 and "12 num_samples, 2 num_captions" in out, err

    words = [*encoders, "--log-every", 4, "--json", "--set", *SMALL]
    code, out, err = run("train", tmp_path / "latents", "--out", tmp_path / "run", *words)
    assert code == 0 and json.loads(out)["status"] == "complete", err
    assert "step 8 of 8" in err
    assert [row["step"] for row in read_journal(tmp_path / "run/metrics.jsonl")] == [4, 8]
    model = tmp_path / "run/model"

    words = [tmp_path / "set", "--model", model, "--limit", 4, "--device", "cpu"]
    code, out, err = run("pairs", "teacher", *words, "--out", tmp_path / "pairs")
    assert code == 0 and "4 pairs" in out, err

    words = [
        "--out",
        tmp_path / "dpo",
        "--device",
        "cpu",
        "--json",
        "--set",
        "steps=2",
        "batch_size=2",
        "noise_draws=1",
    ]
    code, out, err = run("dpo", model, "--pairs", tmp_path / "pairs/pairs.jsonl", *words)
    assert code == 0 and json.loads(out)["steps"] == 2, err

    words = ["--out", tmp_path / "two", "--policies", 2, "--json", "--set", "steps=2", "batch_size=2", "noise_draws=1"]
    code, out, err = run("dpo", model, "--pairs", tmp_path / "pairs/pairs.jsonl", *words)
    assert code == 0 and json.loads(out)["samples"] == 8 and (tmp_path / "two/policy_1/model").is_dir(), err

    words = ["--prompt", "a red square", "--copies", 3, "--device", "cpu"]
    code, out, err = run("generate", tmp_path / "dpo/model", "--out", tmp_path / "images", *words)
    assert code == 0 and "3 images" in out, err
    listed = json.loads((tmp_path / "images/images.json").read_text())
    assert [entry["file"] for entry in listed] == ["00000-0.png", "00000-1.png", "00000-2.png"]
    again = load_pipeline(tmp_path / "dpo/model")
    again.set_progress_bar_config(disable=True)
    image = again("a red square", generator=torch.Generator().manual_seed(listed[1]["seed"])).images[0]
    with Image.open(tmp_path / "images/00000-1.png") as saved:
        assert saved.tobytes() == image.tobytes()

    code, out, err = run("export", tmp_path / "dpo/model", "--out", tmp_path / "pipeline")
    assert code == 0 and "pipeline in" in out, err
    words = ["--prompt", "a red square", "--copies", 3, "--device", "cpu", "--json"]
    code, out, err = run("generate", tmp_path / "pipeline", "--out", tmp_path / "exported", *words)
    assert code == 0 and json.loads(out)["images"] == 3, err
    for entry in listed:
        first, second = (tmp_path / folder / entry["file"] for folder in ("images", "exported"))
        assert first.read_bytes() == second.read_bytes()
    words = ["--teacher", tmp_path / "dpo/model", "--device", "cpu"]
    code, out, err = run("distill", tmp_path / "captions.txt", "--out", tmp_path / "own", *words)
    assert code == 0 and "2 images" in out, err


def test_verifier_s_pairs_come_from_a_results_file(run, tmp_path):
    rows = []
    for name, color, correct in (("a", 10, True), ("b", 99, False)):
        Image.new("RGB", (8, 8), (color, 0, 0)).save(tmp_path / f"{name}.png")
        rows.append({"filename": f"{name}.png", "prompt": "x", "tag": "colors", "correct": correct})
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, err = run("pairs", "verifier", tmp_path / "results.jsonl", "--out", tmp_path / "out")
    assert code == 0 and "1 pairs" in out, err
    code, out, err = run("pairs", "check", tmp_path / "out/pairs.jsonl", "--out", tmp_path / "checked")
    assert code == 0 and "1 pairs" in out, err


def test_the_benchmark_s_prompts_give_no_pairs(run, tmp_path):
    rows = []
    for prompt in "xy":
        for name, color, score in (("a", 10, 1.0), ("b", 99, 0.25)):
            Image.new("RGB", (8, 8), (color, ord(prompt), 0)).save(tmp_path / f"{prompt}{name}.png")
            rows.append({"filename": f"{prompt}{name}.png", "prompt": prompt, "tag": "colors", "score": score})
    (tmp_path / "grades.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "benchmark.txt").write_text("x\nz\n")
    words = [tmp_path / "grades.jsonl", "--exclude", tmp_path / "benchmark.txt", "--out", tmp_path / "out"]
    code, out, err = run("pairs", "verifier", *words)
    assert code == 0 and "1 pairs" in out and "1 of 2 prompts are excluded" in err
    assert json.loads((tmp_path / "out/pairs.jsonl").read_text())["scores"] == [1.0, 0.25]


def test_pairs_of_damaged_detail_wrong_layout_and_a_coin(tiny, run, tmp_path):
    words = [tiny.dataset, "--limit", 6, "--vae", tiny.vae, "--damages", "blur", "vae", "--device", "cpu"]
    code, out, err = run("pairs", "detail", *words, "--out", tmp_path / "detail")
    assert code == 0 and "6 pairs" in out, err
    words = [tiny.dataset, "--against", tiny.dataset, "--limit", 4]
    code, out, err = run("pairs", "layout", *words, "--out", tmp_path / "layout")
    assert code == 0 and "4 pairs" in out, err
    words = [tmp_path / "detail/pairs.jsonl", "--seed", 1]
    code, out, err = run("pairs", "random", *words, "--out", tmp_path / "random")
    assert code == 0 and "6 pairs" in out, err
    rows = [json.loads(line) for line in (tmp_path / "random/pairs.jsonl").read_text().splitlines()]
    assert sum("chosen" in row["rejected"] for row in rows) == 3
    code, _, err = run("pairs", "layout", tiny.dataset, "--out", tmp_path / "x")
    assert code == 2 and "--against" in err
    code, _, err = run("pairs", "layout", tiny.dataset, "--vae", tiny.vae, "--out", tmp_path / "x")
    assert code == 2 and "--vae" in err, "an option of another source"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["train", "none", "--preset", "huge"], "unknown preset 'huge'; valid: tiny, small"),
        (["train", "none", "--set", "train.lr=1"], "unknown name lr"),
        (["train", "none", "--set", "train.steps"], "not NAME=VALUE"),
        (["train", "none"], "no finished latent cache"),
    ],
)
def test_mistakes_are_one_line(tiny, run, tmp_path, words, reason):
    code, _, err = run(*words, "--out", tmp_path, "--vae", tiny.vae, "--text-encoder", tiny.text_encoder)
    assert code == 2 and err.startswith("error: ") and reason in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("device", "reason"),
    [("gpu", "valid: auto, cpu, cuda, cuda:N, mps"), ("mps", "not there"), ("cuda:99", "not there")],
)
def test_a_device_that_is_not_there_is_refused(tiny, run, tmp_path, device, reason):
    encoders = ["--vae", tiny.vae, "--text-encoder", tiny.text_encoder, "--device", device]
    for words in (["prepare", tiny.dataset], ["train", tiny.latents]):
        code, _, err = run(*words, "--out", tmp_path / "out", *encoders)
        assert code == 2 and reason in err and err.count("\n") == 1


def test_a_signal_saves_and_exits_as_resumable(tiny, run, tmp_path, monkeypatch):
    words = ["train", tiny.latents, "--out", tmp_path, "--vae", tiny.vae, "--text-encoder", tiny.text_encoder]
    monkeypatch.setattr("lightgen.training.loop.agreed", _interrupt_once())
    code, out, _ = run(*words, "--json", "--set", *SMALL)
    assert code == 75 and json.loads(out)["status"] == "stopped"
    code, out, _ = run(*words, "--json", "--save-every-seconds", 5, "--log-every", 2, "--set", *SMALL)
    assert code == 0 and json.loads(out) | {"seconds": 0} == json.loads(out) | {"seconds": 0, "steps": 8}


def _interrupt_once():
    """The real question, with a SIGTERM sent to this process before the fourth time it is asked."""
    from lightgen.training.processes import agreed

    asked = []

    def ask(accelerator, *flags):
        asked.append(flags)
        if len(asked) == 4:
            signal.raise_signal(signal.SIGTERM)
        return agreed(accelerator, *flags)

    return ask


def test_released_and_corrected_set_every_switch(tiny, run, tmp_path):
    for way in ("released", "corrected"):
        for switch in SWITCHES:
            value: object = PRESETS[way]
            for name in switch.entry.split("."):
                value = getattr(value, name)
            assert value == getattr(switch, way), (way, switch.entry)
            assert switch.released != switch.corrected and switch.effect and ":" in switch.place
    assert PRESETS["released"].training.learning_rate == pytest.approx(8e-4)
    assert PRESETS["corrected"].training.learning_rate == pytest.approx(1e-4)
    assert switched(PRESETS["tiny"], "released").training.learning_rate == pytest.approx(1e-3 * 128 / 256)
    assert preset("corrected").model.width == preset("released").model.width


def test_the_switches_run_by_name_from_preparation_to_training(tiny, run, tmp_path):
    encoders = ["--vae", tiny.vae, "--text-encoder", tiny.text_encoder]
    words = [*encoders, "--preset", "released", "--max-length", 12, "--device", "cpu", "--dtype", "bfloat16"]
    code, _, err = run("prepare", tiny.dataset, "--out", tmp_path / "latents", *words)
    assert code == 0, err
    index = json.loads((tmp_path / "latents/index.json").read_text())
    assert index["flips"] and index["keep_padding"] and index["dtype"] == "bfloat16"
    quirks = ("model.normalized_residual", "model.attend_to_padding")
    sizes = [word for word in SMALL if not word.startswith(quirks)]
    words = [tmp_path / "latents", *encoders, "--switches", "released", "--set", *sizes]
    code, _, err = run("train", *words, "--out", tmp_path / "run")
    assert code == 0, err
    record = json.loads((tmp_path / "run/training.json").read_text())
    assert record["weights"] == "raw" and record["train"]["beta2"] == 0.95
    assert record["train"]["learning_rate"] == pytest.approx(1e-3 * 8 / 256)
    assert record["model"]["normalized_residual"] and record["model"]["attend_to_padding"]
    code, _, err = run("train", tmp_path / "latents", *encoders, "--out", tmp_path / "other", "--set", *sizes)
    assert code == 2 and "without flips" in err
    code, _, err = run("train", tiny.latents, *words[1:], "--out", tmp_path / "other")
    assert code == 2 and "with flips" in err


def test_every_preset_is_a_model_that_can_be_built():
    for name, row in PRESETS.items():
        with torch.device("meta"):
            model = MAR(row.model)
        assert row.train.steps > 0, name
        if name in ("released", "corrected"):
            assert round(model.num_parameters() / 1e6, 1) == 792.2
        if name == "tiny":
            assert 0.5e6 < model.num_parameters() < 2e6
    assert PREFERENCES["paper"].beta == 5000 and PREFERENCES["paper"].learning_rate == 1e-8
    with pytest.raises(ValueError, match="valid: tiny"):
        preset("none")
