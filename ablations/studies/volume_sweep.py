"""How much do more images help, over two decades of them, at equal samples seen and with every model at its best?

LightGen shows a curve over one to two million images that flattens, and concludes that volume saturates. Here five
sizes are half a decade apart. At equal samples a small set is seen more often than a large one; so each training is
also cut where the model knows held-out pictures best.
"""

from __future__ import annotations

import itertools

from ablations.recipes import copies, judged, study, trained, watched
from ablations.runner.study import Contrast, Variant
from ablations.settings import SETTINGS, Setting
from ablations.steps import TakePart
from lightgen.disk.config import override

SIZES = 5  # half a decade apart, the largest data.large
PARTS = 6


def variants(setting: Setting, seed: int) -> list[Variant]:
    """Each size at the end of the training and at its best part."""
    found = []
    for place in range(1, SIZES + 1):
        images = round(setting.data.large / 10 ** ((SIZES - place) / 2))
        training = watched(trained(setting, seed, changes={"data.large": images, "data.small": images}), setting, PARTS)
        for suffix, label, part in (("", "", PARTS), ("-best", ", at its best", 0)):
            model = TakePart(training=training, part=part)
            ends = judged(setting, model)
            found.append(
                Variant(
                    name=f"v{place}{suffix}",
                    label=f"{images:,} images{label}",
                    factors={"volume": f"{images}", "training": "best" if suffix else "whole"},
                    ends=ends if suffix else ends + copies(setting, model, ends[0]),
                )
            )
    return found


def _contrasts() -> list[Contrast]:
    found = [
        Contrast(
            name="saturation",
            label="gain of the first decade minus gain of the second",
            a="v3",
            b="v1",
            minus=("v5", "v3"),
            claim="H1: the gain from volume saturates: the first ten times of images bring more than the second.",
            primary=True,
        ),
    ]
    for suffix, text in (("", ""), ("-best", ", each at its best")):
        for decade, (low, high) in enumerate((("v1", "v3"), ("v3", "v5")), 1):
            found.append(
                Contrast(
                    name=f"decade-{decade}{suffix}",
                    label=f"ten times the images, decade {decade}{text}",
                    a=high + suffix,
                    b=low + suffix,
                    claim=f"H1: ten times the images help in decade {decade}{text}.",
                )
            )
    for fewer, more in itertools.pairwise(range(1, SIZES + 1)):
        found.append(
            Contrast(
                name=f"step-{more}",
                label=f"size {more} minus size {fewer}",
                a=f"v{more}",
                b=f"v{fewer}",
                claim=f"H1: from size {fewer} to {more}, more images still help.",
            )
        )
    found.append(
        Contrast(
            name="slope",
            label="over two decades, the line through all sizes",
            a="v5",
            between=("v4", "v3", "v2"),
            b="v1",
            claim="H1: more images help over two decades.",
        )
    )
    found.append(
        Contrast(
            name="copies",
            label="copies, smallest minus largest",
            a="v1",
            b=f"v{SIZES}",
            claim="A model of fewer images copies them more.",
            metric="copies/share",
            smallest_effect=0.02,
        )
    )
    return found


CHANGES = {
    "smoke": {"data.small": 16, "data.large": 256, "train.samples_seen": 640},
    "cpu": {"data.small": 100, "data.large": 10_000, "train.samples_seen": 60_000},
    "gpu": {},
    "paper": {},
}

STUDY = study(
    name="volume_sweep",
    title="What more images bring",
    question="At equal samples seen, and with every model at its best, how much do more images help?",
    claim="Gains from data volume saturate: at two million images the score has flattened.",
    source="LightGen (arXiv 2503.08619), Fig. 6a: one curve without numbers or seeds",
    variants=variants,
    contrasts=_contrasts(),
    settings={name: override(setting, CHANGES[name]) for name, setting in SETTINGS.items()},
)
