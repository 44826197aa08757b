"""A few prompts of the gallery as one picture, framed by verdict: for the Markdown report and a README."""

from collections.abc import Sequence
from typing import Any

from reports.figures.figure import INK, Figure, note, render, wrapped
from reports.gallery import Gallery, PromptRow, spread
from reports.words import shortened

MAX_PROMPTS, MAX_VARIANTS = 8, 24
SIDE, FRAME, GAP = 64, 4, 8  # pixels
STEP = SIDE + 2 * FRAME + GAP


def samples(given: Gallery) -> Figure:
    """A row a variant, a column a prompt; of many variants the first ones, and the note says so."""
    rows = spread([{"tag": row.task, "split": row.split, "row": row} for row in given.rows], MAX_PROMPTS)
    prompts: list[PromptRow] = [entry["row"] for entry in rows]
    variants = list(given.variants)[:MAX_VARIANTS]
    canvas = _canvas(prompts, len(variants))

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        ax.imshow(canvas, interpolation="nearest")
        ax.set_xticks(_centers(len(prompts)), [wrapped(line.prompt, 13, 4) for line in prompts])
        ax.set_yticks(_centers(len(variants)), [shortened(variant.label, 44) for variant in variants])
        ax.tick_params(length=0, labeltop=True, labelbottom=False, labelsize=8)
        ax.spines[:].set_visible(False)
        left_out = f"; the first {len(variants)} of {len(given.variants)} variants"
        note(
            figure,
            "frame: black = judged right, gray = judged wrong" * given.is_judged
            + left_out * (len(variants) < len(given.variants)),
        )

    data = [
        {"prompt": line.prompt, "variant": variant.name, "seed": seed, "correct": picture.is_correct,
         "reason": picture.reason}
        for line in prompts for variant, seed, picture in zip(variants, given.seeds, line.pictures) if picture
    ]  # fmt: skip
    alt = "Samples of " + ", ".join(variant.label for variant in variants)
    return render("samples", "Samples", alt, draw, data, width=0.98 * len(prompts) + 3.2,
                  height=0.8 * len(variants) + 1.2)  # fmt: skip


def _centers(count: int) -> list[float]:
    return [(i + 0.5) * STEP - GAP / 2 for i in range(count)]


def _canvas(prompts: Sequence[PromptRow], variants: int) -> Any:
    import numpy as np

    canvas = np.full((STEP * max(variants, 1), STEP * max(len(prompts), 1), 3), 255, dtype=np.uint8)
    for x, line in enumerate(prompts):
        for y, picture in enumerate(line.pictures[:variants]):
            if picture and picture.image:
                tile = np.asarray(_framed(picture.image, picture.is_correct))
                canvas[y * STEP : y * STEP + STEP - GAP, x * STEP : x * STEP + STEP - GAP] = tile
    return canvas


def _framed(image: Any, is_correct: bool | None) -> Any:
    from PIL import Image

    tile = Image.new("RGB", (SIDE + 2 * FRAME,) * 2, INK if is_correct else "#d0d7de")
    scaled = image.resize((SIDE, SIDE), Image.Resampling.NEAREST if max(image.size) <= SIDE else None)
    tile.paste(scaled, (FRAME, FRAME))
    return tile
