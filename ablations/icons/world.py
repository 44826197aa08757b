"""A world: which objects and colors exist in it, how large its pictures are and how freely objects lie in them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ablations.icons.glyphs import COLORS, GLYPHS

TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
RELATIONS = ("left of", "right of", "above", "below")


@dataclass(frozen=True, kw_only=True)
class World:
    """Everything the teacher needs to draw. With `free` placement the cell grid only sets the picture's size."""

    name: str = "cpu"
    classes: tuple[str, ...] = ("airplane", "car", "umbrella", "cup", "tie", "clock", "bird", "couch")
    colors: tuple[str, ...] = ("red", "yellow", "green", "blue", "black", "white")
    rows: int = 2  # cells
    columns: int = 2  # cells
    cell: int = 16  # pixels per side of a cell
    glyph: int = 14  # pixels per side of an object
    glyph_jitter: int = 1  # an object is up to this many pixels smaller
    free: bool = False  # objects anywhere without overlap, instead of one in a cell
    background: tuple[int, int] = (145, 175)  # grey levels
    noise: float = 1.5  # standard deviation of pixel noise, grey levels
    color_jitter: float = 4.0  # standard deviation of an object's color per channel, grey levels
    max_count: int = 4  # objects of a class at most

    def __post_init__(self) -> None:
        for kind, given, known in (("class", self.classes, GLYPHS), ("color", self.colors, COLORS)):
            unknown = [name for name in given if name not in known]
            if unknown or not given:
                raise ValueError(f"world {self.name!r}: unknown {kind} {unknown}; known: {', '.join(known)}")
        if self.glyph > self.cell or self.glyph - self.glyph_jitter < 4:
            raise ValueError(f"world {self.name!r}: an object of {self.glyph} px does not fit a cell of {self.cell} px")
        if self.rows * self.columns < self.max_count:
            raise ValueError(f"world {self.name!r}: {self.max_count} objects need as many cells")

    @property
    def width(self) -> int:
        return self.columns * self.cell

    @property
    def height(self) -> int:
        return self.rows * self.cell


WORLDS: dict[str, World] = {
    "smoke": World(name="smoke", classes=("airplane", "car", "umbrella", "cup"), colors=("red", "yellow", "blue")),
    "cpu": World(name="cpu"),
    # What the embedded components are trained on: the classes of the small worlds in all ten colors.
    "components": World(name="components", colors=tuple(COLORS)),
    "gpu": World(
        name="gpu",
        classes=tuple(GLYPHS),
        colors=tuple(COLORS),
        rows=4,
        columns=4,
        glyph=28,
        cell=32,
        glyph_jitter=8,
        free=True,
    ),
}


def world(name: str) -> World:
    """The world of that name; NAME@1.5 is the same in pictures of 1.5 times the side. ValueError lists the names."""
    base, at, ratio = name.partition("@")
    if base not in WORLDS:
        raise ValueError(f"unknown world {name!r}; there are: {', '.join(WORLDS)}")
    if not at:
        return WORLDS[base]
    try:
        factor = float(ratio)
    except ValueError:
        factor = math.nan
    if not 1 <= factor <= 16:
        raise ValueError(f"world {name!r}: after @ stands how much larger its pictures are, 1 to 16, as in {base}@1.5")
    return _enlarged(WORLDS[base], name, factor)


def _enlarged(small: World, name: str, factor: float) -> World:
    """The same world with more pixels for everything; noise and colors of a pixel stay as they are."""
    cell, glyph, jitter = (round(side * factor) for side in (small.cell, small.glyph, small.glyph_jitter))
    return replace(small, name=name, cell=cell, glyph=glyph, glyph_jitter=jitter)
