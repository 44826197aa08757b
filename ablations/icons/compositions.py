"""Which combinations of classes, colors, counts and relations a data set may contain: the diversity of a study.

A caption is a composition of pairs: (class, color), (class, class), (class, count) and, in a relation, a direction.
Every pair belongs to one of three groups, fixed by arithmetic on the world's lists, without a seed:

* `shared`: in every training set, narrow ones too;
* `diverse`: only in the diverse training sets;
* `unseen`: in none; the benchmark asks for it all the same.

A caption belongs to the rarest group among its pairs. Objects whose color a caption leaves open take only colors that
the data set may show with that class; otherwise a narrow set would leak what it is said to lack.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import permutations
from typing import Any

from ablations.icons.scenes import Request, request
from ablations.icons.world import RELATIONS, TASKS, World

SPLITS = ("shared", "diverse", "unseen")
DIVERSITIES: dict[str, tuple[str, ...]] = {
    "narrow": ("shared",),
    "diverse": ("shared", "diverse"),
    "all": SPLITS,
}


def color_split(world: World, name: str, color: str) -> str:
    """Each class has a third of the colors (at least one) in the narrow sets and one color that no set shows."""
    total = len(world.colors)
    step = (world.colors.index(color) - world.classes.index(name)) % total
    return _split(step < max(1, total // 3), step == total - 1 and total > 2)


def pair_split(world: World, one: str, other: str) -> str:
    """Classes lie on a ring: narrow sets show near neighbors together, no set shows opposite ones together."""
    total = len(world.classes)
    apart = abs(world.classes.index(one) - world.classes.index(other))
    distance = min(apart, total - apart)
    return _split(distance <= max(1, total // 8), distance == total // 2 and total > 3)


def count_split(world: World, name: str, count: int) -> str:
    """Narrow sets show each class in one number above one; every fourth class has a number that no set shows."""
    index, numbers = world.classes.index(name), world.max_count - 1
    step = (count - 2 - index) % numbers
    return _split(count == 1 or step == 0, step == numbers - 1 and index % 4 == 1)


def _split(narrow: bool, unseen: bool) -> str:
    return "shared" if narrow else "unseen" if unseen else "diverse"


def split_of(asked: Request, world: World) -> str:
    """The rarest of a caption's pairs: "shared", "diverse" or "unseen"."""
    clauses = asked["include"]
    found = [count_split(world, clause["class"], clause["count"]) for clause in clauses]
    found += [color_split(world, clause["class"], clause["color"]) for clause in clauses if "color" in clause]
    if len(clauses) == 2 and clauses[0]["class"] != clauses[1]["class"]:
        found.append(pair_split(world, clauses[0]["class"], clauses[1]["class"]))
    for clause in clauses:
        if "position" in clause:  # narrow sets show each class as the subject of two of the four relations
            subject = world.classes.index(clause["class"])
            found.append(_split((RELATIONS.index(clause["position"][0]) // 2 + subject) % 2 == 0, False))
    return max(found, key=SPLITS.index)


@lru_cache(maxsize=64)
def colors_of(world: World, diversity: str, name: str) -> tuple[str, ...]:
    """The colors that a data set of this diversity may show with a class."""
    return tuple(color for color in world.colors if color_split(world, name, color) in allowed(diversity))


def allowed(diversity: str) -> tuple[str, ...]:
    """The splits that a data set of this diversity contains; ValueError lists the diversities."""
    if diversity not in DIVERSITIES:
        raise ValueError(f"unknown diversity {diversity!r}; there are: {', '.join(DIVERSITIES)}")
    return DIVERSITIES[diversity]


@lru_cache(maxsize=16)
def compositions(world: World, diversity: str) -> Mapping[str, tuple[dict[str, Any], ...]]:
    """Every caption of the world that a data set of this diversity may contain, by task."""
    inside = allowed(diversity)
    return {
        task: tuple(asked for asked in _captions(world, task) if split_of(asked, world) in inside) for task in TASKS
    }


def _captions(world: World, task: str) -> Iterator[dict[str, Any]]:
    one = [{"class": name, "count": 1} for name in world.classes]
    if task == "single_object":
        yield from (request(task, clause) for clause in one)
    elif task == "counting":
        for clause in one:
            for count in range(2, world.max_count + 1):
                yield request(task, {**clause, "count": count})
    elif task == "colors":
        yield from (request(task, {**clause, "color": color}) for clause in one for color in world.colors)
    elif task == "two_object":
        yield from (request(task, a, b) for a, b in permutations(one, 2))
    elif task == "position":
        for a, b in permutations(one, 2):
            for relation in RELATIONS:
                yield request(task, a, {**b, "position": (relation, 0)})
    else:
        for a, b in permutations(one, 2):
            for first in world.colors:
                for second in world.colors:
                    if first != second:
                        yield request(task, {**a, "color": first}, {**b, "color": second})
