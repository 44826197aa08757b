"""Which prompts a cell is judged on, which split each belongs to, and which it may learn preferences from."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ablations.icons.compositions import compositions, split_of
from ablations.icons.render import DatasetConfig, sample_scenes
from ablations.icons.world import world
from geneval.prompts import OBJECTS, Prompt, official_prompts, prompt_suite


def dataset_config(data: Mapping[str, Any], seed: int) -> DatasetConfig:
    """The training set of a cell: its volume is "small" or "large", which the scale puts in numbers."""
    return DatasetConfig(world=data["world"], images=data[data["volume"]], diversity=data["diversity"], seed=seed)


def evaluation_prompts(evaluation: Mapping[str, Any], name: str) -> list[Prompt]:
    """GenEval's prompts: the official 553, or its generator run over the world's classes and colors."""
    if evaluation["prompts"] == "official":
        return list(official_prompts())
    here = world(name)
    return prompt_suite(
        here.classes, colors=here.colors, num_prompts=evaluation["num_prompts"], seed=evaluation["prompt_seed"]
    )


def split_by_prompt(prompts: Sequence[Prompt], name: str, kind: str) -> dict[str, dict[str, str]]:
    """{metadata as results.jsonl has it: {"split": ...}}; official prompts are asked of no world and have no splits."""
    if kind == "official":
        return {}
    return {prompt.line(): {"split": split_of(prompt.metadata(), world(name))} for prompt in prompts}


def preference_prompts(
    data: Mapping[str, Any], seed: int, benchmark: Sequence[Prompt], count: int, *, captions: str = "training"
) -> list[Prompt]:
    """Captions that no benchmark prompt has, of each task the same share of `count`, or as many as there are; tasks in
    turn. For data of the user's own, whose captions no rule can judge, prompts of GenEval's generator.

    `captions` "training" takes them from the cell's own training set, so that a narrow cell gets no composition that
    its data lacked; "all" from the whole world: a preference needs no picture of the teacher.
    """
    if captions not in ("training", "all"):
        raise ValueError(f"preference captions are {captions!r}; valid: training, all")
    asked = {prompt.prompt for prompt in benchmark}
    found: dict[str, dict[str, Prompt]] = {}
    if data["shards"]:
        candidates: Iterable[Prompt] = _generated(seed, count)
    else:
        candidates = _captions(data, seed) if captions == "training" else _all_captions(data)
    for prompt in candidates:
        if prompt.prompt not in asked:
            found.setdefault(prompt.tag, {}).setdefault(prompt.prompt, prompt)
    groups = [list(group.values()) for _, group in sorted(found.items())]
    rng = random.Random(seed)
    for group in groups:
        rng.shuffle(group)
    share = -(-count // max(1, len(groups)))
    return [group[place] for place in range(share) for group in groups if place < len(group)][:count]


def _captions(data: Mapping[str, Any], seed: int) -> Iterator[Prompt]:
    for scene in sample_scenes(dataset_config(data, seed)):
        yield Prompt.from_metadata(_plain(dict(scene.request)))


def _all_captions(data: Mapping[str, Any]) -> Iterator[Prompt]:
    for requests in compositions(world(data["world"]), "all").values():
        yield from (Prompt.from_metadata(_plain(dict(request))) for request in requests)


def _generated(seed: int, count: int) -> list[Prompt]:
    return prompt_suite(OBJECTS, num_prompts=count, seed=1000 + seed)


def copies_by_task(prompts: Sequence[Prompt], copies: int, most: int) -> dict[str, int]:
    """Samples a prompt for each task: `copies`, and up to `most` where a task has fewer prompts than others, so that
    all tasks get about as many samples."""
    counts = Counter(prompt.tag for prompt in prompts)
    return {task: min(most, round(copies * max(counts.values()) / count)) for task, count in counts.items()}


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """The record with lists where the world has tuples, as JSON would give it."""
    clauses = [{k: list(v) if isinstance(v, tuple) else v for k, v in c.items()} for c in record["include"]]
    return {**record, "include": clauses}


def shown_prompts(prompts: Sequence[Prompt], splits: Mapping[str, Mapping[str, str]], count: int) -> list[int]:
    """Numbers of the prompts whose pictures a report shows: tasks and splits in turn, the same in every cell."""
    groups: dict[tuple[str, str], list[int]] = {}
    for index, prompt in enumerate(prompts):
        groups.setdefault((prompt.tag, splits.get(prompt.line(), {}).get("split", "")), []).append(index)
    longest = max(len(group) for group in groups.values())
    in_turn = [group[place] for place in range(longest) for group in groups.values() if place < len(group)]
    return sorted(in_turn[:count])
