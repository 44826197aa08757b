"""What the models drew: the same prompts across variants, with each picture's verdict and the reason for it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from reports.figures import MUTED, PALETTE, Figure, render, wrapped
from reports.records import Cell, RecordError, Study, Variant, inside
from reports.tables import in_order, pretty

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PROMPTS = 18  # rows of the grid in the HTML report
SHEET_PROMPTS = 8  # rows of the sheet in the Markdown report
MAX_SIDE = 160  # pixels of an embedded picture; larger ones are reduced
MAX_PIXELS = 64_000_000


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One sample; `source` is a data address, empty where the file could not be shown and `reason` says why."""

    source: str
    is_correct: bool
    reason: str
    image: Image | None


@dataclass(frozen=True, kw_only=True)
class PromptRow:
    """A prompt and what each variant drew for it, in the gallery's order; None where there is no sample."""

    prompt: str
    split: str
    task: str
    pictures: Sequence[Picture | None]


@dataclass(frozen=True, kw_only=True)
class Gallery:
    variants: Sequence[Variant]
    seeds: Sequence[int]  # of the cell shown for each variant
    rows: Sequence[PromptRow]


def gallery(study: Study) -> Gallery | None:
    """The grid of the first complete seed of each variant; None without samples."""
    shown: list[tuple[Variant, Cell]] = []
    for variant in in_order(study):
        cell = next((cell for cell in study.complete(variant.name) if cell.samples), None)
        if cell:
            shown.append((variant, cell))
    if not shown:
        return None
    drawn = [{sample["prompt"]: sample for sample in cell.samples} for _, cell in shown]
    rows = [
        PromptRow(
            prompt=sample["prompt"],
            split=str(sample.get("split") or ""),
            task=pretty(str(sample.get("tag") or "")),
            pictures=[
                _picture(cell, found[sample["prompt"]]) if sample["prompt"] in found else None
                for (_, cell), found in zip(shown, drawn)
            ],
        )
        for sample in _spread(shown[0][1].samples, MAX_PROMPTS)
    ]
    return Gallery(variants=[variant for variant, _ in shown], seeds=[cell.seed for _, cell in shown], rows=rows)


def _spread(samples: Sequence[dict], count: int) -> list[dict]:
    """`count` samples, tasks in turn and each task starting at another split, in the order of the file."""
    tasks: dict[str, dict[str, list[int]]] = {}
    for i, sample in enumerate(samples):
        tasks.setdefault(str(sample.get("tag")), {}).setdefault(str(sample.get("split")), []).append(i)
    queues = []
    for place, splits in enumerate(tasks.values()):
        groups = list(splits.values())
        groups = groups[place % len(groups) :] + groups[: place % len(groups)]
        queues.append([i for turn in zip_longest(*groups) for i in turn if i is not None])
    chosen = [i for turn in zip_longest(*queues) for i in turn if i is not None][:count]
    return [samples[i] for i in sorted(chosen)]


def _picture(cell: Cell, sample: dict) -> Picture:
    try:
        image = _read(inside(cell.folder, sample["file"]))
    except (RecordError, OSError, ValueError, SyntaxError) as error:
        name = type(error).__name__
        return Picture(source="", is_correct=False, reason=f"cannot be shown ({name})", image=None)
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    source = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
    return Picture(source=source, is_correct=sample["correct"], reason=sample["reason"], image=image)


def _read(path: Path) -> Image:
    """The picture as plain RGB pixels: whatever else a file carries does not reach the report."""
    from PIL import Image as images

    with images.open(path, formats=["PNG", "JPEG", "WEBP"]) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{path}: {image.width} x {image.height} pixels are too many")
        rgb = image.convert("RGB")
    if max(rgb.size) > MAX_SIDE:
        rgb.thumbnail((MAX_SIDE, MAX_SIDE), images.Resampling.LANCZOS)
    return rgb


def sheet(given: Gallery) -> Figure:
    """A few rows of the gallery as one picture, framed by verdict: for the Markdown report and a README."""
    import numpy as np

    rows = _spread([{"tag": row.task, "split": row.split, "row": row} for row in given.rows], SHEET_PROMPTS)
    lines: list[PromptRow] = [entry["row"] for entry in rows]
    side, frame, gap = 64, 4, 8
    step = side + 2 * frame + gap
    canvas = np.full((step * len(lines), step * len(given.variants), 3), 255, dtype=np.uint8)
    for y, line in enumerate(lines):
        for x, picture in enumerate(line.pictures):
            if picture and picture.image:
                tile = _framed(picture.image, picture.is_correct, side, frame)
                canvas[y * step : y * step + step - gap, x * step : x * step + step - gap] = np.asarray(tile)
    centers = [(i + 0.5) * step - gap / 2 for i in range(max(len(lines), len(given.variants)))]

    def draw(figure) -> None:
        ax = figure.subplots()
        ax.imshow(canvas, interpolation="nearest")
        ax.set_xticks(centers[: len(given.variants)], [wrapped(variant.label, 11) for variant in given.variants])
        ax.set_yticks(centers[: len(lines)], [wrapped(line.prompt, 34) for line in lines])
        ax.tick_params(length=0, labeltop=True, labelbottom=False, labelsize=8)
        ax.spines[:].set_visible(False)
        figure.supxlabel("frame: green = judged right, gray = judged wrong", fontsize=8.5, color=MUTED)

    data = [
        {"prompt": line.prompt, "variant": variant.name, "seed": seed, "correct": picture.is_correct,
         "reason": picture.reason}
        for line in lines for variant, seed, picture in zip(given.variants, given.seeds, line.pictures) if picture
    ]  # fmt: skip
    alt = "Samples of " + ", ".join(variant.label for variant in given.variants)
    width = 0.8 * len(given.variants) + 2.8
    return render("samples", "Samples", alt, draw, data, width=width, height=0.8 * len(lines) + 0.8)


def _framed(image: Image, is_correct: bool, side: int, frame: int) -> Image:
    from PIL import Image as images

    tile = images.new("RGB", (side + 2 * frame,) * 2, PALETTE[2] if is_correct else "#d0d7de")
    scaled = image.resize((side, side), images.Resampling.NEAREST if max(image.size) <= side else None)
    tile.paste(scaled, (frame, frame))
    return tile
