"""Does more diversity help more than more volume, at the same number of training samples seen?

LightGen claims it and never ran it. Two factors are crossed, volume (distinct images) and diversity (distinct
compositions of classes, colors, counts and relations), each cell without and with preference optimization. The
contrast small-diverse minus large-narrow is the claim itself; the others show where it comes from.
"""

from __future__ import annotations

from ablations.recipes import NOTES, SCALES, SPLITS, num_images
from ablations.record import write_record
from ablations.stages import STAGES, path
from ablations.study import Contrast, Study, Variant

VOLUMES = ("small", "large")
DIVERSITIES = ("narrow", "diverse")

_BASES = [
    Variant(
        name=f"{volume}-{diversity}",
        label=f"{volume}, {diversity}",
        factors={"volume": volume, "diversity": diversity, "preference": "none"},
        overrides={"data.volume": volume, "data.diversity": diversity},
    )
    for volume in VOLUMES
    for diversity in DIVERSITIES
]
_PREFERRED = [
    Variant(
        name=f"{base.name}-dpo",
        label=f"{base.label}, DPO",
        factors={**base.factors, "preference": "dpo"},
        overrides={**base.overrides, "preference.enabled": True},
    )
    for base in _BASES
]
_CONTROLS = [
    Variant(
        name="untrained",
        label="untrained model",
        factors={"control": "untrained"},
        overrides={"subject.kind": "untrained"},
    ),
    Variant(
        name="teacher",
        label="the teacher's own pictures",
        factors={"control": "teacher"},
        overrides={"subject.kind": "teacher"},
        scales=("smoke", "cpu", "gpu"),
    ),
]
# What the released code does and its authors hardly meant, all on. Its scaling of the learning rate by the batch is
# left out: each scale's rate is tuned as it is. No averaging at all is the release's use of the last weights.
_RELEASED = Variant(
    name="large-diverse-released",
    label="large, diverse, the release's quirks",
    factors={"switches": "released"},
    overrides={
        "data.volume": "large", "data.diversity": "diverse", "encode.flips": True,
        "model.normalized_residual": True, "model.attend_to_padding": True,
        "train.ema_decay": 0.0, "train.ema_warmup": False, "train.beta2": 0.95,
    },
    optional=True,
)  # fmt: skip


def _contrasts() -> list[Contrast]:
    found = [
        Contrast(
            name="claim",
            label="small and diverse minus large and narrow",
            a="small-diverse",
            b="large-narrow",
            claim="At equal samples seen, diverse captions are worth more than more images of narrow ones.",
        )
    ]
    for volume in VOLUMES:
        found.append(
            Contrast(
                name=f"diversity-{volume}",
                label=f"diverse minus narrow, {volume} volume",
                a=f"{volume}-diverse",
                b=f"{volume}-narrow",
                claim=f"Diversity helps at {volume} volume.",
            )
        )
    for diversity in DIVERSITIES:
        found.append(
            Contrast(
                name=f"volume-{diversity}",
                label=f"large minus small volume, {diversity}",
                a=f"large-{diversity}",
                b=f"small-{diversity}",
                claim=f"Volume helps where captions are {diversity}.",
            )
        )
    found.append(
        Contrast(
            name="interaction",
            label="gain from diversity at large minus at small volume",
            a="large-diverse",
            b="large-narrow",
            minus=("small-diverse", "small-narrow"),
            claim="Diversity helps more where there are more images.",
        )
    )
    for base in _BASES:
        found.append(
            Contrast(
                name=f"dpo-{base.name}",
                label=f"DPO minus base, {base.label}",
                a=f"{base.name}-dpo",
                b=base.name,
                claim=f"DPO improves the {base.label} model.",
            )
        )
    found.append(
        Contrast(
            name="released-quirks",
            label="the release's quirks minus none, large and diverse",
            a=_RELEASED.name,
            b="large-diverse",
            claim="What the released code does beside its paper helps.",
        )
    )
    return found


STUDY = Study(
    name="diversity_sweep",
    title="Diversity against volume",
    question="At the same number of training samples seen, does more diversity help more than more volume?",
    claim="Data diversity matters more than data volume for an efficient text-to-image model.",
    source="LightGen (arXiv 2503.08619): stated, but shown only as a curve over data volume (Fig. 6a), never crossed",
    variants=[*_BASES, *_PREFERRED, *_CONTROLS, _RELEASED],
    contrasts=_contrasts(),
    splits=SPLITS,
    interaction={"rows": "volume", "columns": "diversity"},
    scales=SCALES,
    notes=NOTES,
    stages=STAGES,
    path=path,
    num_images=num_images,
    record=write_record,
)
