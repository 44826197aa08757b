"""A few rows of the gallery as one picture, framed by verdict: for the Markdown report and a README."""

from collections.abc import Sequence
from typing import Any

from reports.figures.figure import PALETTE, Figure, note, render, wrapped
from reports.gallery import Gallery, PromptRow, spread

MAX_PROMPTS = 8
SIDE, FRAME, GAP = 64, 4, 8  # pixels
STEP = SIDE + 2 * FRAME + GAP


def samples(given: Gallery) -> Figure:
    """A row a prompt, a column a variant."""
    rows = spread([{"tag": row.task, "split": row.split, "row": row} for row in given.rows], MAX_PROMPTS)
    lines: list[PromptRow] = [entry["row"] for entry in rows]
    canvas = _canvas(lines, len(given.variants))
    centers = [(i + 0.5) * STEP - GAP / 2 for i in range(max(len(lines), len(given.variants)))]

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        ax.imshow(canvas, interpolation="nearest")
        ax.set_xticks(centers[: len(given.variants)], [wrapped(variant.label, 11) for variant in given.variants])
        ax.set_yticks(centers[: len(lines)], [wrapped(line.prompt, 34) for line in lines])
        ax.tick_params(length=0, labeltop=True, labelbottom=False, labelsize=8)
        ax.spines[:].set_visible(False)
        note(figure, "frame: green = judged right, gray = judged wrong")

    data = [
        {"prompt": line.prompt, "variant": variant.name, "seed": seed, "correct": picture.is_correct,
         "reason": picture.reason}
        for line in lines for variant, seed, picture in zip(given.variants, given.seeds, line.pictures) if picture
    ]  # fmt: skip
    alt = "Samples of " + ", ".join(variant.label for variant in given.variants)
    width = 0.8 * len(given.variants) + 2.8
    return render("samples", "Samples", alt, draw, data, width=width, height=0.8 * len(lines) + 0.8)


def _canvas(lines: Sequence[PromptRow], columns: int) -> Any:
    import numpy as np

    canvas = np.full((STEP * len(lines), STEP * columns, 3), 255, dtype=np.uint8)
    for y, line in enumerate(lines):
        for x, picture in enumerate(line.pictures):
            if picture and picture.image:
                tile = np.asarray(_framed(picture.image, picture.is_correct))
                canvas[y * STEP : y * STEP + STEP - GAP, x * STEP : x * STEP + STEP - GAP] = tile
    return canvas


def _framed(image: Any, is_correct: bool) -> Any:
    from PIL import Image

    tile = Image.new("RGB", (SIDE + 2 * FRAME,) * 2, PALETTE[2] if is_correct else "#d0d7de")
    scaled = image.resize((SIDE, SIDE), Image.Resampling.NEAREST if max(image.size) <= SIDE else None)
    tile.paste(scaled, (FRAME, FRAME))
    return tile
