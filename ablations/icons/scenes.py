"""Captions and scenes: what a caption asks for, and one exact arrangement of objects that fulfils it.

A request is GenEval's own prompt record, `{"tag", "include": [{"class", "count", "color"?, "position"?}], "prompt"}`,
so that a scene, a training caption and a benchmark prompt are judged by the same rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ablations.icons.world import RELATIONS, World
from geneval.templates import english_plural

Request = Mapping[str, Any]
NUMBERS = ("zero", "one", "two", "three", "four")


@dataclass(frozen=True)
class Object:
    """One drawn object; `left`, `top` and `size` are pixels of its glyph's square."""

    name: str
    color: str
    left: int
    top: int
    size: int


@dataclass(frozen=True)
class Scene:
    """An arrangement that fulfils `request`; `seed` fixes background, noise and color jitter."""

    request: Request
    objects: tuple[Object, ...]
    seed: int


def article(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def plural(word: str) -> str:
    return word + ("es" if word.endswith("s") else "s")


def request(tag: str, *clauses: Mapping[str, Any]) -> dict[str, Any]:
    """GenEval's prompt record for these clauses, with GenEval's wording.

    What is counted or placed may be colored, which GenEval does not ask for.
    """
    first = clauses[0]
    named = [" ".join(filter(None, (clause.get("color"), clause["class"]))) for clause in clauses]
    if tag == "counting":
        prompt = f"a photo of {NUMBERS[first['count']]} {plural(named[0])}"
    elif tag == "position":
        prompt = f"a photo of {article(named[1])} {clauses[1]['position'][0]} {article(named[0])}"
    else:
        prompt = "a photo of " + " and ".join(article(name) for name in named)
    record: dict[str, Any] = {"tag": tag, "include": [dict(clause) for clause in clauses]}
    if tag == "counting":
        record["exclude"] = [{"class": first["class"], "count": first["count"] + 1}]
    return {**record, "prompt": prompt}


def parse(caption: str, world: World) -> dict[str, Any]:
    """What a caption of the grammar asks for; ValueError for any other text or for what the world does not have."""
    text = caption.strip().lower().removeprefix("a photo of ")
    names = "|".join(re.escape(name) for name in sorted(world.classes, key=len, reverse=True))
    thing = rf"an? (?:(?P<color{{0}}>{'|'.join(world.colors)}) )?(?P<name{{0}}>{names})"
    plurals = {spelled: name for name in world.classes for spelled in (plural(name), english_plural(name))}
    maybe = f"(?:({'|'.join(world.colors)}) )?"
    if match := re.fullmatch(rf"(two|three|four) {maybe}({'|'.join(map(re.escape, plurals))})", text):
        of_color = {"color": match[2]} if match[2] else {}
        return request("counting", {"class": plurals[match[3]], "count": NUMBERS.index(match[1]), **of_color})
    if match := re.fullmatch(rf"{thing.format(1)}(?: (and|{'|'.join(RELATIONS)}) {thing.format(2)})?", text):
        joint, parts = match[3], match.groupdict()
        clauses = [
            {"class": parts[f"name{i}"], "count": 1} | ({"color": color} if (color := parts[f"color{i}"]) else {})
            for i in (1, 2)
            if parts[f"name{i}"]
        ]
        colored = all("color" in clause for clause in clauses)
        if joint is None:
            return request("colors" if colored else "single_object", *clauses)
        if joint == "and":
            return request("color_attr" if colored else "two_object", *clauses)
        return request("position", clauses[1], {**clauses[0], "position": (joint, 0)})
    raise ValueError(
        f"caption {caption[:80]!r} is not of the icon world's grammar, for example "
        f"'a photo of {article(world.colors[0] + ' ' + world.classes[0])}'; classes: {', '.join(world.classes)}"
    )


def arrange(
    asked: Request,
    world: World,
    seed: int,
    colors_of: Callable[[str], tuple[str, ...]] | None = None,
) -> Scene:
    """A random scene that fulfils the request; objects without a stated color take one of `colors_of(class)`."""
    rng = np.random.default_rng(seed)
    choices = colors_of or (lambda name: world.colors)
    wanted: list[tuple[str, str | None]] = []
    for clause in asked["include"]:
        wanted += [(clause["class"], clause.get("color"))] * clause["count"]
    relation = next((clause["position"][0] for clause in asked["include"] if "position" in clause), None)
    sizes = [world.glyph - int(rng.integers(world.glyph_jitter + 1)) for _ in wanted]
    corners = _free_corners(world, sizes, relation, rng) if world.free else _cell_corners(world, sizes, relation, rng)
    objects = []
    for (name, color), (left, top), size in zip(wanted, corners, sizes):
        allowed = choices(name)
        objects.append(Object(name, color or allowed[int(rng.integers(len(allowed)))], left, top, size))
    return Scene(asked, tuple(objects), seed)


def _fulfils(relation: str | None, target: tuple[float, float], subject: tuple[float, float]) -> bool:
    """GenEval's position rule for centers, kept clear of its 60 degree boundary so that jitter cannot cross it."""
    return relation is None or _cosine(relation, target, subject) > 0.6


def _cosine(relation: str, target: tuple[float, float], subject: tuple[float, float]) -> float:
    """Of the angle between the relation's direction and the one from target to subject."""
    dx, dy = subject[0] - target[0], subject[1] - target[1]
    return {"left of": -dx, "right of": dx, "above": -dy, "below": dy}[relation] / max(np.hypot(dx, dy), 1e-9)


def dense_caption(scene: Scene) -> str:
    """All that is to be seen, in the same words: every object with its color, and where one of two lies."""
    things = [article(f"{item.color} {item.name}") for item in scene.objects]
    if len(things) != 2:
        return "a photo of " + " and ".join(things)
    asked = next((clause["position"][0] for clause in scene.request["include"] if "position" in clause), None)
    centers = [(item.left + item.size / 2, item.top + item.size / 2) for item in scene.objects]
    fitting = [relation for relation in RELATIONS if _fulfils(relation, centers[0], centers[1])]
    relation = asked or max(fitting, key=lambda one: _cosine(one, centers[0], centers[1]), default="and")
    return f"a photo of {things[1]} {relation} {things[0]}"


def _cell_corners(world: World, sizes: list[int], relation: str | None, rng: np.random.Generator):
    cells = world.rows * world.columns
    while True:
        chosen = rng.permutation(cells)[: len(sizes)]
        centers = [(int(cell) % world.columns + 0.5, int(cell) // world.columns + 0.5) for cell in chosen]
        if len(sizes) < 2 or _fulfils(relation, centers[0], centers[1]):
            break
    corners = []
    for (column, row), size in zip(centers, sizes):
        slack = world.cell - size
        corners.append(
            (
                int((column - 0.5) * world.cell) + int(rng.integers(slack + 1)),
                int((row - 0.5) * world.cell) + int(rng.integers(slack + 1)),
            )
        )
    return corners


def _free_corners(world: World, sizes: list[int], relation: str | None, rng: np.random.Generator):
    for _ in range(10_000):
        corners = [(int(rng.integers(world.width - s + 1)), int(rng.integers(world.height - s + 1))) for s in sizes]
        centers = [(x + s / 2, y + s / 2) for (x, y), s in zip(corners, sizes)]
        apart = all(
            max(abs(a[0] - b[0]), abs(a[1] - b[1])) >= (sizes[i] + sizes[j]) / 2
            for i, a in enumerate(centers)
            for j, b in enumerate(centers[:i])
        )
        if apart and (len(sizes) < 2 or _fulfils(relation, centers[0], centers[1])):
            return corners
    raise ValueError(f"world {world.name!r}: no room for {len(sizes)} objects of up to {max(sizes)} px")
