"""The stages and the ways through them.

trained:    teach -> encode -> train [-> samples -> pairs -> prefer] -> generate -> judge -> quality
untrained:  initialize -> generate -> judge -> quality
teacher:    draw -> judge -> quality
and, shared by all: reference, the pictures that FID compares with
"""

from __future__ import annotations

from collections.abc import Mapping

from ablations import judging, learning
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
        function=learning.samples,
        version=1,
        sections=("data", "evaluation", "sampling", "preference", "batch"),
        components=("detector", "clip"),
        seeded=True,
        resumable=True,
        awaited=True,
    ),
    "pairs": Stage(
        function=learning.pairs,
        version=1,
        sections=("preference",),
    ),
    "teacher_pairs": Stage(
        function=learning.teacher_pairs,
        version=1,
        sections=("preference", "sampling", "batch.generate"),
        seeded=True,
        resumable=True,
    ),
    "prefer": Stage(
        function=learning.prefer,
        version=1,
        sections=("dpo",),
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
        version=2,
        sections=("quality.extractor",),
        components=("clip",),
    ),
}


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
    base = [Step("teach", {}), Step("encode", {"dataset": "teach"}), Step("train", {"latents": "encode"})]
    if not preference["enabled"]:
        return [*base, Step("generate", {"model": "train"}), *judged]
    if preference["source"] == "own":
        pairs = [Step("samples", {"model": "train"}), Step("pairs", {"samples": "samples"})]
    else:
        pairs = [Step("teacher_pairs", {"model": "train", "dataset": "teach"})]
    prefer = Step("prefer", {"model": "train", "pairs": pairs[-1].stage})
    return [*base, *pairs, prefer, Step("generate", {"model": "prefer"}), *judged]
