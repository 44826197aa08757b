"""What captions of one's own name: prompts of objects that a judge knows, and which training sets name them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from ablations.runner.step import Facts, Folder, Step, Work
from ablations.steps.encode import Encode
from ablations.steps.subsets import Subset, ids_of
from lightgen.disk.json_files import read_json, write_json

UNNAMED = "unnamed"  # of prompts, with an object that no training set's captions name: left out of the scores
READ = 20_000  # captions that a plan reads at most


@dataclass(frozen=True, kw_only=True)
class AskNamed(Step):
    """evaluation_metadata.jsonl: GenEval's prompts of the objects that training captions name and the judge knows."""

    latents: Encode
    detector: Folder
    kind: str  # own: GenEval's generator over these objects; official: those of the 553 that ask for no other
    num_prompts: int  # a task, of own prompts
    seed: int  # of own prompts
    share: float  # that is held out

    @property
    def most(self) -> int:
        """Prompts at most."""
        return 553 if self.kind == "official" else 6 * self.num_prompts

    def run(self, work: Work) -> Facts:
        from geneval.prompts import official_prompts, prompt_suite, write_prompts
        from lightgen.data.pool import read_pool

        pool = read_pool(work.made(self.latents) / "latents")
        trained = set(pool.caption[~pool.held_out(self.share)].tolist())
        classes, named = askable([pool.captions[number] for number in sorted(trained)], known_classes(self.detector))
        official = official_prompts()
        left_out = [prompt for prompt in official if not set(prompt.class_names) <= set(classes)]
        kept = [prompt for prompt in official if set(prompt.class_names) <= set(classes)]
        if self.kind == "own":
            kept = prompt_suite(classes, num_prompts=self.num_prompts, seed=self.seed)
        write_prompts(kept, work.out)
        told = {"classes": classes, "named": named, "official_left_out": len(left_out)}
        return {"prompts": len(kept), **told}


def known_classes(detector: Folder) -> list[str]:
    """GenEval's classes that a detector can find, by its config; all of them where it does not say."""
    from geneval.prompts import OBJECTS

    path = detector.location / "config.json"
    labels = read_json(path).get("id2label", {}) if path.is_file() else {}
    return [name for name in OBJECTS if name in set(labels.values())] if labels else list(OBJECTS)


def askable(captions: Sequence[str], known: Sequence[str]) -> tuple[list[str], int]:
    """(classes that some caption names and the judge knows, number of GenEval's classes that are named). ValueError for
    fewer than two: then GenEval has nothing to ask."""
    named = classes_named(captions)
    classes = [name for name in known if name in named]
    _refuse_too_few(classes, len(named))
    return classes, len(named)


def classes_named(captions: Sequence[str]) -> set[str]:
    """GenEval's classes that some caption names."""
    from geneval.prompts import OBJECTS
    from lightgen.data.mentions import Vocabulary

    vocabulary = Vocabulary(OBJECTS)
    return set[str]().union(*(vocabulary.mentions(caption).objects for caption in captions))


def _refuse_too_few(classes: Sequence[str], named: int) -> None:
    if len(set(classes) - {"person"}) < 2:
        raise ValueError(
            f"the captions name {named} of GenEval's classes, of which the judge knows {len(classes)}"
            f" ({', '.join(classes) or 'none'}); GenEval asks for two at least: give a judge that knows more"
            " (components.detector=FOLDER), captions that name what it knows, or do without (benchmark.prompts=none)"
        )


def captioned(dataset: Path, detector: Folder) -> dict[str, Any]:
    """What the captions of a data set name, before anything is made: {"captions": read, "of", "named": classes of
    GenEval's, "known": those of them that the judge knows, "official_left_out"}.

    Of a large data set some shards are read, evenly over it. ValueError where all were and GenEval has nothing to ask.
    """
    from lightgen.disk.json_files import content_sha256

    return _captioned(dataset, content_sha256(dataset / "manifest.json"), tuple(known_classes(detector)))


@lru_cache(maxsize=4)
def _captioned(dataset: Path, identity: str, known: tuple[str, ...]) -> dict[str, Any]:
    from geneval.prompts import official_prompts
    from lightgen.data.shards import read_manifest, read_shard_prompts

    shards = read_manifest(dataset)["shards"]
    step, captions = max(1, sum(shard["samples"] for shard in shards) // READ), list[str]()
    for shard in shards[::step]:
        captions += read_shard_prompts(dataset / shard["file"])
    named = classes_named(captions)
    classes = [name for name in known if name in named]
    if step == 1:
        _refuse_too_few(classes, len(named))
    left_out = [prompt for prompt in official_prompts() if not set(prompt.class_names) <= set(classes)]
    told = {"named": sorted(named), "known": classes, "official_left_out": len(left_out)}
    return {"captions": len(captions), "of": sum(shard["samples"] for shard in shards), **told}


@dataclass(frozen=True, kw_only=True)
class SplitPrompts(Step):
    """splits.json: each prompt by how many of the arms have a caption that names what it asks for together.

    Prompts with an object that no arm's captions name at all are a split of their own, which no score counts; of each
    arm the facts say how many prompts it names the objects of, and of how many all together.
    """

    version: ClassVar[int] = 2

    prompts: Step
    arms: tuple[Subset, ...]

    def run(self, work: Work) -> Facts:
        from geneval.prompts import read_prompts
        from lightgen.data.pool import read_pool

        asked = read_prompts(work.made(self.prompts) / "evaluation_metadata.jsonl")
        pool = read_pool(work.made(self.arms[0].latents) / "latents")
        together, alone, arms = [], [], []
        for arm in self.arms:
            numbers = sorted(set(pool.caption[ids_of(arm, work.made)].tolist()))
            captions = [pool.captions[number] for number in numbers]
            together.append(named_together(asked, captions))
            named = classes_named(captions)
            alone.append({prompt.line(): set(prompt.class_names) <= named for prompt in asked})
            unnamed = len(asked) - sum(alone[-1].values())
            arms.append({"subset": arm.key, "unnamed": unnamed, "together": sum(together[-1].values())})
        splits = split_of([prompt.line() for prompt in asked], together, alone)
        write_json(work.out / "splits.json", {line: {"split": split} for line, split in splits.items()})
        told = list(splits.values())
        return {**{name: told.count(name) for name in ("shared", "diverse", "unseen", UNNAMED)}, "arms": arms}


def split_of(
    lines: Sequence[str], together: Sequence[Mapping[str, bool]], alone: Sequence[Mapping[str, bool]]
) -> dict[str, str]:
    """{prompt: split}, of what each arm names together and of what it names at all. Where no arm names any prompt's
    objects, none is left out: there would be nothing to score."""
    counts = {line: sum(found[line] for found in together) for line in lines}
    names = {0: "unseen", len(together): "shared"}
    splits = {line: names.get(count, "diverse") for line, count in counts.items()}
    unnamed = [line for line in lines if not any(found[line] for found in alone)]
    return {**splits, **dict.fromkeys(unnamed if len(unnamed) < len(lines) else (), UNNAMED)}


def named_together(prompts: Sequence[Any], captions: Sequence[str]) -> Mapping[str, bool]:
    """{prompt's line: whether some caption names its objects together, with its colors, counts and relation}."""
    from geneval.prompts import OBJECTS
    from lightgen.data.mentions import Vocabulary

    vocabulary = Vocabulary(OBJECTS)
    mentions = [vocabulary.mentions(caption) for caption in captions]
    return {prompt.line(): any(_names(found, prompt.include) for found in mentions) for prompt in prompts}


def _names(found: Any, clauses: Sequence[Any]) -> bool:
    for clause in clauses:
        name = clause.class_name
        if name not in found.objects or (clause.color and (name, clause.color) not in found.colors):
            return False
        if clause.count > 1 and (name, clause.count) not in found.counts:
            return False
        if clause.position:
            relation, other = clause.position
            if (name, relation, clauses[other].class_name) not in found.relations:
                return False
    return True
