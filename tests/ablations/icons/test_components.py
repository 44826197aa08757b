"""The committed components do what their quality.json says, through the adapters that load full-size ones."""

import json

import numpy as np
import pytest
from PIL import Image

from ablations.icons.build import COMPONENTS
from ablations.icons.build.clip import crop_of
from ablations.icons.build.measure import asked_pictures, restored, verdicts
from ablations.icons.build.pictures import random_drawings
from ablations.icons.build.text import captions, probe
from ablations.icons.glyphs import COLORS
from ablations.icons.world import TASKS, WORLDS
from geneval.color import ColorClassifier

PICTURES = 96


@pytest.fixture(scope="module")
def asked():
    return asked_pictures(WORLDS["components"], PICTURES, seed=9)


@pytest.mark.parametrize("part", ["vae", "text", "clip", "detector"])
def test_every_component_names_its_script_seed_and_quality(part: str) -> None:
    quality = json.loads((COMPONENTS / part / "quality.json").read_text())
    assert quality["command"].startswith(f"python -m ablations.icons build {part}")
    assert {"seed", "steps", "parameters", "train_seconds"} <= set(quality)
    assert list((COMPONENTS / part).glob("*.safetensors"))


def test_the_judge_accepts_what_the_teacher_drew_and_nothing_else(asked) -> None:
    requests, pixels = asked
    right = verdicts(requests, pixels, COMPONENTS)
    others = requests[len(TASKS) :] + requests[: len(TASKS)]
    different = [one["prompt"] != other["prompt"] for one, other in zip(requests, others)]
    wrong = np.array(verdicts(others, pixels, COMPONENTS))[different]
    assert np.mean(right) >= 0.98
    assert np.mean(wrong) <= 0.02
    assert np.mean(np.array(verdicts(requests, restored(pixels, COMPONENTS), COMPONENTS)) == np.array(right)) >= 0.97


def test_noise_and_empty_backgrounds_hold_no_object(asked) -> None:
    requests, pixels = asked
    noise = np.random.default_rng(0).integers(0, 256, pixels.shape, dtype=np.uint8)
    empty = np.full_like(pixels, 160)
    assert not any(verdicts(requests, noise, COMPONENTS))
    assert not any(verdicts(requests, empty, COMPONENTS))


def test_frozen_text_features_tell_object_color_count_and_relation() -> None:
    from transformers import AutoTokenizer, T5EncoderModel

    encoder = T5EncoderModel.from_pretrained(COMPONENTS / "text").eval()
    tokenizer = AutoTokenizer.from_pretrained(COMPONENTS / "text")
    assert min(probe(encoder, tokenizer, seed=3).values()) >= 0.99
    assert all(
        held.text not in {c.text for c in captions(4, 300, held_out=False)} for held in captions(4, 300, held_out=True)
    )
    assert tokenizer("Ein Bild: 100 % \u00e9toile \U0001f680").input_ids[-1] == tokenizer.eos_token_id


def test_the_color_classifier_reads_all_ten_colors() -> None:
    """Of masked objects in pictures that it was not trained on, as the scorer asks it."""
    world, crops, names = WORLDS["components"], [], []
    for scene, drawing in random_drawings(world, 120, seed=9):
        for item, mask in zip(scene.objects, drawing.masks):
            if mask.sum() >= 40:  # pixels
                crops.append(Image.fromarray(crop_of(drawing.pixels, mask, world.height)))
                names.append((item.name, item.color))
    assert {color for _, color in names} == set(COLORS) and len(names) > 200
    answers = ColorClassifier.from_pretrained(COMPONENTS / "clip").classify(crops, [name for name, _ in names])
    assert np.mean([answer == color for answer, (_, color) in zip(answers, names)]) >= 0.99
