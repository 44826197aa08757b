"""Training pictures of the components: scenes of every kind, whole and degraded."""

from __future__ import annotations

import numpy as np

from ablations.icons.scenes import Object, Scene
from ablations.icons.teacher import Drawing, draw
from ablations.icons.world import World


def random_scene(world: World, rng: np.random.Generator, *, loose: float = 0.0) -> Scene:
    """Zero to four objects of any class and color in cells; with probability `loose` anywhere, overlapping too."""
    count = int(rng.choice(5, p=[0.04, 0.24, 0.36, 0.18, 0.18]))
    same = rng.random() < 0.25
    name = str(rng.choice(world.classes))
    cells = rng.permutation(world.rows * world.columns)
    everywhere = rng.random() < loose
    objects = []
    for index in range(min(count, len(cells))):
        size = world.glyph - int(rng.integers(world.glyph_jitter + 1))
        if everywhere:
            left, top = int(rng.integers(world.width - size + 1)), int(rng.integers(world.height - size + 1))
        else:
            left = int(cells[index]) % world.columns * world.cell + int(rng.integers(world.cell - size + 1))
            top = int(cells[index]) // world.columns * world.cell + int(rng.integers(world.cell - size + 1))
        drawn = name if same else str(rng.choice(world.classes))
        objects.append(Object(drawn, str(rng.choice(world.colors)), left, top, size))
    return Scene({"tag": "", "include": [], "prompt": ""}, tuple(objects), int(rng.integers(2**62)))


def random_drawings(
    world: World, count: int, seed: int | tuple[int, ...], *, loose: float = 0.0
) -> list[tuple[Scene, Drawing]]:
    """`count` random scenes with their drawings."""
    rng = np.random.default_rng(seed)
    scenes = [random_scene(world, rng, loose=loose) for _ in range(count)]
    return [(scene, draw(scene, world)) for scene in scenes]


def stack(drawings: list[tuple[Scene, Drawing]]) -> np.ndarray:
    """Pixels (B, 3, H, W) float32 in [-1, 1]."""
    pixels = np.stack([drawing.pixels for _, drawing in drawings]).astype(np.float32)
    return pixels.transpose(0, 3, 1, 2) / 127.5 - 1


def degrade(pixels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, bool]:
    """A picture (H, W, 3) uint8 blurred, noised, faded or scrambled; True if its objects are past recognition."""
    from scipy.ndimage import gaussian_filter

    kind = rng.choice(["none", "blur", "noise", "fade", "scramble"], p=[0.35, 0.2, 0.2, 0.15, 0.1])
    image: np.ndarray = pixels.astype(np.float32)
    background = np.median(image.reshape(-1, 3), axis=0)
    lost = False
    if kind == "blur":
        sigma = rng.uniform(0.3, 3.0)
        image, lost = gaussian_filter(image, (sigma, sigma, 0)), sigma > 1.8
    elif kind == "noise":
        image = image + rng.normal(0, rng.uniform(2, 25), image.shape)
    elif kind == "fade":
        kept = rng.uniform(0.1, 1.0)
        image, lost = background + (image - background) * kept, kept < 0.3
    elif kind == "scramble":  # pieces of objects that make no object
        piece = 4
        rows, columns = image.shape[0] // piece, image.shape[1] // piece
        tiles = image.reshape(rows, piece, columns, piece, 3).transpose(0, 2, 1, 3, 4).reshape(-1, piece, piece, 3)
        tiles = tiles[rng.permutation(len(tiles))]
        image = tiles.reshape(rows, columns, piece, piece, 3).transpose(0, 2, 1, 3, 4).reshape(image.shape)
        lost = True
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), lost
