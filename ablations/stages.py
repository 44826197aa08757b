"""The stages and the ways through them.

trained:    teach -> encode -> train [-> pairs of a source -> prefer] [-> retune] -> generate -> judge -> quality
untrained:  initialize -> generate -> judge -> quality
teacher:    draw -> judge -> quality
and, shared by all: reference, the pictures that FID compares with
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

from ablations import judging, learning, preferring
from ablations.cells import Stage, Step
from ablations.study import Recipe

_ASKED = ("data.world", "evaluation")

# A version is raised when the stage's code changes what it writes.
STAGES: Mapping[str, Stage] = {
    "teach": Stage(
        function=learning.teach,
        version=1,
        sections=("data",),
        seeded=True,
        resumable=True,
        awaited=True,
    ),
    "encode": Stage(
        function=learning.encode,
        version=1,
        sections=("encode", "model.max_text_length", "model.attend_to_padding"),
        components=("vae", "text"),
        resumable=True,
        awaited=True,
    ),
    "train": Stage(
        function=learning.train,
        version=1,
        sections=("model", "train"),
        components=("vae", "text"),
        seeded=True,
        resumable=True,
        awaited=True,
    ),
    "initialize": Stage(
        function=learning.initialize,
        version=1,
        sections=("model",),
        components=("vae", "text"),
        seeded=True,
    ),
    "samples": Stage(
        function=preferring.samples,
        version=2,
        sections=(
            "data",
            "evaluation",
            "sampling",
            *(f"preference.{n}" for n in ("captions", "prompts", "copies", "max_copies")),
            "batch",
        ),
        components=("detector", "clip"),
        seeded=True,
        resumable=True,
        awaited=True,
    ),
    "verifier_pairs": Stage(
        function=preferring.pairs,
        version=2,
        sections=tuple(f"preference.{name}" for name in ("copies", "per_prompt", "min_gap", "per_task")),
        awaited=True,
    ),
    "random_pairs": Stage(
        function=preferring.shuffled_pairs,
        version=1,
        seeded=True,
    ),
    "teacher_pairs": Stage(
        function=preferring.teacher_pairs,
        version=2,
        sections=("preference.limit", "sampling", "batch.generate"),
        seeded=True,
        resumable=True,
        awaited=True,
    ),
    "detail_pairs": Stage(
        function=preferring.detail_pairs,
        version=1,
        sections=("preference.limit", "preference.damages"),
        components=("vae",),
        seeded=True,
        resumable=True,
    ),
    "layout_pairs": Stage(
        function=preferring.layout_pairs,
        version=1,
        sections=("preference.limit", "data"),
        seeded=True,
        resumable=True,
    ),
    "retune": Stage(
        function=preferring.retune,
        version=1,
        sections=("data", "evaluation", "sampling", "retune", "preference.captions", "batch"),
        components=("detector", "clip"),
        seeded=True,
        resumable=True,
    ),
    "prefer": Stage(
        function=learning.prefer,
        version=2,
        sections=("dpo", "preference.policies", "preference.extrapolation"),
        neutral={"dpo.guidance_scale": 1.0, "preference.policies": 1, "preference.extrapolation": 1.0},
        seeded=True,
        resumable=True,
        awaited=True,
    ),
    "generate": Stage(
        function=judging.generate,
        version=1,
        sections=(*_ASKED, "sampling", "batch.generate"),
        resumable=True,
    ),
    "draw": Stage(
        function=judging.draw,
        version=1,
        sections=_ASKED,
    ),
    "reference": Stage(
        function=judging.reference,
        version=2,
        sections=(*_ASKED, "data.shards", "quality.extractor"),
        components=("clip",),
    ),
    "judge": Stage(
        function=judging.judge,
        version=1,
        sections=(*_ASKED, "batch.detect"),
        components=("detector", "clip"),
        resumable=True,
    ),
    "quality": Stage(
        function=judging.quality,
        version=3,
        sections=("quality.extractor",),
        components=("clip",),
    ),
}


# Further rounds on own samples: the same work, from what the round before made; the last ones may have settings of
# their own, and are called finish, finish_2, ...
ROUNDS = 4
FINISHES = ("finish", *(f"finish_{number}" for number in range(2, ROUNDS)))
STAGES = {
    **STAGES,
    **{
        f"{name}_{turn}": replace(STAGES[name], function=preferring.samples_of_round(turn))
        if name == "samples"
        else STAGES[name]
        for turn in range(2, ROUNDS + 1)
        for name in ("samples", "verifier_pairs", "random_pairs", "prefer")
    },
    **{
        name: replace(
            STAGES["prefer"],
            sections=(
                *STAGES["prefer"].sections,
                *(f"finish.{name}" for name in ("guidance_scale", "learning_rate", "max_winner_drift")),
            ),
        )
        for name in FINISHES
    },
}

# How the pairs of a source are made; the last step of each is the one whose pairs.jsonl is learned from.
SOURCES: Mapping[str, tuple[Step, ...]] = {
    "verifier": (Step("samples", {"model": "train"}), Step("verifier_pairs", {"samples": "samples"})),
    "random": (
        Step("samples", {"model": "train"}),
        Step("verifier_pairs", {"samples": "samples"}),
        Step("random_pairs", {"pairs": "verifier_pairs"}),
    ),
    "teacher": (Step("teacher_pairs", {"model": "train", "dataset": "teach"}),),
    "detail": (Step("detail_pairs", {"dataset": "teach"}),),
    "layout": (Step("layout_pairs", {"dataset": "teach"}),),
}
ON_POLICY = ("verifier", "random")  # sources of own samples alone, which a model that has moved makes anew


def _rounds(rounds: int, finishes: int) -> list[str]:
    """The stage that trains in each round."""
    plain = ["prefer", *(f"prefer_{turn}" for turn in range(2, rounds - finishes + 1))]
    return [*plain, *FINISHES[:finishes]]


def _round(source: str, turn: int, stage: str, before: str) -> list[Step]:
    """New samples of the preferred model, and training on them with that model as the reference; drift is told from
    the base all the same."""
    pairs = []
    for step in SOURCES[source]:
        inputs = {role: before if role == "model" else f"{made}_{turn}" for role, made in step.inputs.items()}
        pairs.append(Step(f"{step.stage}_{turn}", inputs))
    return [*pairs, Step(stage, {"model": before, "pairs": pairs[-1].stage, "origin": "train"})]


def path(recipe: Recipe) -> list[Step]:
    """The steps of a cell, by the kind of its subject and by where its preferences come from."""
    judged = [
        Step("judge", {"images": "generate"}),
        Step("reference", {}),
        Step("quality", {"images": "generate", "reference": "reference"}),
    ]
    kind, preference = recipe["subject"]["kind"], recipe["preference"]
    if kind == "teacher":
        to_draw = {"generate": "draw"}
        return [Step("draw", {}), *(Step(s.stage, {r: to_draw.get(n, n) for r, n in s.inputs.items()}) for s in judged)]
    if kind == "untrained":
        return [Step("initialize", {}), Step("generate", {"model": "initialize"}), *judged]
    steps = [Step("teach", {}), Step("encode", {"dataset": "teach"}), Step("train", {"latents": "encode"})]
    model = "train"
    if preference["enabled"]:
        if preference["source"] not in SOURCES:
            raise ValueError(f"preference.source is {preference['source']!r}; valid: {', '.join(SOURCES)}")
        rounds, finishes = preference["rounds"], recipe["finish"]["rounds"]
        if not 1 <= rounds <= (ROUNDS if preference["source"] in ON_POLICY else 1):
            raise ValueError(
                f"preference.rounds is {rounds}; valid: 1, and up to {ROUNDS} for the sources {', '.join(ON_POLICY)}"
            )
        if not 0 <= finishes < rounds:
            raise ValueError(f"finish.rounds is {finishes}, must be 0 or fewer than the {rounds} rounds that there are")
        pairs = SOURCES[preference["source"]]
        steps += [*pairs, Step("prefer", {"model": model, "pairs": pairs[-1].stage})]
        trained = _rounds(rounds, finishes)
        model = trained[-1]
        for turn, (before, stage) in enumerate(pairwise(trained), 2):
            steps += _round(preference["source"], turn, stage, before)
    given = {"model": model}
    if recipe["retune"]["enabled"]:
        steps.append(Step("retune", given))
        given = {**given, "sampling": "retune"}
    return [*steps, Step("generate", given), *judged]
