"""Does more diversity help more than more volume, at the same number of training samples seen?

LightGen claims it and never ran it. Two factors are crossed, volume (distinct images) and diversity (distinct
compositions of classes, colors, counts and relations), each cell without and with preference optimization. The
contrast small-diverse minus large-narrow is the claim itself; the others show where it comes from. By name (or `--only
all`) there are levels of diversity between the two, and, since a small set is seen more often than a large one at equal
samples, a training twice as long: the part of it that knows held-out pictures best, and its end.

In the icon world a diverse set covers more of the compositions that the benchmark asks for; what no set shows is a
split of its own. Every seed draws narrow sets of other compositions. Of one's own data the claim is asked a second time
of held-out captions: it needs no judge, and no class that one knows.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from ablations.data import VOLUMES, IconData, OwnData
from ablations.prompts import IconPrompts
from ablations.recipes import (
    cannot_rank,
    copies,
    judged,
    judged_alone,
    judged_drawn,
    preferred,
    study,
    trained,
    untrained,
    verdicts,
    watched,
)
from ablations.runner.study import Contrast, Variant
from ablations.settings import Setting
from ablations.steps import DrawBenchmark, Subset, TakePart, Train

LEVELS = {"some": "a third of the way to diverse", "many": "two thirds of the way to diverse"}
CONVERGED_PARTS = 6  # of a training twice as long, of which the best is taken
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
            ends=(ends := judged(setting, base, arms=sets)) + copies(setting, base, ends[0]),
        )
        for (volume, diversity), base in bases.items()
    ]
    why_not = cannot_rank(setting)
    preferences = [
        Variant(
            name=f"{volume}-{diversity}-dpo",
            label=f"{volume}, {diversity}, DPO",
            factors={"volume": volume, "diversity": diversity, "preference": "dpo"},
            ends=() if why_not else judged(setting, preferred(setting, base, seed), arms=sets),
            why_not=why_not,
        )
        for (volume, diversity), base in bases.items()
    ]
    return [
        *arms,
        *preferences,
        *_controls(setting, seed, sets),
        _released(setting, seed, sets),
        *_levels(setting, seed),
        *_converged(setting, seed, sets),
        *_other_templates(setting, bases),
    ]


def _levels(setting: Setting, seed: int) -> list[Variant]:
    """Doses of diversity between narrow and diverse; of one's own data a narrow set is as narrow as it is asked."""
    why_not = "" if isinstance(setting.data, IconData) else "levels between are of the icon world; give data.narrow"
    return [
        Variant(
            name=f"{volume}-{level}",
            label=f"{volume}, {text}",
            factors={"volume": volume, "diversity": level, "preference": "none"},
            ends=() if why_not else judged(setting, trained(setting, seed, volume=volume, diversity=level)),
            why_not=why_not,
            optional=True,
        )
        for volume in VOLUMES
        for level, text in LEVELS.items()
    ]


def _converged(setting: Setting, seed: int, sets: Sequence[Subset | None]) -> list[Variant]:
    longer = {"train.samples_seen": 2 * setting.train.samples_seen}
    found = []
    for volume, diversity in BASES:
        base = trained(setting, seed, volume=volume, diversity=diversity, changes=longer)
        training = watched(base, setting, CONVERGED_PARTS)
        for name, text, part in (("best", "best", 0), ("twice", "end", CONVERGED_PARTS)):
            found.append(
                Variant(
                    name=f"{volume}-{diversity}-{name}",
                    label=f"{volume}, {diversity}, {text} of twice the training",
                    factors={"volume": volume, "diversity": diversity, "training": name},
                    ends=judged(setting, TakePart(training=training, part=part), arms=sets),
                    optional=True,
                )
            )
    return found


def _other_templates(setting: Setting, bases: Mapping[tuple[str, str], Train]) -> list[Variant]:
    """The bases and the teacher asked in forms that no training set has: colored things counted, or side by side."""
    data, benchmark, asked = setting.data, setting.benchmark, None
    if isinstance(data, IconData):
        asked = IconPrompts(
            world=data.world, num_prompts=benchmark.num_prompts, seed=benchmark.prompt_seed, templates="colored"
        )
    why_not = "" if asked else "captions of other forms are written in the icon world alone"
    found = [
        Variant(
            name=f"{volume}-{diversity}-colored",
            label=f"{volume}, {diversity}, asked in other forms",
            factors={"volume": volume, "diversity": diversity, "asked": "colored"},
            ends=judged_alone(setting, base, asked) if asked else (),
            why_not=why_not,
            optional=True,
        )
        for (volume, diversity), base in bases.items()
    ]
    drawn = None if asked is None else DrawBenchmark(prompts=asked, copies=benchmark.copies, seed=benchmark.seed)
    return [
        *found,
        Variant(
            name="teacher-colored",
            label="the teacher's own pictures, asked in other forms",
            factors={"control": "teacher", "asked": "colored"},
            ends=judged_drawn(setting, drawn, asked) if asked and drawn else (),
            why_not=why_not,
            optional=True,
        ),
    ]


def _controls(setting: Setting, seed: int, sets: Sequence[Subset | None]) -> list[Variant]:
    why_not, benchmark = setting.data.cannot_draw, setting.benchmark
    return [
        Variant(
            name="untrained",
            label="untrained model",
            factors={"control": "untrained"},
            ends=judged(setting, untrained(setting, seed), arms=sets),
        ),
        Variant(
            name="teacher",
            label="the teacher's own pictures",
            factors={"control": "teacher"},
            ends=() if why_not else verdicts(setting, setting.data.drawn(benchmark, benchmark.seed)),
            why_not=why_not,
        ),
    ]


def _released(setting: Setting, seed: int, sets: Sequence[Subset | None]) -> Variant:
    return Variant(
        name="large-diverse-released",
        label="large, diverse, the release's quirks",
        factors={"switches": "released"},
        ends=judged(setting, trained(setting, seed, flips=True, changes=RELEASED), arms=sets),
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
    return [*found, *_more_contrasts()]


def _more_contrasts() -> list[Contrast]:
    """Doses, convergence, what no set shows, copies, and the release's quirks."""
    found = [
        Contrast(
            name=f"dose-{volume}-{high}",
            label=f"{high} minus {low}, {volume} volume",
            a=f"{volume}-{high}",
            b=f"{volume}-{low}",
            claim=f"From {low} to {high}, more diversity still helps at {volume} volume.",
        )
        for volume in VOLUMES
        for low, high in itertools.pairwise(("narrow", *LEVELS, "diverse"))
    ]
    found += [
        Contrast(
            name=f"dose-{volume}",
            label=f"from narrow to diverse, the line through all levels, {volume} volume",
            a=f"{volume}-diverse",
            between=tuple(f"{volume}-{name}" for name in reversed(LEVELS)),
            b=f"{volume}-narrow",
            claim=f"More diversity helps in doses at {volume} volume.",
        )
        for volume in VOLUMES
    ]
    found += [
        Contrast(
            name="claim-converged",
            label="small and diverse minus large and narrow, each at its best",
            a="small-diverse-best",
            b="large-narrow-best",
            claim="Diverse captions are worth more than more images when every model is trained to its best, too.",
        ),
        Contrast(
            name="claim-twice",
            label="small and diverse minus large and narrow, after twice the training",
            a="small-diverse-twice",
            b="large-narrow-twice",
            claim="Diverse captions are worth more than more images after twice the training, too.",
        ),
        *(
            Contrast(
                name=f"longer-{volume}-{diversity}",
                label=f"twice the training minus once, {volume}, {diversity}",
                a=f"{volume}-{diversity}-twice",
                b=f"{volume}-{diversity}",
                claim=f"The {volume}, {diversity} model still gains by training longer.",
            )
            for volume, diversity in (("small", "diverse"), ("large", "narrow"))
        ),
        Contrast(
            name="claim-colored",
            label="small and diverse minus large and narrow, asked in forms that no training set has",
            a="small-diverse-colored",
            b="large-narrow-colored",
            claim="The advantage holds on prompts of forms that no training set has.",
        ),
        Contrast(
            name="claim-unseen",
            label="small and diverse minus large and narrow, compositions in no training set",
            a="small-diverse",
            b="large-narrow",
            claim="The advantage holds on compositions that no training set shows.",
            metric="geneval@unseen/overall",
        ),
        Contrast(
            name="claim-shared",
            label="small and diverse minus large and narrow, compositions in every training set",
            a="small-diverse",
            b="large-narrow",
            claim="The advantage holds on compositions that every training set shows.",
            metric="geneval@shared/overall",
        ),
    ]
    found += [
        Contrast(
            name=f"copies-{diversity}",
            label=f"copies, small minus large volume, {diversity}",
            a=f"small-{diversity}",
            b=f"large-{diversity}",
            claim="A model of fewer images copies them more.",
            metric="copies/share",
            smallest_effect=0.02,
        )
        for diversity in DIVERSITIES
    ]
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


def _of_held_out(setting: Setting) -> list[Contrast]:
    """Of one's own data: the claim, and diversity at each volume, by pictures of held-out captions. KID is a distance,
    so there the diverse side is taken away."""
    if not isinstance(setting.data, OwnData):
        return []
    places = {"claim": ("small-diverse", "large-narrow")}
    places |= {f"diversity-{volume}": (f"{volume}-diverse", f"{volume}-narrow") for volume in VOLUMES}
    found = []
    for name, (diverse, narrow) in places.items():
        words = [side.replace("-", " and ") for side in (diverse, narrow)]
        found += [
            Contrast(
                name=f"{name}-held-out-kid",
                label=f"held-out captions, KID: {words[1]} minus {words[0]}",
                a=narrow,
                b=diverse,
                claim=f"Pictures of held-out captions by the {words[0]} model are nearer to the held-out pictures.",
                metric="kid",
                smallest_effect=setting.data.kid_effect,
                primary=name == "claim" and not setting.benchmark.has_judge,
            ),
            Contrast(
                name=f"{name}-held-out-clip",
                label=f"held-out captions, CLIP score: {words[0]} minus {words[1]}",
                a=diverse,
                b=narrow,
                claim=f"The {words[0]} model draws held-out captions better.",
                metric="clip_score",
                smallest_effect=setting.data.clip_effect,
            ),
        ]
    return found


STUDY = study(
    name="diversity_sweep",
    title="Diversity against volume",
    question="At the same number of training samples seen, does more diversity help more than more volume?",
    claim="Data diversity matters more than data volume for an efficient text-to-image model.",
    source="LightGen (arXiv 2503.08619): stated, but shown only as a curve over data volume (Fig. 6a), never crossed",
    variants=variants,
    contrasts=_contrasts(),
    further=_of_held_out,
    interaction={"rows": "volume", "columns": "diversity"},
)
