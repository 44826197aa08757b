"""Which prompts a model is judged on, which split each belongs to, and which captions preferences are learned from."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ablations.icons.compositions import compositions, split_of
from ablations.icons.render import DatasetConfig, sample_scenes
from ablations.icons.scenes import request
from ablations.icons.world import RELATIONS, World, world
from geneval.prompts import Prompt, official_prompts, prompt_suite
from geneval.random_stream import RandomStream

Splits = Mapping[str, Mapping[str, str]]  # {metadata as results.jsonl has it: {"split": ...}}


class PromptSet(Protocol):
    """Prompts that a verdict can be asked of, and the split of each where there are splits."""

    def prompts(self) -> list[Prompt]: ...

    def splits(self, draw: int = 0) -> Splits:
        """By what training sets hold; `draw` is that of the narrower ones."""
        ...


@dataclass(frozen=True, kw_only=True)
class OfficialPrompts:
    """GenEval's own 553; asked of no world, they have no splits."""

    def prompts(self) -> list[Prompt]:
        return list(official_prompts())

    def splits(self, draw: int = 0) -> Splits:
        return {}


@dataclass(frozen=True, kw_only=True)
class IconPrompts:
    """GenEval's generator run over a world's classes and colors; or colored, the two forms that it leaves uncolored."""

    world: str
    num_prompts: int  # a task, before duplicates are dropped
    seed: int
    templates: Literal["geneval", "colored"] = "geneval"  # colored: no training set has captions of such a form

    def prompts(self) -> list[Prompt]:
        here = world(self.world)
        if self.templates == "colored":
            return list(dict.fromkeys(_colored(here, self.num_prompts, RandomStream(self.seed))))
        return prompt_suite(here.classes, colors=here.colors, num_prompts=self.num_prompts, seed=self.seed)

    def splits(self, draw: int = 0) -> Splits:
        return split_by_prompt(self.prompts(), self.world, draw)


def _colored(here: World, count: int, stream: RandomStream) -> Iterator[Prompt]:
    """Numbers of colored things ("two red cups"), then colored things side by side ("a red cup left of a blue car")."""
    classes, colors = here.classes, here.colors
    for _ in range(count):
        name, color = classes[stream.below(len(classes))], colors[stream.below(len(colors))]
        clause = {"class": name, "count": 2 + stream.below(here.max_count - 1), "color": color}
        yield Prompt.from_metadata(_plain(request("counting", clause)))
    for _ in range(count):
        clauses = [
            {"class": classes[kind], "count": 1, "color": colors[color]}
            for kind, color in zip(stream.choice(len(classes), 2), stream.choice(len(colors), 2), strict=True)
        ]
        placed = {**clauses[1], "position": (RELATIONS[stream.below(len(RELATIONS))], 0)}
        yield Prompt.from_metadata(_plain(request("position", clauses[0], placed)))


class Captions(Protocol):
    """Where captions to learn preferences from are taken."""

    def candidates(self) -> Iterable[Prompt]: ...


@dataclass(frozen=True, kw_only=True)
class TrainingCaptions:
    """The captions of an icon data set: so a narrow model gets no composition that its data lacked."""

    dataset: DatasetConfig

    def candidates(self) -> Iterator[Prompt]:
        for scene in sample_scenes(self.dataset):
            yield Prompt.from_metadata(_plain(dict(scene.request)))


@dataclass(frozen=True, kw_only=True)
class AllCaptions:
    """Every caption of a world: a preference needs no picture of the teacher."""

    world: str

    def candidates(self) -> Iterator[Prompt]:
        for requests in compositions(world(self.world), "all").values():
            yield from (Prompt.from_metadata(_plain(dict(request))) for request in requests)


def learning_prompts(candidates: Iterable[Prompt], benchmark: Sequence[Prompt], count: int, seed: int) -> list[Prompt]:
    """Candidates that no benchmark prompt has, of each task the same share of `count`, or as many as there are; tasks
    in turn. ValueError where none is left."""
    asked = {prompt.prompt for prompt in benchmark}
    found: dict[str, dict[str, Prompt]] = {}
    for prompt in candidates:
        if prompt.prompt not in asked:
            found.setdefault(prompt.tag, {}).setdefault(prompt.prompt, prompt)
    if not found:
        raise ValueError("no caption is outside the benchmark: nothing to learn a preference from")
    groups = [list(group.values()) for _, group in sorted(found.items())]
    rng = random.Random(seed)
    for group in groups:
        rng.shuffle(group)
    share = -(-count // len(groups))
    return [group[place] for place in range(share) for group in groups if place < len(group)][:count]


def split_by_prompt(prompts: Sequence[Prompt], name: str, draw: int = 0) -> dict[str, dict[str, str]]:
    """The split of each prompt in the world of that name."""
    return {prompt.line(): {"split": split_of(prompt.metadata(), world(name), draw)} for prompt in prompts}


def copies_by_task(prompts: Sequence[Prompt], copies: int, most: int) -> dict[str, int]:
    """Samples a prompt for each task: `copies`, and up to `most` where a task has fewer prompts than others, so that
    all tasks get about as many samples."""
    counts = Counter(prompt.tag for prompt in prompts)
    return {task: min(most, round(copies * max(counts.values()) / count)) for task, count in counts.items()}


def shown_prompts(prompts: Sequence[Prompt], splits: Splits, count: int) -> list[int]:
    """Numbers of the prompts whose pictures a report shows: tasks and splits in turn, the same in every cell."""
    groups: dict[tuple[str, str], list[int]] = {}
    for index, prompt in enumerate(prompts):
        groups.setdefault((prompt.tag, splits.get(prompt.line(), {}).get("split", "")), []).append(index)
    longest = max(len(group) for group in groups.values())
    in_turn = [group[place] for place in range(longest) for group in groups.values() if place < len(group)]
    return sorted(in_turn[:count])


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """The record with lists where the world has tuples, as JSON would give it."""
    clauses = [{k: list(v) if isinstance(v, tuple) else v for k, v in c.items()} for c in record["include"]]
    return {**record, "include": clauses}
