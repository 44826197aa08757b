"""What somebody tries on a first day: verbs with their own defaults after each other, other shapes, another teacher."""

import io
import json
import logging
import sys

import pytest

from lightgen.__main__ import main
from lightgen.console import row_lines
from lightgen.data.painters import DiffusersPainter
from lightgen.model.folder import load_pipeline, read_config
from tests.lightgen import squares

FEW = ("train.samples_seen=8", "train.batch_size=4", "train.warmup_steps=1", "model.width=16", "model.heads=2")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return squares.build(tmp_path_factory.mktemp("tiny"))


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


def test_prepare_and_train_agree_by_their_own_defaults(tiny, run, tmp_path):
    """Latents of 4 x 4, 2 channels, 4 px each, 8 text channels, 128 text positions: none of them the preset's."""
    encoders = ["--vae", tiny.vae, "--text-encoder", tiny.text_encoder, "--device", "cpu"]
    code, _, err = run("prepare", tiny.dataset, "--out", tmp_path / "latents", *encoders)
    assert code == 0, err
    code, _, err = run("train", tmp_path / "latents", "--out", tmp_path / "run", *encoders, "--set", *FEW)
    assert code == 0, err
    assert "from the latents: model.vae_channels=2 model.vae_stride=4 model.text_channels=8" in err
    card = (tmp_path / "run/model/README.md").read_text()
    latents = json.loads((tmp_path / "latents/index.json").read_text())["identity"]
    assert card.startswith("---\n") and "\nlicense: other\n" in card and latents in card and '"samples": 8' in card
    assert "## Limits" in card and "## License" in card and str(tmp_path) not in card
    assert run("export", tmp_path / "run/model", "--out", tmp_path / "pipeline")[0] == 0
    assert (tmp_path / "pipeline/README.md").read_text() == card
    config = read_config(tmp_path / "run/model")
    assert config.max_text_length == 128 and config.position_grid == 2


def test_pictures_are_as_large_as_those_of_the_training(tiny, run, tmp_path):
    encoders = ["--vae", tiny.vae, "--text-encoder", tiny.text_encoder, "--device", "cpu"]
    words = ["train", tiny.latents, "--out", tmp_path, *encoders, "--set", *FEW, "model.patch_size=1"]
    code, _, err = run(*words)
    assert code == 0 and read_config(tmp_path / "model").position_grid == 4, err
    pipeline = load_pipeline(tmp_path / "model")
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline("a red square").images[0].size == (16, 16)


def test_the_embedded_parts_have_a_name_from_any_folder(run, tmp_path, monkeypatch):
    """From pictures to a model and its picture without a path of the repository."""
    from ablations.icons.render import DatasetConfig, render_dataset

    monkeypatch.chdir(tmp_path)
    render_dataset(DatasetConfig(world="components", images=12, diversity="all", seed=0), tmp_path / "set")
    encoders = ["--vae", "icons", "--text-encoder", "icons", "--device", "cpu"]
    assert run("prepare", "set", "--out", "latents", *encoders)[0] == 0
    code, _, err = run("train", "latents", "--out", "run", *encoders, "--set", *FEW)
    assert code == 0, err
    assert (
        run("generate", "run/model", "--prompt", "a photo of four couches", "--out", "images", "--device", "cpu")[0]
        == 0
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("model.vae_channels=3", "--set model.vae_channels=2"),
        ("model.text_channels=4", "--set model.text_channels=8"),
        ("model.max_text_length=4", "--set model.max_text_length=12"),
        ("model.position_grid=3", "--set model.position_grid=2"),
        ("model.attend_to_padding=true", "--keep-padding, or give --set model.attend_to_padding=false"),
    ],
)
def test_what_is_asked_against_the_latents_is_refused_with_the_option_to_give(tiny, run, tmp_path, given, told):
    encoders = ["--vae", tiny.vae, "--text-encoder", tiny.text_encoder, "--device", "cpu"]
    code, _, err = run("train", tiny.latents, "--out", tmp_path, *encoders, "--set", *FEW, given)
    assert code == 2 and err.splitlines()[-1].startswith("error: ") and told in err, err


def test_another_call_of_the_teacher_is_refused(tiny, run, tmp_path):
    """Else the images of the first call would stay without a word."""
    encoders = ["--vae", tiny.vae, "--text-encoder", tiny.text_encoder, "--device", "cpu"]
    code, _, err = run("train", tiny.latents, "--out", tmp_path / "run", *encoders, "--set", *FEW)
    assert code == 0, err
    (tmp_path / "captions.txt").write_text("a red square\n")
    words = ["distill", tmp_path / "captions.txt", "--out", tmp_path / "set", "--teacher", tmp_path / "run/model"]
    words += ["--device", "cpu", "--call"]
    assert run(*words, "guidance_scale=1")[0] == 0
    code, _, err = run(*words, "guidance_scale=2")
    assert code == 2 and "call" in err, err
    assert run(*words, "guidance_scale=1")[0] == 0


class Cutting:
    """A pipeline that says of every caption that it was cut, as those of diffusers do."""

    def __call__(self, prompt, generator):
        for text in prompt:
            logging.getLogger("diffusers.pipelines.cutting").warning(f"cut: {text}")
        logging.getLogger("diffusers.pipelines.cutting").warning("another")
        return type("Output", (), {"images": list(prompt)})


def test_a_teacher_warns_once():
    heard = io.StringIO()
    handler = logging.StreamHandler(heard)
    library = logging.getLogger("diffusers")
    library.addHandler(handler)
    try:
        painter = DiffusersPainter(Cutting(), "cutting")
        for _ in range(3):
            painter(["a", "b"], [1, 2])
        logging.getLogger("diffusers").warning("from elsewhere")
        logging.getLogger("diffusers").warning("from elsewhere")
    finally:
        library.removeHandler(handler)
    assert heard.getvalue().splitlines() == ["cut: a", "another", "from elsewhere", "from elsewhere"]


def test_a_run_of_rare_rows_is_not_silent(tiny, tmp_path, monkeypatch, capsys):
    """Where no row is due for a while the step and the pace are told; metrics.jsonl has its rows alone."""
    from lightgen.training.config import LoopConfig, TrainConfig
    from lightgen.training.train import train

    monkeypatch.setattr("lightgen.training.loop.SILENT_SECONDS", 0.0)
    rows, paces = [], []
    parts = {"vae": tiny.vae, "text_encoder": tiny.text_encoder, "sampling": tiny.sampling, "device": "cpu"}
    config = TrainConfig(samples_seen=16, batch_size=4, warmup_steps=1)
    parts |= {"on_step": rows.append, "on_pace": paces.append}
    train(config, tiny.model, tiny.latents, tmp_path, loop=LoopConfig(log_every=4), **parts)
    assert [row["step"] for row in rows] == [4] and [row["step"] for row in paces] == [1, 2, 3]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
    row_lines(1)({"step": 1, "samples": 4, "seconds": 2.0, "samples_per_second": 2.0})
    assert capsys.readouterr().err == "step 1 of 1: 2 samples/s, 0 s left\n"
