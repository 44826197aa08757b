"""Do pictures of a trained model teach a student as well as exact ones of the same captions?

LightGen calls training on other models' pictures knowledge distillation, and compares with nothing. Here a model
trained on the exact teacher's pictures draws a training set of its own, filtered by verdict or not, with one picture a
caption or several; students of all sets see the same number of samples.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ablations.data import IconData
from ablations.recipes import judged, judges, study, trained
from ablations.runner.step import Step
from ablations.runner.study import Contrast, Variant
from ablations.settings import SETTINGS, Setting
from ablations.steps import Distill, DrawIcons, Train
from lightgen.disk.config import override

SEVERAL = 4  # pictures a caption
TRIES = 4


SETS = (
    ("teacher", "the model that draws", "exact", 1),
    ("exact", "exact pictures", "exact", 1),
    ("exact-several", f"exact pictures, {SEVERAL} a caption", "exact", SEVERAL),
    ("distilled", "the model's pictures", "distilled", 1),
    ("distilled-several", f"the model's pictures, {SEVERAL} a caption", "distilled", SEVERAL),
    ("filtered", "the model's pictures that were judged right", "filtered", 1),
)


def variants(setting: Setting, seed: int) -> list[Variant]:
    """The teacher model, and students of its pictures and of exact ones."""
    why_not = "" if isinstance(setting.data, IconData) else "exact pictures of any caption are of the icon world"
    models = {} if why_not else _models(setting, seed)
    return [
        Variant(
            name=name,
            label=label,
            factors={"pictures": kind, "per caption": f"{count}"},
            ends=() if why_not else judged(setting, models[name]),
            why_not=why_not,
        )
        for name, label, kind, count in SETS
    ]


def _models(setting: Setting, seed: int) -> dict[str, Train]:
    teacher = trained(setting, seed, changes={"train.samples_seen": 2 * setting.train.samples_seen})
    exact = setting.data.dataset("small", "diverse", seed)
    assert isinstance(exact, DrawIcons)
    sets: dict[str, Step] = {}
    for name, _, kind, count in SETS[1:]:
        config = replace(exact.config, per_caption=count)
        sets[name] = DrawIcons(config=config) if kind == "exact" else Distill(
            model=teacher, config=config, sampling=setting.sampling, judges=judges(setting),
            tries=TRIES if kind == "filtered" else 1,
        )  # fmt: skip
    students = {name: trained(setting, seed, volume="small", dataset=dataset) for name, dataset in sets.items()}
    return {"teacher": teacher, **students}


def _minus(name: str, a: str, b: str, label: str, claim: str, **more: Any) -> Contrast:
    return Contrast(name=name, label=label, a=a, b=b, claim=claim, **more)


_CONTRASTS = [
    _minus("h3", "distilled", "exact", "the model's pictures minus exact ones",
           "H3: a trained model's pictures teach alignment better than exact ones.", primary=True),
    _minus("h3-filtered", "filtered", "exact", "the model's right pictures minus exact ones",
           "H3 with a filter: a model's pictures that were judged right teach better than exact ones."),
    _minus("h3-filter", "filtered", "distilled", "the model's right pictures minus all of its pictures",
           "H3: filtering by verdict helps."),
    _minus("h3-detail", "exact", "distilled", "spectrum gap, exact minus the model's pictures",
           "H3: students of a model's pictures keep high frequencies as well.", metric="detail/spectrum_gap",
           smallest_effect=0.1),
    _minus("h3-teacher", "distilled", "teacher", "student of the model's pictures minus the model",
           "H3: the student matches the model that drew its pictures."),
    _minus("h4", "distilled-several", "distilled", f"{SEVERAL} of the model's pictures a caption minus one",
           "H4: several samples a caption, soft targets, teach better than one at equal pictures."),
    _minus("h4-exact", "exact-several", "exact", f"{SEVERAL} exact pictures a caption minus one",
           "H4: several exact pictures a caption teach better than one."),
]  # fmt: skip

CHANGES: dict[str, dict[str, Any]] = {
    "smoke": {}, "cpu": {"train.samples_seen": 60_000, "data.small": 2000}, "gpu": {"data.small": 8000}, "paper": {},
}  # fmt: skip

STUDY = study(
    name="distillation_sweep",
    title="Distillation through data",
    question="Do a trained model's pictures teach a student as well as exact pictures of the same captions?",
    claim="Synthetic images of better models distill their knowledge into a small one.",
    source="LightGen (arXiv 2503.08619), section 4.3: stated, compared with no other data",
    variants=variants,
    contrasts=_CONTRASTS,
    settings={name: override(setting, CHANGES[name]) for name, setting in SETTINGS.items()},
)
