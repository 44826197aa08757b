"""Does more diversity help more than more volume, at the same number of training samples seen?

LightGen claims it and never ran it. Two factors are crossed, volume (distinct images) and diversity (distinct
compositions of classes, colors, counts and relations), each cell without and with preference optimization. The
contrast small-diverse minus large-narrow is the claim itself; the others show where it comes from.
"""

from __future__ import annotations

from ablations.data import VOLUMES
from ablations.recipes import judged, preferred, study, trained, untrained, verdicts
from ablations.runner.study import Contrast, Variant
from ablations.settings import Setting

DIVERSITIES = ("narrow", "diverse")
BASES = [(volume, diversity) for volume in VOLUMES for diversity in DIVERSITIES]
# What the released code does and its authors hardly meant, all on. Its scaling of the learning rate by the batch is
# left out: each scale's rate is tuned as it is. No averaging at all is the release's use of the last weights.
RELEASED = {
    "model.normalized_residual": True,
    "model.attend_to_padding": True,
    "train.ema_decay": 0.0,
    "train.ema_warmup": False,
    "train.beta2": 0.95,
}


def variants(setting: Setting, seed: int) -> list[Variant]:
    """Volume crossed with diversity, without and with DPO; two controls; the release's quirks by name."""
    bases = {place: trained(setting, seed, volume=place[0], diversity=place[1]) for place in BASES}
    sets = [base.subset for base in bases.values()]
    arms = [
        Variant(
            name=f"{volume}-{diversity}",
            label=f"{volume}, {diversity}",
            factors={"volume": volume, "diversity": diversity, "preference": "none"},
            ends=judged(setting, base, arms=sets),
        )
        for (volume, diversity), base in bases.items()
    ]
    preferences = [
        Variant(
            name=f"{volume}-{diversity}-dpo",
            label=f"{volume}, {diversity}, DPO",
            factors={"volume": volume, "diversity": diversity, "preference": "dpo"},
            ends=judged(setting, preferred(setting, base, seed), arms=sets),
        )
        for (volume, diversity), base in bases.items()
    ]
    return [*arms, *preferences, *_controls(setting, seed), _released(setting, seed)]


def _controls(setting: Setting, seed: int) -> list[Variant]:
    why_not, benchmark = setting.data.cannot_draw, setting.benchmark
    return [
        Variant(
            name="untrained",
            label="untrained model",
            factors={"control": "untrained"},
            ends=judged(setting, untrained(setting, seed)),
        ),
        Variant(
            name="teacher",
            label="the teacher's own pictures",
            factors={"control": "teacher"},
            ends=() if why_not else verdicts(setting, setting.data.drawn(benchmark, benchmark.seed)),
            why_not=why_not,
        ),
    ]


def _released(setting: Setting, seed: int) -> Variant:
    return Variant(
        name="large-diverse-released",
        label="large, diverse, the release's quirks",
        factors={"switches": "released"},
        ends=judged(setting, trained(setting, seed, flips=True, changes=RELEASED)),
        optional=True,
    )


def _contrasts() -> list[Contrast]:
    found = [
        Contrast(
            name="claim",
            label="small and diverse minus large and narrow",
            a="small-diverse",
            b="large-narrow",
            claim="At equal samples seen, diverse captions are worth more than more images of narrow ones.",
            primary=True,
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
    for volume, diversity in BASES:
        found.append(
            Contrast(
                name=f"dpo-{volume}-{diversity}",
                label=f"DPO minus base, {volume}, {diversity}",
                a=f"{volume}-{diversity}-dpo",
                b=f"{volume}-{diversity}",
                claim=f"DPO improves the {volume}, {diversity} model.",
            )
        )
    found.append(
        Contrast(
            name="released-quirks",
            label="the release's quirks minus none, large and diverse",
            a="large-diverse-released",
            b="large-diverse",
            claim="What the released code does beside its paper helps.",
        )
    )
    return found


STUDY = study(
    name="diversity_sweep",
    title="Diversity against volume",
    question="At the same number of training samples seen, does more diversity help more than more volume?",
    claim="Data diversity matters more than data volume for an efficient text-to-image model.",
    source="LightGen (arXiv 2503.08619): stated, but shown only as a curve over data volume (Fig. 6a), never crossed",
    variants=variants,
    contrasts=_contrasts(),
    interaction={"rows": "volume", "columns": "diversity"},
)
