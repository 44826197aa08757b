"""Scenes that contradict their caption by their layout alone: the same objects in another relation or number.

The rejected half of layout pairs. A caption that says nothing of places and numbers has no such scene.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ablations.icons.render import DatasetConfig, sample_scenes
from ablations.icons.scenes import Object, Scene, arrange
from ablations.icons.teacher import draw
from ablations.icons.world import World, world

OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


def wrong_layout(scene: Scene, here: World) -> Scene | None:
    """The scene with its objects moved so that the opposite relation holds, or with one object more or less; None
    where the caption names neither. Classes, colors and sizes stay; a function of the scene alone."""
    clauses = scene.request["include"]
    if any("position" in clause for clause in clauses):
        turned = [
            {**c, "position": (OPPOSITE[c["position"][0]], c["position"][1])} if "position" in c else c for c in clauses
        ]
        return _placed(scene, scene.objects, {**scene.request, "include": turned}, here)
    if scene.request["tag"] == "counting":
        objects = _other_number(scene, here)
        clause = {**clauses[0], "count": len(objects)}
        return _placed(scene, objects, {**scene.request, "include": [clause]}, here)
    return None


def _other_number(scene: Scene, here: World) -> tuple[Object, ...]:
    rng = np.random.default_rng((scene.seed, 2))
    objects = list(scene.objects)
    if len(objects) < here.max_count and rng.integers(2):
        return (*objects, objects[int(rng.integers(len(objects)))])
    objects.pop(int(rng.integers(len(objects))))
    return tuple(objects)


def _placed(scene: Scene, objects: tuple[Object, ...], asked: dict[str, Any], here: World) -> Scene:
    """The objects at new places that fulfil `asked`; the scene keeps its own caption."""
    places = arrange(asked, replace(here, glyph_jitter=0, glyph=max(item.size for item in objects)), scene.seed).objects
    moved = (replace(item, left=place.left, top=place.top) for item, place in zip(objects, places, strict=True))
    return Scene(scene.request, tuple(moved), scene.seed)


def render_wrong_layouts(config: DatasetConfig, out: Path) -> dict[str, Any]:
    """Draw, under the keys of the data set of the same `config`, the wrong layout of each scene that has one."""
    from lightgen.data.shards import Sample, write_shards

    here = world(config.world)

    def samples() -> Iterator[Sample]:
        for index, scene in enumerate(sample_scenes(config)):
            if wrong := wrong_layout(scene, here):
                record = {"prompt": scene.request["prompt"], "tag": scene.request["tag"], "layout": "wrong"}
                yield Sample(f"{index:08d}", draw(wrong, here).image, record)

    manifest = {"teacher": f"icon-teacher/{here.name}", "config": asdict(config), "layout": "wrong"}
    return write_shards(samples(), out, manifest=manifest)
