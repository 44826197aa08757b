"""What each choice of the training is worth alone: the release's quirks, the paper's hyper-parameters, more samples.

LightGen's text and its code differ, and some of the code looks unintended. Each row of this study changes one thing
against the base: as released, as written, or left out. Further variants are one training looked at on its way (H5).
"""

from __future__ import annotations

from typing import Any

from ablations.recipes import BETTER, cannot_mix, judged, study, trained, watched
from ablations.runner.step import Step
from ablations.runner.study import Contrast, Variant
from ablations.settings import SETTINGS, Setting
from ablations.steps import TakePart
from lightgen.disk.config import override

Row = tuple[str, str, str, dict[str, Any]]
# (name, what it is, what is claimed of it, changes of the setting)
SWITCHES: list[Row] = [
    ("normalized-residual", "the cross blocks' skip carries the normalized query (as released)",
     "H13: the released residual is better.", {"model.normalized_residual": True}),
    ("padding", "padded text positions are attended to (as released)",
     "H13: attending to padding is better.", {"model.attend_to_padding": True}),
    ("raw", "the last weights, no moving average (as released)",
     "H11: the last weights are better than averaged ones.", {"train.ema_decay": 0.0, "train.ema_warmup": False}),
    ("beta2", "AdamW's beta2 0.99 (as written; released: 0.95)",
     "H13: beta2 0.99 is better than 0.95.", {"train.beta2": 0.99}),
    ("image-ratio", "one mask ratio an image (released: one a batch)",
     "H13: a mask ratio for each image is better than one a batch.", {"train.per_image_ratio": True}),
    ("one-noise", "one noise draw a token (released: four)",
     "H13: one noise draw is better than four.", {"model.noise_copies": 1}),
    ("high-masks", "mask ratios as released, 0.7 to 1",
     "H12: the released mask ratios are better.", {"model.mask_minimum": 0.7, "model.mask_std": 0.25}),
    ("no-aligner", "no text aligner (released: six blocks)",
     "H13: the model is better without a text aligner.", {"model.text_depth": 0}),
    ("text-in-decoder", "text among the decoder's tokens too (released: in the cross stack alone)",
     "H13: the model is better where its decoder sees the text.", {"model.text_in_decoder": True}),
    ("text-deeper", "the same with three decoder blocks and one cross block",
     "H13: the model is better where most of its depth sees text and tokens together.",
     {"model.text_in_decoder": True, "model.decoder_depth": 3, "model.cross_depth": 1}),
    ("dropout", "dropout 0.1 (as released)", "H13: dropout 0.1 is better than none.", {"model.dropout": 0.1}),
    ("ddpm", "epsilon with learned variance (as released; here: flow)",
     "H13: the released head objective is better than flow.", {"model.head_objective": "ddpm"}),
    ("together", "constant rate, a mask ratio an image and mixed captions together",
     "What led when it was changed alone makes a better base together.",
     BETTER),
]  # fmt: skip
COMBINED = ("text-deeper", "together")  # no switch alone: made by name, so that a seed of the switches stays affordable
PARTS = 5  # of one training at a constant rate: 4 of 5 are the paper's 80k of 100k steps
LOOKED_AT = (1, 2, 4, 5)


def variants(setting: Setting, seed: int) -> list[Variant]:
    """The base, each switch alone, and the base along its training."""
    base = trained(setting, seed)
    found = [Variant(name="base", label="base", factors={"switch": "none"}, ends=judged(setting, base))]
    for name, label, _, changes in SWITCHES:
        why_not = cannot_mix(setting) if "data.captions_kind" in changes else ""
        ends = () if why_not else _switched(setting, seed, changes)
        optional = name in COMBINED
        found.append(
            Variant(
                name=name, label=label, factors={"switch": name}, ends=ends, why_not=why_not, optional=optional
            )
        )  # fmt: skip
    flipped = trained(setting, seed, flips=True)
    found.append(
        Variant(
            name="flips", label="mirrored pictures (as released)", factors={"switch": "flips"},
            ends=judged(setting, flipped),
        )
    )  # fmt: skip
    training = watched(trained(setting, seed, changes={"train.schedule": "constant"}), setting, PARTS)
    for part in LOOKED_AT:
        found.append(
            Variant(
                name=f"part-{part}",
                label=f"constant rate, {part} of {PARTS} of the samples",
                factors={"switch": "constant rate", "samples": f"{part}/{PARTS}"},
                ends=judged(setting, TakePart(training=training, part=part)),
            )
        )
    return found


def _switched(setting: Setting, seed: int, changes: dict[str, Any]) -> tuple[Step, ...]:
    is_ddpm = changes.get("model.head_objective") == "ddpm"
    call = override(setting.sampling, {"solver": "ddpm"}) if is_ddpm else None
    return judged(setting, trained(setting, seed, changes=changes), sampling=call)


def _contrasts() -> list[Contrast]:
    found = [
        Contrast(
            name="late-gain",
            label="all samples minus four fifths of them",
            a="part-5",
            b="part-4",
            claim="H5: the last fifth of the training still brings a gain.",
            primary=True,
            published_effect=0.04,
            published_source="LightGen, Table 1: 0.49 after 80k steps, 0.53 after 100k, one model, no interval",
        ),
        Contrast(
            name="early-gain",
            label="four fifths of the samples minus one fifth",
            a="part-4",
            b="part-1",
            claim="H5: after the first fifth of the training there is still a gain.",
        ),
    ]
    for name, label, claim, _ in SWITCHES:
        found.append(Contrast(name=name, label=f"{label} minus base", a=name, b="base", claim=claim))
    found += [
        Contrast(name="flips", label="mirrored pictures minus base", a="flips", b="base",
                 claim="H13: mirrored pictures help."),
        Contrast(name="flips-position", label="mirrored pictures minus base: position", a="flips", b="base",
                 claim="H8: mirrored pictures help position.", metric="geneval/position"),
        Contrast(name="constant-rate", label="constant rate minus cosine", a="part-5", b="base",
                 claim="H13: a constant rate is better than a cosine."),
    ]  # fmt: skip
    return found


CHANGES: dict[str, dict[str, Any]] = {
    "smoke": {}, "cpu": {"train.samples_seen": 60_000}, "gpu": {}, "paper": {},
}  # fmt: skip

STUDY = study(
    name="training_sweep",
    title="What the training's choices are worth",
    question="Which of the release's switches matter, and how much does the last part of the training bring?",
    claim="The recipe converges fast; its switches are not ablated in the paper.",
    source="LightGen (arXiv 2503.08619), Table 1 (80k and 100k steps), and the released code",
    variants=variants,
    contrasts=_contrasts(),
    settings={name: override(setting, CHANGES[name]) for name, setting in SETTINGS.items()},
)
