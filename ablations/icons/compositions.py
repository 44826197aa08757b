"""Which combinations of classes, colors, counts and relations a data set may contain: the diversity of a study.

A caption is a composition of pairs: (class, color), (class, class), (class, count) and, in a relation, a direction.
Pairs of a kind stand in an order, and a data set holds the first of them up to its level of diversity:

* `narrow`: about a third of each kind; `some` and `many` lie between, evenly; `diverse`: all but the unseen ones;
* `unseen` pairs are in no data set, whatever the draw; the benchmark asks for them all the same.

Draw 0 of the order is fixed by arithmetic on the world's lists; other draws put other pairs first, so that a narrow set
is one of many. A caption's split is that of its rarest pair: `shared` (in the narrow sets of that draw too), `diverse`,
or `unseen`. Objects whose color a caption leaves open take only colors that the data set may show with that class;
otherwise a narrow set would leak what it is said to lack.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import permutations
from typing import Any

import numpy as np

from ablations.icons.scenes import Request, request
from ablations.icons.world import RELATIONS, TASKS, World

SPLITS = ("shared", "diverse", "unseen")
LEVELS: dict[str, float] = {"narrow": 0.0, "some": 1 / 3, "many": 2 / 3, "diverse": 1.0, "all": math.inf}
_COLORS, _COUNTS, _RELATIONS, _RING = range(4)  # which of a draw's orders


def color_split(world: World, name: str, color: str, draw: int = 0) -> str:
    """The split of a class in a color."""
    return _split(_color_level(world, name, color, draw))


def split_of(asked: Request, world: World, draw: int = 0) -> str:
    """The rarest of a caption's pairs: "shared", "diverse" or "unseen"."""
    return _split(level_of(asked, world, draw))


def level_of(asked: Request, world: World, draw: int = 0) -> float:
    """From which level of diversity on data sets may hold the caption: 0 to 1, infinite where none may."""
    clauses = asked["include"]
    found = [_count_level(world, clause["class"], clause["count"], draw) for clause in clauses]
    found += [_color_level(world, clause["class"], clause["color"], draw) for clause in clauses if "color" in clause]
    if len(clauses) == 2 and clauses[0]["class"] != clauses[1]["class"]:
        found.append(_pair_level(world, clauses[0]["class"], clauses[1]["class"], draw))
    found += [_relation_level(world, c["class"], c["position"][0], draw) for c in clauses if "position" in c]
    return max(found)


def _color_level(world: World, name: str, color: str, draw: int) -> float:
    """Each class has a third of the colors (at least one) in the narrow sets and one color that no set shows."""
    total, index = len(world.colors), world.classes.index(name)
    step = (world.colors.index(color) - index) % total
    seen = total - 1 if total > 2 else total
    return _level(step, seen, max(1, total // 3), (draw, _COLORS, index))


def _pair_level(world: World, one: str, other: str, draw: int) -> float:
    """Classes lie on a ring: narrow sets show near neighbors together, no set shows opposite ones together."""
    total = len(world.classes)
    ring = _ring(total, draw)
    apart = abs(ring[world.classes.index(one)] - ring[world.classes.index(other)])
    distance = min(apart, total - apart)
    seen = total // 2 - 1 if total > 3 else max(1, total // 2)
    return _level(distance - 1, seen, max(1, total // 8), None)


def _count_level(world: World, name: str, count: int, draw: int) -> float:
    """Narrow sets show each class in one number above one; every fourth class has a number that no set shows."""
    index, numbers = world.classes.index(name), world.max_count - 1
    if count == 1:
        return 0.0
    seen = numbers - 1 if index % 4 == 1 else numbers
    return _level((count - 2 - index) % numbers, seen, 1, (draw, _COUNTS, index))


def _relation_level(world: World, name: str, relation: str, draw: int) -> float:
    """Narrow sets show each class as the subject of two of the four relations."""
    place, turned = RELATIONS.index(relation), world.classes.index(name) % 2
    return _level((place + 2 * turned) % 4, 4, 2, (draw, _RELATIONS, world.classes.index(name)))


def _level(place: int, seen: int, narrow: int, draw: tuple[int, int, int] | None) -> float:
    """The level at which the pair at `place` is let in: 0 for the `narrow` first, 1 for the last of those `seen`."""
    if place >= seen:
        return math.inf
    if draw is not None and draw[0]:
        place = int(np.random.default_rng(draw).permutation(seen)[place])
    return 0.0 if place < narrow else (place - narrow + 1) / (seen - narrow)


@lru_cache(maxsize=64)
def _ring(total: int, draw: int) -> tuple[int, ...]:
    """The place of each class on the ring. In another draw opposite ones change places with other opposite ones, so
    that what no set shows stays the same; a ring of an odd number of classes has no opposites and stays as it is."""
    places = list(range(total))
    if draw == 0 or total % 2 or total < 4:
        return tuple(places)
    rng, half = np.random.default_rng((draw, _RING)), total // 2
    for one, taken in enumerate(rng.permutation(half)):
        turned = int(rng.integers(2)) * half
        places[one], places[one + half] = int(taken) + turned, (int(taken) + turned + half) % total
    return tuple(places)


def _split(level: float) -> str:
    return "shared" if level == 0 else "unseen" if math.isinf(level) else "diverse"


@lru_cache(maxsize=256)
def colors_of(world: World, diversity: str, draw: int, name: str) -> tuple[str, ...]:
    """The colors that a data set of this diversity may show with a class."""
    most = level(diversity)
    return tuple(color for color in world.colors if _color_level(world, name, color, draw) <= most)


def level(diversity: str) -> float:
    """Which pairs a data set of this diversity contains, 0 to 1; ValueError lists the diversities."""
    if diversity not in LEVELS:
        raise ValueError(f"unknown diversity {diversity!r}; there are: {', '.join(LEVELS)}")
    return LEVELS[diversity]


@lru_cache(maxsize=16)
def compositions(world: World, diversity: str, draw: int = 0) -> Mapping[str, tuple[dict[str, Any], ...]]:
    """Every caption of the world that a data set of this diversity may contain, by task."""
    most = level(diversity)
    return {
        task: tuple(asked for asked in _captions(world, task) if level_of(asked, world, draw) <= most) for task in TASKS
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
