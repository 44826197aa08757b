"""A world whose judge is exact: one to three squares of one color in the cells of a small grey picture."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

COLORS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 60, 220), "yellow": (230, 220, 30)}
NUMBERS = {1: "a", 2: "two", 3: "three"}
BACKGROUND = (128, 128, 128)
GRID = 2  # cells a side
CELL = 8  # px


def caption(count: int, color: str) -> str:
    return f"a photo of {NUMBERS[count]} {color} square{'s' if count > 1 else ''}"


def draw(count: int, color: str, generator: random.Random) -> Image.Image:
    """A picture with `count` squares in random cells."""
    image = Image.new("RGB", (GRID * CELL, GRID * CELL), BACKGROUND)
    for cell in generator.sample(range(GRID**2), count):
        image.paste(COLORS[color], _box(cell))
    return image


def dataset(size: int, seed: int) -> Iterator[tuple[str, Image.Image]]:
    """`size` pairs (caption, picture), every count and color equally often."""
    generator = random.Random(seed)
    kinds = [(count, color) for count in NUMBERS for color in COLORS]
    for index in range(size):
        count, color = kinds[index % len(kinds)]
        yield caption(count, color), draw(count, color, generator)


def prompts() -> list[dict[str, Any]]:
    """GenEval metadata of every caption: one square is the task `colors`, more are `counting`."""
    return [_metadata(count, color) for count in NUMBERS for color in COLORS]


def detections(image: Image.Image, filename: str) -> dict[str, Any]:
    """A line of GenEval's detections.jsonl: each cell whose mean color is near one of the palette is a square.

    The confidence is 1 up to 50 grey levels off, and falls to 0 at 150.
    """
    found = [(cell, *_nearest(color)) for cell, color in enumerate(cell_colors(image))]
    squares = [(cell, name, score) for cell, name, score in found if name != "background" and score > 0]
    squares.sort(key=lambda square: -square[2])
    return {
        "filename": filename,
        "size": list(image.size),
        "detections": {"square": [[*map(float, _box(cell)), score] for cell, _, score in squares]},
        "colors": {"square": [name for _, name, _ in squares]},
        "detector": {"name": "cell means"},
    }


def cell_colors(image: Image.Image) -> np.ndarray:
    """Mean color of each cell, (cells, 3) in 0..255: the features of the record's FID, too."""
    pixels = np.asarray(image, dtype=np.float64)
    return pixels.reshape(GRID, CELL, GRID, CELL, 3).mean(axis=(1, 3)).reshape(-1, 3)


def _metadata(count: int, color: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "tag": "colors" if count == 1 else "counting",
        "include": [{"class": "square", "count": count, "color": color}],
        "prompt": caption(count, color),
    }
    if count > 1:
        metadata["exclude"] = [{"class": "square", "count": count + 1}]
    return metadata


def _box(cell: int) -> tuple[int, int, int, int]:
    row, column = divmod(cell, GRID)
    return column * CELL, row * CELL, (column + 1) * CELL, (row + 1) * CELL


def _nearest(color: np.ndarray) -> tuple[str, float]:
    palette = {"background": BACKGROUND, **COLORS}
    distances = {name: float(np.abs(color - np.array(entry)).max()) for name, entry in palette.items()}
    name = min(distances, key=distances.__getitem__)
    return name, round(min(1.0, max(0.0, 1.5 - distances[name] / 100)), 4)
