"""Compose: captioned cut-outs on grounds, as a folder of captioned pictures of many sizes that `import` reads.

Every picture follows from the seed and its own number alone. One in three holds two cut-outs, side by side.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from lightgen.data.config import ComposeConfig
from lightgen.disk.atomic import atomic_file, write_text
from lightgen.disk.folders import claim_folder
from lightgen.disk.json_files import read_text
from lightgen.disk.regular import regular_file
from lightgen.disk.seeds import derive_seed

# Of grounds, by the words that captions use; lighter at the top, darker at the bottom.
GROUNDS = {
    "red": (200, 60, 55), "orange": (235, 150, 60), "yellow": (235, 215, 90), "green": (90, 160, 80),
    "blue": (80, 130, 205), "purple": (140, 95, 175), "pink": (235, 165, 190), "brown": (140, 100, 70),
    "black": (45, 45, 50), "white": (240, 240, 240),
}  # fmt: skip
SHADE, GRAIN = 30, 6  # grey levels: half the way from top to bottom, and the deviation of noise
ROOM = 0.8  # the largest share of its field that a cut-out fills, along the side that is short of room
QUALITY = 92  # of JPEG
MAX_BYTES = 2**26  # of a cut-out


class CutOut(NamedTuple):
    """A picture with transparency, and what it shows."""

    path: Path
    caption: str


def compose(
    cutouts: Path,
    out: Path,
    config: ComposeConfig = ComposeConfig(),  # noqa: B008
    *,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write `config.images` pictures, NAME.jpg with NAME.txt, and return how many cut-outs they are made of.

    The same call goes on where it was. ValueError for a folder begun with other settings or other cut-outs;
    FileNotFoundError where there are none.
    """
    found = read_cutouts(cutouts)
    claim_folder(out, {**asdict(config), "cutouts": len(found), "captions": derive_seed(*(c.caption for c in found))})
    for number in range(config.images):
        path = Path(out) / f"{number:06d}.jpg"
        if not path.is_file():
            image, caption = picture(found, number, config)
            write_text(path.with_suffix(".txt"), caption + "\n")
            with atomic_file(path) as file:
                image.save(file, format="JPEG", quality=QUALITY)
        if progress is not None:
            progress(number + 1, config.images)
    return len(found)


def read_cutouts(folder: Path) -> list[CutOut]:
    """The PNGs with a NAME.txt beside them, in order of their names; the first line of each is its caption."""
    found = []
    for path in sorted(Path(folder).rglob("*.png")):
        if path.with_suffix(".txt").is_file():
            lines = read_text(path.with_suffix(".txt")).strip().splitlines()
            caption = lines[0].strip().rstrip(".") if lines else ""
            found += [CutOut(path, caption)] if caption else []
    if not found:
        raise FileNotFoundError(f"{folder} holds no PNG with a caption in NAME.txt beside it")
    return found


def picture(cutouts: Sequence[CutOut], number: int, config: ComposeConfig) -> tuple[Image.Image, str]:
    """The RGB picture of that number and its caption."""
    draw = random.Random(derive_seed(config.seed, "compose", number))
    order = random.Random(derive_seed(config.seed, "order", number // len(cutouts))).sample(
        range(len(cutouts)), len(cutouts)
    )
    chosen = [cutouts[order[number % len(cutouts)]]]
    if draw.random() < config.pairs:
        chosen.append(draw.choice(cutouts))
    size = draw.randint(config.smallest, config.largest), draw.randint(config.smallest, config.largest)
    ground = draw.choice(list(GROUNDS))
    image = _ground(size, GROUNDS[ground], derive_seed(config.seed, "grain", number))
    for place, cutout in enumerate(chosen):
        _paste(image, cutout.path, place, len(chosen), draw)
    return image, _caption([cutout.caption for cutout in chosen], ground)


def _caption(captions: Sequence[str], ground: str) -> str:
    """ "A ladybug left of a windmill on a green ground"."""
    article = "an" if ground[0] in "aeiou" else "a"
    rest = [text[0].lower() + text[1:] if text.split()[0] in ("A", "An", "The") else text for text in captions[1:]]
    return f"{' left of '.join([captions[0], *rest])} on {article} {ground} ground"


def _ground(size: tuple[int, int], color: tuple[int, int, int], seed: int) -> Image.Image:
    width, height = size
    rng = np.random.default_rng(seed)
    shade = np.linspace(SHADE, -SHADE, height)[:, None, None] + rng.normal(0, GRAIN, (height, width, 1))
    return Image.fromarray((np.array(color) + shade).clip(0, 255).astype(np.uint8))


def _paste(image: Image.Image, path: Path, place: int, of: int, draw: random.Random) -> None:
    """Lay a cut-out into its column of the picture's centered square, which is what training sees."""
    side = min(image.size)
    field = side // of
    with Image.open(regular_file(path, MAX_BYTES), formats=("PNG",)) as opened:
        cutout = opened.convert("RGBA")
    scale = draw.uniform(0.7, 1.0) * ROOM * min(field / cutout.width, side / cutout.height)
    width, height = max(1, round(cutout.width * scale)), max(1, round(cutout.height * scale))
    cutout = cutout.resize((width, height), Image.Resampling.LANCZOS)
    left = (image.width - side) // 2 + place * field + draw.randint(0, max(0, field - width))
    top = (image.height - side) // 2 + draw.randint(0, max(0, side - height))
    image.paste(cutout, (left, top), cutout)
