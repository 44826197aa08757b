"""The regression check: its parts are exact, it agrees with the record, and planted faults are caught by it."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.regression import recipe, record, squares

ELSEWHERE = {"torch": "another"}
FIRST_STEPS = 20


def test_the_vae_returns_the_pictures_exactly(tmp_path):
    from benchmarks.regression.components import write_vae
    from lightgen.model.encoders import ImageTokenizer

    tokenizer = ImageTokenizer.from_pretrained(write_vae(tmp_path / "vae"))
    pictures = [picture for _, picture in squares.dataset(12, seed=0)]
    decoded = tokenizer.decode(tokenizer.latents(tokenizer.moments(pictures), None))
    for original, returned in zip(pictures, decoded):
        np.testing.assert_array_equal(np.asarray(original), np.asarray(returned))


def test_the_judge_finds_what_was_drawn():
    for count in squares.NUMBERS:
        for color in squares.COLORS:
            line = squares.detections(squares.draw(count, color, random.Random(count)), "x.png")
            assert line["colors"]["square"] == [color] * count
            assert all(row[4] == 1 for row in line["detections"]["square"])


def test_geneval_scores_drawn_pictures_one_and_grey_ones_zero(tmp_path):
    from PIL import Image

    class Teacher:
        """Draws what the caption says."""

        blank = False

        def set_progress_bar_config(self, disable):
            pass

        def __call__(self, prompts, generator):
            kinds = {
                squares.caption(count, color): (count, color) for count in squares.NUMBERS for color in squares.COLORS
            }
            grey = Image.new("RGB", (16, 16), squares.BACKGROUND)
            drawn = [grey if self.blank else squares.draw(*kinds[prompt], random.Random(0)) for prompt in prompts]
            return type("Output", (), {"images": drawn})

    teacher = Teacher()
    recipe._generate(tmp_path / "good" / "images", teacher)
    assert recipe._geneval(tmp_path / "good" / "images") == {"overall": 1, "colors": 1, "counting": 1}
    teacher.blank = True
    recipe._generate(tmp_path / "blank" / "images", teacher)
    assert recipe._geneval(tmp_path / "blank" / "images")["overall"] == 0


def test_the_first_steps_agree_with_the_record(tmp_path):
    numbers = recipe.run(tmp_path, steps=FIRST_STEPS)
    assert numbers["step"][-1] == FIRST_STEPS
    assert record.differences(record.load(), numbers, ELSEWHERE) == []
    assert record.differences(record.load(), numbers) == []


def smaller_masks(monkeypatch):
    from lightgen.model import masking

    original = masking.mask_ratios
    monkeypatch.setattr(masking, "mask_ratios", lambda *arguments: 0.7 * original(*arguments))


def dropped_text(monkeypatch):
    import torch

    from lightgen.training import train as training

    original = training.draw

    def draw(*arguments, **options):
        draws = original(*arguments, **options)
        return replace(draws, text_dropped=torch.ones_like(draws.text_dropped))

    monkeypatch.setattr(training, "draw", draw)


def diffusion_schedule_off_by_one(monkeypatch):
    from lightgen.model import mar

    original = mar.add_noise

    def add_noise(clean, noise, timesteps, num_steps=1000):
        return original(clean, noise, (timesteps - 1).clamp(min=0), num_steps)

    monkeypatch.setattr(mar, "add_noise", add_noise)


def token_schedule_off_by_one(monkeypatch):
    from lightgen.model import sampling

    original = sampling.masked_counts

    def masked_counts(num_tokens, num_steps):
        counts = original(num_tokens, num_steps)
        return [counts[0], *(max(count - 1, 1) for count in counts[1:-1]), 0]

    monkeypatch.setattr(sampling, "masked_counts", masked_counts)


@pytest.mark.parametrize(
    ("fault", "shows_in"),
    [
        (smaller_masks, "loss"),
        (dropped_text, "loss"),
        (diffusion_schedule_off_by_one, "loss"),
        (token_schedule_off_by_one, "fixed_weights"),
    ],
)
def test_planted_faults_are_caught_even_where_only_tolerances_hold(fault, shows_in, monkeypatch, tmp_path):
    fault(monkeypatch)
    numbers = recipe.run(tmp_path, steps=FIRST_STEPS)
    found = record.differences(record.load(), numbers, ELSEWHERE)
    assert any(line.startswith(f"{shows_in}:") for line in found), found


@pytest.mark.slow
def test_the_whole_recipe_agrees_with_the_record(capsys):
    from benchmarks.regression.check import check

    assert check() == 0
    assert "agrees" in capsys.readouterr().out


def test_comparison_is_exact_at_home_and_tolerant_elsewhere():
    numbers = {"loss": [1.0] * 30, "fid": 2.0, "weights_sha256": "a", "geneval": {"overall": 0.8}}
    home = {"environment": {"torch": "this"}, "numbers": numbers}
    near = {**numbers, "loss": [1.0 + 1e-7] * 30, "weights_sha256": "b"}
    assert record.differences(home, numbers, {"torch": "this"}) == []
    exact = record.differences(home, near, {"torch": "this"})
    assert [line.split(":")[0] for line in exact] == ["loss", "weights_sha256"]
    assert record.differences(home, near, ELSEWHERE) == []
    far = {**numbers, "loss": [1.0] * 10 + [1.5] * 20, "geneval": {"overall": 0.1}}
    assert [line.split(":")[0] for line in record.differences(home, far, ELSEWHERE)] == ["loss", "geneval"]


def test_a_record_is_written_and_read_back(tmp_path):
    record.save({"loss": [1.0, 2.0], "fid": 3.0}, tmp_path / "record.json")
    loaded = record.load(tmp_path / "record.json")
    assert loaded["numbers"] == {"loss": [1.0, 2.0], "fid": 3.0}
    assert loaded["environment"] == record.environment()


def test_missing_damaged_and_foreign_records_are_refused(tmp_path):
    path = tmp_path / "record.json"
    with pytest.raises(FileNotFoundError, match="--record"):
        record.load(path)
    path.write_text("{torn")
    with pytest.raises(ValueError, match="damaged"):
        record.load(path)
    path.write_text(json.dumps({"schema": 99}))
    with pytest.raises(ValueError, match="schema 99"):
        record.load(path)
