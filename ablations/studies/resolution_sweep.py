"""Does a model keep its score at a resolution that it was not trained for, at once and after a little more training?

LightGen trains at 256 px and goes on at 512 px for a few steps at a tenth of the rate, its position tables
interpolated, and reports 0.53 at both. Here the pictures grow by half: 2 x 2 tokens become 3 x 3. The controls are as
many further samples at the old size, and a model trained at the new size from its first step.

The embedded autoencoder was trained at the small size only, so exact pictures are judged after it too, at both sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ablations.data import IconData
from ablations.recipes import judged, study, trained, verdicts
from ablations.runner.step import Step
from ablations.runner.study import Contrast, Variant
from ablations.settings import SETTINGS, Setting
from ablations.steps import DrawBenchmark, Restore, Train
from lightgen.disk.config import override

GROWTH = 1.5  # of a picture's side
FURTHER = 1 / 3  # of the base's samples, seen at the new size
RATE = 0.1  # of the base's, as LightGen says


def variants(setting: Setting, seed: int) -> list[Variant]:
    """The base, the same model asked for larger pictures, tuned on them, and what else that training could buy."""
    data = setting.data
    why_not = "" if isinstance(data, IconData) else "pictures of two sizes are drawn in the icon world alone"
    ends = {} if why_not or not isinstance(data, IconData) else _ends(setting, data, seed)
    rows: list[tuple[str, str, dict[str, str]]] = [
        ("base", "base", {"size": "old", "training": "base"}),
        ("longer", "base, further samples at the old size", {"size": "old", "training": "further"}),
        ("zero-shot", "base, asked for larger pictures", {"size": "new", "training": "base"}),
        ("tuned", "tuned at the new size, a tenth of the rate", {"size": "new", "training": "further"}),
        ("tuned-fast", "tuned at the new size, the whole rate", {"size": "new", "training": "further, fast"}),
        ("tuned-few-steps", "tuned, as many autoregressive steps as before", {"size": "new", "steps": "as before"}),
        ("scratch", "trained at the new size from the start", {"size": "new", "training": "from the start"}),
        ("restored", "exact pictures after the autoencoder, old size", {"size": "old", "control": "autoencoder"}),
        (
            "restored-larger",
            "exact pictures after the autoencoder, new size",
            {"size": "new", "control": "autoencoder"},
        ),
    ]
    return [
        Variant(name=name, label=label, factors=factors, ends=ends.get(name, ()), why_not=why_not)
        for name, label, factors in rows
    ]


def _ends(setting: Setting, data: IconData, seed: int) -> Mapping[str, tuple[Step, ...]]:
    old = data.world
    new = f"{old}@{GROWTH:g}"
    side = round(setting.model.position_grid * setting.model.token_pixels * GROWTH)
    grid = side // setting.model.token_pixels
    larger = override(setting, {"data.world": new})
    steps = replace(setting.sampling, num_steps=min(grid**2, round(setting.sampling.num_steps * GROWTH**2)))
    base = trained(setting, seed)
    few = round(setting.train.samples_seen * FURTHER)
    slow = {"train.samples_seen": few, "train.learning_rate": setting.train.learning_rate * RATE}
    longer = _going_on(base, trained(setting, seed, changes={"train.samples_seen": few}))
    tuned = _going_on(base, trained(larger, seed, changes=slow))
    fast = _going_on(base, trained(larger, seed, changes={"train.samples_seen": few}))
    whole = {"train.samples_seen": setting.train.samples_seen + few, "model.position_grid": grid}

    def at_new_size(model: Step, **changes: Any) -> tuple[Step, ...]:
        return judged(larger, model, sampling=replace(steps, **changes), side=side)

    def restored(changed: Setting) -> tuple[Step, ...]:
        drawn = changed.data.drawn(changed.benchmark, changed.benchmark.seed)
        assert isinstance(drawn, DrawBenchmark)
        return verdicts(changed, Restore(images=drawn, vae=changed.components.weights("vae")))

    return {
        "base": judged(setting, base),
        "longer": judged(setting, longer),
        "zero-shot": at_new_size(base),
        "tuned": at_new_size(tuned),
        "tuned-fast": at_new_size(fast),
        "tuned-few-steps": at_new_size(tuned, num_steps=setting.sampling.num_steps),
        "scratch": at_new_size(trained(larger, seed, changes=whole)),
        "restored": restored(setting),
        "restored-larger": restored(larger),
    }


def _going_on(base: Train, training: Train) -> Train:
    """That training, begun with the base's model; its own random numbers, so that it does not repeat the base's."""
    return replace(training, start=base, config=replace(training.config, seed=training.config.seed + 1_000_000))


def _minus(name: str, a: str, b: str, label: str, claim: str, **more: Any) -> Contrast:
    return Contrast(name=name, label=label, a=a, b=b, claim=claim, **more)


_CONTRASTS = [
    _minus("kept", "tuned", "base", "tuned at the new size minus base",
           "H6: a short training at a higher resolution keeps the score to within 0.03.", primary=True,
           smallest_effect=-0.03, published_effect=0.0,
           published_source="LightGen, Tables 1 and 2: 0.53 at 256 px, 0.53 at 512 px, one model each, no interval"),
    _minus("kept-fast", "tuned-fast", "base", "tuned at the whole rate minus base",
           "H6 at the base's learning rate: the score is kept to within 0.03.", smallest_effect=-0.03),
    _minus("at-once", "zero-shot", "base", "base asked for larger pictures minus base",
           "H6 without any training: interpolated positions alone keep the score to within 0.03.",
           smallest_effect=-0.03),
    _minus("tuning", "tuned", "zero-shot", "tuned minus base asked for larger pictures",
           "H6: the short training is needed."),
    _minus("instead", "tuned-fast", "longer", "further samples at the new minus at the old size, the same rate",
           "Samples at the new size bring as much as samples at the old one, to within 0.03.", smallest_effect=-0.03),
    _minus("scratch", "tuned-fast", "scratch", "tuned at the whole rate minus trained at the new size from the start",
           "H6: at equal samples a model that began small is as good, to within 0.03.", smallest_effect=-0.03),
    _minus("few-steps", "tuned", "tuned-few-steps", "one token a step minus as many steps as before",
           "Larger pictures need more autoregressive steps (LightGen keeps its 64)."),
    _minus("autoencoder", "restored-larger", "restored", "exact pictures after the autoencoder, new minus old size",
           "The autoencoder is as good at the new size, to within 0.03.", smallest_effect=-0.03),
]  # fmt: skip

CHANGES: dict[str, dict[str, Any]] = {
    "smoke": {}, "cpu": {"train.samples_seen": 60_000}, "gpu": {}, "paper": {},
}  # fmt: skip

STUDY = study(
    name="resolution_sweep",
    title="A second resolution",
    question="Does a model keep its score at 1.5 times the resolution, at once and after a short training?",
    claim="Fine-tuning at a higher resolution with interpolated positions keeps the score.",
    source="LightGen (arXiv 2503.08619), Tables 1 and 2: 0.53 at 256 px and at 512 px, one model each",
    variants=variants,
    contrasts=_CONTRASTS,
    settings={name: override(setting, CHANGES[name]) for name, setting in SETTINGS.items()},
)
