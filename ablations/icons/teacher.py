"""The exact teacher: draws what a caption says, nothing else, and knows every object's box and mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ablations.icons.glyphs import COLORS, glyph, silhouette
from ablations.icons.scenes import Scene, arrange, parse
from ablations.icons.world import World

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Drawing:
    """A drawn scene: pixels (H, W, 3) uint8; per object its mask (H, W) bool and box (x0, y0, x1, y1), x1 exclusive."""

    pixels: np.ndarray
    masks: np.ndarray
    boxes: np.ndarray

    @property
    def image(self) -> Image:
        from PIL import Image

        return Image.fromarray(self.pixels)


def draw(scene: Scene, world: World) -> Drawing:
    """The scene's pixels, masks and boxes; later objects cover earlier ones where they overlap."""
    rng = np.random.default_rng((scene.seed, 1))
    canvas = np.full((world.height, world.width, 3), rng.integers(*world.background, endpoint=True), np.float32)
    masks = np.zeros((len(scene.objects), world.height, world.width), bool)
    for index, item in enumerate(scene.objects):
        place = np.s_[item.top : item.top + item.size, item.left : item.left + item.size]
        paint = np.clip(np.array(COLORS[item.color]) + rng.normal(0, world.color_jitter, 3), 0, 255)
        cover = glyph(item.name, item.size)[..., None]
        canvas[place] = canvas[place] * (1 - cover) + paint * cover
        shape = silhouette(item.name, item.size)
        masks[(slice(None), *place)] &= ~shape
        masks[(index, *place)] = shape
    canvas += rng.normal(0, world.noise, canvas.shape)
    return Drawing(np.clip(np.rint(canvas), 0, 255).astype(np.uint8), masks, _boxes(masks))


def _boxes(masks: np.ndarray) -> np.ndarray:
    boxes = np.zeros((len(masks), 4), np.float32)
    for index, mask in enumerate(masks):
        ys, xs = np.nonzero(mask)
        if len(xs):
            boxes[index] = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
    return boxes


class IconTeacher:
    """A `lightgen.data.painters.Teacher`: captions of the icon world's grammar and seeds in, exact pictures out."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.name = f"icon-teacher/{world.name}"

    def __call__(self, captions: Sequence[str], seeds: Sequence[int]) -> list[Image]:
        if len(captions) != len(seeds):
            raise ValueError(f"{len(captions)} captions but {len(seeds)} seeds")
        scenes = (arrange(parse(caption, self.world), self.world, seed) for caption, seed in zip(captions, seeds))
        return [draw(scene, self.world).image for scene in scenes]
