"""Does DPO improve a trained model, by which preferences, and is anything cheaper as good?

LightGen reports a gain of 0.09 on GenEval overall from DPO with a real image against the model's own sample, and
neither released the training nor compared it with anything. Here every variant starts from the same base of its seed:
DPO by source of preferences, supervised training on the same winners, shuffled preferences, retuned guidance, other
strengths, and the base trained with LightGen's flips. Hypotheses H7 (DPO lifts the score, and beats its cheap rivals),
H8 (it mends what flips broke; training without flips does too) and H9 (it restores fine detail). What H7 and H8 say may
depend on how weak the base is: both are asked of a better one again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ablations.recipes import BETTER, cannot_mix, judged, preferred, study, trained, tuned, verdicts
from ablations.runner.step import Step
from ablations.runner.study import Contrast, Variant
from ablations.settings import SETTINGS, Setting
from ablations.steps import Train
from lightgen.disk.config import override
from lightgen.preference.config import Kind, PreferenceConfig

ROUNDS, GUIDED_ROUNDS = 4, 2  # each from samples of the model before; the last ones compare what is sampled
# One round with four times the samples, the loss of what is sampled, and a step as far again the way that it went.
FAR = {
    "preference.copies": 32,
    "preference.max_copies": 256,
    "preference.per_task": 1600,
    "preference.dpo.guidance_scale": 3.0,
    "preference.dpo.learning_rate": 1e-4,
    "preference.dpo.steps": 600,
    "preference.dpo.max_winner_drift": 2.0,  # of the guided prediction, whose errors are larger
}
EXTRAPOLATION = 2.0


@dataclass(frozen=True)
class _Arms:
    """The models of one seed that variants are made of; all start from the same base."""

    setting: Setting
    seed: int

    @cached_property
    def base(self) -> Train:
        return trained(self.setting, self.seed)

    @cached_property
    def flipped(self) -> Train:
        """The base trained with LightGen's flips."""
        return trained(self.setting, self.seed, flips=True)

    @cached_property
    def better(self) -> Train:
        """A base of as many samples by the better recipe."""
        return trained(self.setting, self.seed, changes=BETTER)

    @cached_property
    def better_flipped(self) -> Train:
        """The same, with LightGen's flips."""
        return trained(self.setting, self.seed, flips=True, changes=BETTER)

    def dpo(self, **changes: Any) -> PreferenceConfig:
        return replace(self.setting.preference.dpo, **changes)

    def learn(self, source: str = "verifier", *rounds: PreferenceConfig, **options: Any) -> Step:
        """The base after preference training on pairs of the source."""
        return preferred(self.setting, self.base, self.seed, rounds or (self.dpo(),), source=source, **options)

    def rounds(self, source: str = "verifier", kind: Kind = "sigmoid", base: Train | None = None) -> Step:
        """Four rounds, the last two of the guided loss, which goes gently."""
        plain = self.dpo(kind=kind)
        guided = replace(plain, guidance_scale=3.0, learning_rate=1e-4, max_winner_drift=2.0)
        rounds = [*[plain] * (ROUNDS - GUIDED_ROUNDS), *[guided] * GUIDED_ROUNDS]
        return preferred(self.setting, base or self.base, self.seed, rounds, source=source)

    def variant(self, name: str, label: str, method: str, pairs: str, model: Step, **more: Any) -> Variant:
        ends = judged(self.setting, model, tuned=more.pop("tuned", None))
        return Variant(name=name, label=label, factors={"method": method, "pairs": pairs}, ends=ends, **more)


def variants(setting: Setting, seed: int) -> list[Variant]:
    """The base, preference training of it by source, rounds, strengths and options, and what is cheaper."""
    arms = _Arms(setting, seed)
    # In running order: the long ones last, side by side, and no worker ends long before another.
    return [*_bases(arms), *_sources(arms), *_strengths(arms), *_flips(arms), *_rounds(arms),
            *_better(arms), _teacher(arms), *_options(arms)]  # fmt: skip


def _bases(arms: _Arms) -> list[Variant]:
    setting, variant = arms.setting, arms.variant
    twice = trained(setting, arms.seed, changes={"train.samples_seen": 2 * setting.train.samples_seen})
    guidance = tuned(setting, arms.base, arms.seed)
    return [
        variant("base", "base: no preference training", "none", "none", arms.base),
        variant("guidance", "base, guidance retuned by the verifier", "guidance", "none", arms.base, tuned=guidance),
        variant("longer", "base trained twice as long instead", "training", "none", twice, scales=("cpu",)),
    ]


def _sources(arms: _Arms) -> list[Variant]:
    learn, why_not = arms.learn, arms.setting.data.cannot_draw
    sft = learn("verifier", arms.dpo(kind="sft"))
    layout = Variant(
        name="layout",
        label="DPO, image against a wrong layout",
        factors={"method": "DPO", "pairs": "layout"},
        ends=() if why_not else judged(arms.setting, learn("layout")),
        why_not=why_not,
        optional=True,  # by name, as are others that no claim rests on: a seed of the study stays under 20 minutes
    )
    return [
        arms.variant("verifier", "DPO, own samples by verdict", "DPO", "verifier", learn()),
        arms.variant("teacher-pairs", "DPO, teacher's image against own sample", "DPO", "teacher", learn("teacher")),
        arms.variant("detail", "DPO, image against itself blurred or noisy", "DPO", "detail", learn("detail")),
        layout,
        # Of one round; made of four in any case.
        arms.variant("random", "DPO, verdicts shuffled (placebo)", "DPO", "random", learn("random"), optional=True),
        arms.variant("sft", "SFT on the verifier's winners", "SFT", "verifier", sft, optional=True),
    ]


def _rounds(arms: _Arms) -> list[Variant]:
    variant, rounds = arms.variant, arms.rounds
    return [
        variant("verifier-rounds", "DPO by verdict, four rounds, the last two guided", "DPO", "verifier", rounds()),
        variant(
            "sft-rounds",
            "SFT on the verifier's winners, four such rounds",
            "SFT",
            "verifier",
            rounds(kind="sft"),
            optional=True,
        ),
        variant("random-rounds", "DPO, verdicts shuffled, four such rounds", "DPO", "random", rounds("random")),
    ]


def _strengths(arms: _Arms) -> list[Variant]:
    found = [
        ("verifier-gentle", "verifier, beta 200, rate 5e-5", "verifier", 200.0, 5e-5, True),
        ("verifier-stiff", "verifier, beta 1000, rate 2e-4", "verifier", 1000.0, 2e-4, True),
        ("teacher-pairs-lightgen", "teacher's image, LightGen's beta 5000, rate 1e-8", "teacher", 5000.0, 1e-8, False),
    ]
    return [
        arms.variant(
            name, label, "DPO", source, arms.learn(source, arms.dpo(beta=beta, learning_rate=rate)), optional=optional
        )
        for name, label, source, beta, rate, optional in found
    ]


def _flips(arms: _Arms) -> list[Variant]:
    mended = preferred(arms.setting, arms.flipped, arms.seed, source="verifier")
    return [
        arms.variant("flips", "base trained with flips", "none, flips", "none", arms.flipped),
        arms.variant("flips-verifier", "trained with flips, then DPO by verdict", "DPO, flips", "verifier", mended),
    ]


def _better(arms: _Arms) -> list[Variant]:
    """H7 and H8 asked of a better base; made only by name."""
    why_not = cannot_mix(arms.setting)

    def variant(name: str, label: str, method: str, pairs: str, model: Callable[[], Step]) -> Variant:
        return Variant(
            name=name,
            label=f"better base{label}",
            factors={"method": method, "pairs": pairs},
            ends=() if why_not else judged(arms.setting, model()),
            why_not=why_not,
            optional=True,
        )

    def mended() -> Step:
        return preferred(arms.setting, arms.better_flipped, arms.seed, source="verifier")

    return [
        variant("better", ": no preference training", "none, better", "none", lambda: arms.better),
        variant("better-rounds", ", then DPO by verdict, four such rounds", "DPO, better", "verifier",
                lambda: arms.rounds(base=arms.better)),
        variant("better-flips", ", trained with flips", "none, better, flips", "none", lambda: arms.better_flipped),
        variant("better-flips-verifier", " with flips, then DPO by verdict", "DPO, better, flips", "verifier", mended),
    ]  # fmt: skip


def _teacher(arms: _Arms) -> Variant:
    why_not, benchmark = arms.setting.data.cannot_draw, arms.setting.benchmark
    return Variant(
        name="teacher",
        label="the teacher's own pictures",
        factors={"control": "teacher"},
        ends=() if why_not else verdicts(arms.setting, arms.setting.data.drawn(benchmark, benchmark.seed)),
        why_not=why_not,
    )


def _options(arms: _Arms) -> list[Variant]:
    """Everything else that the training offers, made only by name."""
    learn, dpo = arms.learn, arms.dpo
    far = preferred(override(arms.setting, FAR), arms.base, arms.seed, source="verifier", extrapolation=EXTRAPOLATION)
    found: Sequence[tuple[str, str, Step]] = [
        ("verifier-twice", "DPO by verdict, two rounds", learn("verifier", dpo(), dpo())),
        ("verifier-thrice", "DPO by verdict, three rounds", learn("verifier", dpo(), dpo(), dpo())),
        ("verifier-averaged", "DPO by verdict, two policies", learn(policies=2)),
        ("verifier-ipo", "verifier, IPO", learn("verifier", dpo(kind="ipo"))),
        ("verifier-hinge", "verifier, hinge", learn("verifier", dpo(kind="hinge"))),
        ("verifier-simpo", "verifier, SimPO (no reference)", learn("verifier", dpo(kind="simpo"))),
        ("verifier-dpop", "verifier, DPO-positive 5", learn("verifier", dpo(dpop=5.0))),
        ("verifier-sdpo", "verifier, SDPO's safeguard", learn("verifier", dpo(sdpo=True))),
        ("verifier-head", "verifier, head alone", learn("verifier", dpo(train="head"))),
        ("verifier-trunk", "verifier, trunk alone", learn("verifier", dpo(train="trunk"))),
        ("verifier-lora", "verifier, LoRA 8", learn("verifier", dpo(lora_rank=8, learning_rate=5e-4))),
        ("verifier-refresh", "verifier, reference refreshed", learn("verifier", dpo(refresh_every=50))),
    ]
    options = [arms.variant(name, label, "DPO", "verifier", model, optional=True) for name, label, model in found]
    taken_far = arms.variant(
        "verifier-far", "DPO by verdict, taken far", "DPO", "verifier", far, scales=("cpu", "gpu"), optional=True
    )
    return [taken_far, *options]


def _minus(name: str, a: str, b: str, label: str, claim: str, metric: str = "geneval/overall", **more: Any) -> Contrast:
    return Contrast(name=name, label=label, a=a, b=b, claim=claim, metric=metric, **more)


_CONTRASTS = [
    _minus("h7-verifier", "verifier", "base", "DPO by verdict minus base", "H7: DPO lifts the overall score."),
    _minus("h7-rounds", "verifier-rounds", "base", "four rounds of DPO by verdict minus base",
           "H7 with new samples thrice more: DPO lifts the overall score.", primary=True, published_effect=0.09,
           published_source="LightGen, Table 2: 0.53 to 0.62, one model, no interval"),
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
    _minus("h7-better", "better-rounds", "better", "better base: four rounds of DPO by verdict minus none",
           "H7 on a better base: DPO lifts the overall score."),
    _minus("h8-flips-better", "better", "better-flips", "better base: no flips minus flips: position",
           "H8 on a better base: training without flips gives position.", "geneval/position"),
    _minus("h8-dpo-better", "better-flips-verifier", "better-flips",
           "better base: DPO minus base, both with flips: position",
           "H8 on a better base: DPO mends the position that flips broke.", "geneval/position"),
    *(
        _minus(f"h8-rounds{name}", f"{base}-rounds" if name else "verifier-rounds", base,
               f"{words}four rounds of DPO by verdict minus none: position",
               "H8 without flips: DPO with new samples thrice more lifts positions.", "geneval/position",
               published_effect=0.08, published_source="LightGen, Table 2: one model, no interval")
        for name, base, words in (("", "base", ""), ("-better", "better", "better base: "))
    ),
    _minus("h9-spectrum", "base", "detail", "spectrum gap, base minus DPO by detail",
           "H9: DPO restores high frequencies.", "detail/spectrum_gap", smallest_effect=0.1),
    _minus("h9-laplacian", "base", "detail", "Laplacian gap, base minus DPO by detail",
           "H9: DPO restores sharpness.", "detail/laplacian_gap", smallest_effect=0.1),
    _minus("h9-teacher", "base", "teacher-pairs", "spectrum gap, base minus DPO by teacher's images",
           "H9 as LightGen made its pairs.", "detail/spectrum_gap", smallest_effect=0.1),
]  # fmt: skip

# Fewer benchmark prompts leave captions of every task to learn preferences from; each is drawn more often instead. At
# cpu scale the base sees half of the samples of `diversity_sweep`, so that there is something left to gain.
CHANGES: dict[str, dict[str, Any]] = {
    "smoke": {"preference.captions": "all"},
    "cpu": {
        "benchmark.num_prompts": 24,
        "benchmark.copies": 8,
        "preference.captions": "all",
        "preference.prompts": 600,
        "train.samples_seen": 60_000,
    },
    "gpu": {
        "benchmark.num_prompts": 50,
        "benchmark.copies": 8,
        "preference.captions": "all",
        "preference.prompts": 1500,
    },
    "paper": {"preference.limit": 30_000},
}

STUDY = study(
    name="dpo_sweep",
    title="What preference training does",
    question="Does DPO improve a trained model, by which preferences, and does anything cheaper do as well?",
    claim="DPO lifts GenEval overall from 0.53 to 0.62, mends positions and restores high-frequency detail.",
    source="LightGen (arXiv 2503.08619), section 4.2 and Table 2: reported without controls, the training not released",
    variants=variants,
    contrasts=_CONTRASTS,
    settings={name: override(setting, CHANGES[name]) for name, setting in SETTINGS.items()},
)
