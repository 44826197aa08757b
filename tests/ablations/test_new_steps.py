"""Training that is looked at on its way, data sets that a model draws, and how near pictures are to trained ones."""

import json
from dataclasses import replace

import pytest

from ablations.recipes import copies, judged, judges, trained, watched
from ablations.runner.step import in_order
from ablations.runner.store import Store
from ablations.settings import SETTINGS
from ablations.steps import Distill, NearestPictures, TakePart
from lightgen.data.shards import read_shards

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
