"""Training that is looked at on its way, data sets that a model draws, and how near pictures are to trained ones."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ablations.recipes import copies, judged, judges, preferred, trained, watched
from ablations.runner.step import in_order
from ablations.runner.store import Store
from ablations.settings import SETTINGS
from ablations.steps import Distill, NearestPictures, Restore, TakePart
from lightgen.data.images import read_image
from lightgen.data.shards import read_shards
from lightgen.disk.config import override
from lightgen.model.folder import model_identity

SMOKE = SETTINGS["smoke"]
RUNTIME = replace(SMOKE.runtime, device="cpu")
BASE = trained(SMOKE, 0)
TRAINING = watched(BASE, SMOKE, 3)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    found = Store(tmp_path_factory.mktemp("store"))
    for step in in_order([BASE, TakePart(training=TRAINING), TakePart(training=TRAINING, part=3)]):
        found.make(step, RUNTIME)
    return found


def weights(store, step):
    return next((store.folder(step) / "model").rglob("*.safetensors")).read_bytes()


def test_looking_changes_nothing_of_what_is_trained(store):
    assert weights(store, TakePart(training=TRAINING, part=3)) == weights(store, BASE)
    assert weights(store, TakePart(training=TRAINING)) == weights(store, TakePart(training=TRAINING, part=3))


def test_the_best_part_is_the_one_that_knows_held_out_pictures_best(store):
    curve = json.loads((store.folder(TRAINING) / "curve.json").read_text())
    losses = curve["held_out_loss"]
    assert curve["samples"] == [6 * 32, 12 * 32, 20 * 32] and len(losses) == 3
    assert losses[2] < losses[0]  # a smoke run learns a little
    best = 1 + losses.index(min(losses))
    assert store.facts(TakePart(training=TRAINING)) == {"part": best, "parts": 3, "samples": curve["samples"][best - 1]}


def test_held_out_pictures_are_of_the_same_kind_and_not_trained_on():
    own, held = BASE.latents.dataset.config, TRAINING.held.dataset.config
    assert (held.diversity, held.draw, held.world) == (own.diversity, own.draw, own.world)
    assert held.seed != own.seed


def test_a_training_has_at_most_as_many_parts_as_steps():
    with pytest.raises(ValueError, match="have no 21 parts"):
        replace(TRAINING, snapshots=21)


def distilled(**changes):
    config = replace(BASE.latents.dataset.config, images=24)
    given = {"model": BASE, "config": config, "sampling": SMOKE.sampling, "judges": judges(SMOKE)}
    return Distill(**{**given, **changes})


def captions(folder):
    return [sample.record["prompt"] for sample in read_shards(folder / "dataset")]


def test_a_model_draws_the_captions_that_the_teacher_would_have(store):
    from ablations.icons.render import sample_captions

    step = distilled()
    store.make(step, RUNTIME)
    assert captions(store.folder(step)) == list(sample_captions(step.config))
    assert store.facts(step)["left_out"] == 0


def test_a_filter_keeps_what_is_judged_right_alone(store):
    from geneval.judge import Judge

    step = distilled(tries=3)
    try:
        store.make(step, RUNTIME)
    except ValueError as error:  # a smoke model may get nothing right
        assert "no samples to write" in str(error)
        return
    facts, samples = store.facts(step), list(read_shards(store.folder(step) / "dataset"))
    assert facts["images"] + facts["left_out"] == 24 and facts["images"] == len(samples)
    judge = Judge.from_pretrained(judges(SMOKE).detector.location, judges(SMOKE).clip.location)
    found = judge([sample.image for sample in samples], [sample.record["prompt"] for sample in samples])
    assert all(verdict.correct for verdict in found)


def test_a_set_s_own_pictures_are_copies_and_held_out_ones_are_not(store):
    held = replace(BASE.latents, dataset=SMOKE.data.set_aside(BASE.latents.dataset))
    pictures = judged(SMOKE, BASE)[0].images
    step = NearestPictures(images=pictures, latents=BASE.latents, held=held)
    for needed in in_order([step]):
        if not store.has(needed):
            store.make(needed, RUNTIME)
    metrics = store.facts(step)["metrics"]
    assert 0 <= metrics["copies/share"]["value"] <= 1 and metrics["copies/distance"]["value"] > 0
    assert copies(SMOKE, BASE, judged(SMOKE, BASE)[0]) == (step,)


def test_exact_pictures_after_the_autoencoder_are_near_to_themselves(store):
    drawn = SMOKE.data.drawn(SMOKE.benchmark, 0)
    restored = Restore(images=drawn, vae=SMOKE.components.weights("vae"))
    for step in in_order([restored]):
        store.make(step, RUNTIME)
    paths = sorted((store.folder(drawn) / "images").glob("*/samples/*.png"))
    assert len(paths) == store.facts(restored)["images"] > 0
    places = [path.relative_to(store.folder(drawn)) for path in paths]
    before, after = (
        np.stack([np.asarray(read_image(store.folder(step) / place), dtype=float) for place in places])
        for step in (drawn, restored)
    )
    assert 0 < np.abs(before - after).mean() < 6  # grey levels; 3.1 of the components' own pictures


def test_a_model_goes_on_with_another_s_weights_in_larger_pictures(store):
    larger = override(SMOKE, {"data.world": "smoke@1.5"})
    going_on = replace(trained(larger, 0), start=BASE)
    asked = judged(larger, going_on, side=48)[0].images
    for step in in_order([asked]):
        store.make(step, RUNTIME)
    with Image.open(next((store.folder(asked) / "images").rglob("*.png"))) as image:
        assert image.size == (48, 48)
    record = json.loads((store.folder(going_on) / "training.json").read_text())
    assert record["start"] == model_identity(store.folder(BASE) / "model")
    assert replace(going_on, start=None).key != going_on.key != BASE.key
    assert replace(asked, side=0).key != asked.key


def test_a_store_serves_an_installation_that_lies_elsewhere(store):
    path = store.folder(BASE) / "model" / "components.json"
    before = path.read_text()
    record = json.loads(before)
    del record["seal"]
    for name in ("vae", "text_encoder"):
        record[name]["folder"] = "gone/ablations/icons/components/" + name
    path.write_text(json.dumps(record))
    learned = preferred(SMOKE, BASE, 0, policies=2)
    try:
        for step in in_order([learned]):  # samples the base, and learns from it
            store.make(step, RUNTIME)
    finally:
        path.write_text(before)
    made = json.loads((store.folder(learned) / "model" / "components.json").read_text())
    assert Path(made["vae"]["folder"]).is_dir() and made["vae"]["sha256"] == record["vae"]["sha256"]
