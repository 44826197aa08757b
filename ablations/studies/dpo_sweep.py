"""Does DPO improve a trained model, by which preferences, and is anything cheaper as good?

LightGen reports a gain of 0.09 on GenEval overall from DPO with a real image against the model's own sample, and
neither released the training nor compared it with anything. Here every variant starts from the same base of its seed:
DPO by source of preferences, supervised training on the same winners, shuffled preferences, retuned guidance, other
strengths, and the base trained with LightGen's flips. Hypotheses H7 (DPO lifts the score, and beats its cheap rivals),
H8 (it mends what flips broke; training without flips does too) and H9 (it restores fine detail).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ablations.recipes import NOTES, SCALES, SPLITS, num_images
from ablations.record import write_record
from ablations.stages import STAGES, path
from ablations.study import Contrast, Recipe, Study, Variant, override

DRAWN = ("smoke", "cpu", "gpu")  # scales of a world whose teacher can draw anything


def _dpo(name: str, label: str, source: str, *, optional: bool = False, **changes: Any) -> Variant:
    """A variant that is preference training of the base; `changes` are names of the recipe's `dpo` section."""
    kind = "SFT" if changes.get("kind") == "sft" else "DPO"
    return Variant(
        name=name,
        label=label,
        factors={"method": kind, "pairs": source},
        overrides={
            "preference.enabled": True,
            "preference.source": source,
            **{f"dpo.{key}": value for key, value in changes.items()},
        },
        scales=DRAWN if source == "layout" else (),
        optional=optional,
    )


def _changed(variant: Variant, name: str, label: str, changes: Mapping[str, Any], **more: Any) -> Variant:
    return replace(variant, name=name, label=label, overrides={**variant.overrides, **changes}, **more)


def _with_flips(variant: Variant, name: str, label: str) -> Variant:
    return Variant(
        name=name,
        label=label,
        factors={**variant.factors, "method": f"{variant.factors['method']}, flips"},
        overrides={**variant.overrides, "encode.flips": True},
        scales=variant.scales,
    )


_BASE = Variant(name="base", label="base: no preference training", factors={"method": "none", "pairs": "none"})
_GUIDANCE = Variant(
    name="guidance",
    label="base, guidance retuned by the verifier",
    factors={"method": "guidance", "pairs": "none"},
    overrides={"retune.enabled": True},
)
_VERIFIER = _dpo("verifier", "DPO, own samples by verdict", "verifier")
_RANDOM = _dpo("random", "DPO, verdicts shuffled (placebo)", "random")
_SFT = _dpo("sft", "SFT on the verifier's winners", "verifier", kind="sft")
_SOURCES = [
    _VERIFIER,
    _dpo("teacher-pairs", "DPO, teacher's image against own sample", "teacher"),
    _dpo("detail", "DPO, image against itself blurred or noisy", "detail"),
    _dpo("layout", "DPO, image against a wrong layout", "layout"),
    _RANDOM,
    _SFT,
]
# Four rounds, each from samples of the model before, which is its reference; the last two compare what is sampled.
_ROUNDS = {"preference.rounds": 4, "finish.rounds": 2}
# One round with four times the samples, the loss of what is sampled, and a step as far again the way that it went.
_FAR = {
    "preference.copies": 32,
    "preference.max_copies": 256,
    "preference.per_task": 1600,
    "preference.extrapolation": 2.0,
    "dpo.guidance_scale": 3.0,
    "dpo.learning_rate": 1e-4,
    "dpo.steps": 600,
    "dpo.max_winner_drift": 2.0,  # of the guided prediction, whose errors are larger
}
_FURTHER = [
    _changed(_VERIFIER, "verifier-rounds", "DPO by verdict, four rounds, the last two guided", _ROUNDS),
    _changed(_SFT, "sft-rounds", "SFT on the verifier's winners, four such rounds", _ROUNDS),
    _changed(_RANDOM, "random-rounds", "DPO, verdicts shuffled, four such rounds", _ROUNDS),
]
_STRENGTHS = [
    _dpo("verifier-gentle", "verifier, beta 200, rate 5e-5", "verifier", beta=200.0, learning_rate=5e-5),
    _dpo("verifier-stiff", "verifier, beta 1000, rate 2e-4", "verifier", beta=1000.0, learning_rate=2e-4),
    _dpo(
        "teacher-pairs-lightgen",
        "teacher's image, LightGen's beta 5000, rate 1e-8",
        "teacher",
        beta=5000.0,
        learning_rate=1e-8,
    ),
]
_LONGER = Variant(
    name="longer",
    label="base trained twice as long instead",
    factors={"method": "training", "pairs": "none"},
    overrides={"train.samples_seen": 120_000},
    scales=("cpu",),
)
_FLIPS = [
    _with_flips(_BASE, "flips", "base trained with flips"),
    _with_flips(_VERIFIER, "flips-verifier", "trained with flips, then DPO by verdict"),
]
# Everything else that the training offers, made only by name.
_CHOICES = [
    _changed(_VERIFIER, "verifier-far", "DPO by verdict, taken far", _FAR, scales=("cpu", "gpu"), optional=True),
    _changed(_VERIFIER, "verifier-twice", "DPO by verdict, two rounds", {"preference.rounds": 2}, optional=True),
    _changed(_VERIFIER, "verifier-thrice", "DPO by verdict, three rounds", {"preference.rounds": 3}, optional=True),
    _changed(_VERIFIER, "verifier-averaged", "DPO by verdict, two policies", {"preference.policies": 2}, optional=True),
    _dpo("verifier-ipo", "verifier, IPO", "verifier", optional=True, kind="ipo"),
    _dpo("verifier-hinge", "verifier, hinge", "verifier", optional=True, kind="hinge"),
    _dpo("verifier-simpo", "verifier, SimPO (no reference)", "verifier", optional=True, kind="simpo"),
    _dpo("verifier-dpop", "verifier, DPO-positive 5", "verifier", optional=True, dpop=5.0),
    _dpo("verifier-sdpo", "verifier, SDPO's safeguard", "verifier", optional=True, sdpo=True),
    _dpo("verifier-head", "verifier, head alone", "verifier", optional=True, train="head"),
    _dpo("verifier-trunk", "verifier, trunk alone", "verifier", optional=True, train="trunk"),
    _dpo("verifier-lora", "verifier, LoRA 8", "verifier", optional=True, lora_rank=8, learning_rate=5e-4),
    _dpo("verifier-refresh", "verifier, reference refreshed", "verifier", optional=True, refresh_every=50),
]
_TEACHER = Variant(
    name="teacher",
    label="the teacher's own pictures",
    factors={"control": "teacher"},
    overrides={"subject.kind": "teacher"},
    scales=DRAWN,
)


def _minus(name: str, a: str, b: str, label: str, claim: str, metric: str = "geneval/overall", **more: Any) -> Contrast:
    return Contrast(name=name, label=label, a=a, b=b, claim=claim, metric=metric, **more)


_CONTRASTS = [
    _minus("h7-verifier", "verifier", "base", "DPO by verdict minus base", "H7: DPO lifts the overall score."),
    _minus("h7-rounds", "verifier-rounds", "base", "four rounds of DPO by verdict minus base",
           "H7 with new samples thrice more: DPO lifts the overall score."),
    _minus("h7-rounds-sft", "verifier-rounds", "sft-rounds", "four rounds of DPO by verdict minus four of SFT",
           "H7 with new samples thrice more: the losers teach something that the winners alone do not."),
    _minus("h7-rounds-placebo", "verifier-rounds", "random-rounds", "four rounds of DPO by verdict minus four shuffled",
           "H7 with new samples thrice more: the preferences matter, not the training."),
    _minus("h7-rounds-guidance", "verifier-rounds", "guidance", "four rounds of DPO by verdict minus retuned guidance",
           "H7 with new samples thrice more: DPO beats the cheap rival."),
    _minus("h7-sft", "verifier", "sft", "DPO by verdict minus SFT on the same winners",
           "H7: the losers teach something that the winners alone do not."),
    _minus("h7-placebo", "verifier", "random", "DPO by verdict minus shuffled verdicts",
           "H7: the preferences matter, not the training."),
    _minus("h7-guidance", "verifier", "guidance", "DPO by verdict minus retuned guidance",
           "H7: DPO beats the cheap rival."),
    _minus("h7-longer", "verifier-rounds", "longer", "four rounds of DPO by verdict minus twice the training",
           "H7: DPO is worth more than as many samples again of plain training."),
    _minus("h7-teacher", "teacher-pairs", "base", "DPO by teacher's images minus base",
           "H7 as LightGen made its pairs: the teacher's image against the own sample lifts the overall score."),
    _minus("h7-lightgen", "teacher-pairs-lightgen", "base", "the same at LightGen's beta and rate minus base",
           "H7 at LightGen's own beta 5000 and learning rate 1e-8."),
    _minus("sft", "sft", "base", "SFT on winners minus base", "SFT on the winners lifts the overall score."),
    _minus("placebo", "random", "base", "shuffled verdicts minus base", "Training on noise lifts the overall score."),
    _minus("guidance", "guidance", "base", "retuned guidance minus base", "Retuned guidance lifts the overall score."),
    _minus("layout", "layout", "base", "DPO by layout minus base: position",
           "Pairs of right and wrong layouts teach position.", "geneval/position"),
    _minus("h8-flips", "base", "flips", "no flips minus flips: position",
           "H8: training without flips gives position.", "geneval/position"),
    _minus("h8-dpo", "flips-verifier", "flips", "DPO minus base, both with flips: position",
           "H8: DPO mends the position that flips broke.", "geneval/position"),
    _minus("h8-either", "base", "flips-verifier", "no flips minus flips and DPO: position",
           "H8: leaving the flips out is worth more than DPO after them.", "geneval/position"),
    _minus("h9-spectrum", "base", "detail", "spectrum gap, base minus DPO by detail",
           "H9: DPO restores high frequencies.", "detail/spectrum_gap", smallest_effect=0.1),
    _minus("h9-laplacian", "base", "detail", "Laplacian gap, base minus DPO by detail",
           "H9: DPO restores sharpness.", "detail/laplacian_gap", smallest_effect=0.1),
    _minus("h9-teacher", "base", "teacher-pairs", "spectrum gap, base minus DPO by teacher's images",
           "H9 as LightGen made its pairs.", "detail/spectrum_gap", smallest_effect=0.1),
]  # fmt: skip

# Fewer benchmark prompts leave captions of every task to learn preferences from; each is drawn more often instead. At
# cpu scale the base sees half of the samples of `diversity_sweep`, so that there is something left to gain.
_CHANGES: Mapping[str, Mapping[str, Any]] = {
    "smoke": {"preference.captions": "all"},
    "cpu": {
        "evaluation.num_prompts": 24,
        "evaluation.copies": 8,
        "preference.captions": "all",
        "preference.prompts": 600,
        "train.samples_seen": 60_000,
    },
    "gpu": {
        "evaluation.num_prompts": 50,
        "evaluation.copies": 8,
        "preference.captions": "all",
        "preference.prompts": 1500,
    },
    "paper": {"preference.limit": 30_000},
}


def _scale(name: str) -> Recipe:
    return override(SCALES[name], _CHANGES[name])


STUDY = Study(
    name="dpo_sweep",
    title="What preference training does",
    question="Does DPO improve a trained model, by which preferences, and does anything cheaper do as well?",
    claim="DPO lifts GenEval overall from 0.53 to 0.62, mends positions and restores high-frequency detail.",
    source="LightGen (arXiv 2503.08619), section 4.2 and Table 2: reported without controls, the training not released",
    variants=[_BASE, _GUIDANCE, _LONGER, *_SOURCES, *_FURTHER, *_STRENGTHS, *_FLIPS, _TEACHER, *_CHOICES],
    contrasts=_CONTRASTS,
    splits=SPLITS,
    interaction={},
    scales={name: _scale(name) for name in SCALES},
    notes=NOTES,
    stages=STAGES,
    path=path,
    num_images=num_images,
    record=write_record,
)
