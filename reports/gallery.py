"""What the models drew: the same prompts across variants, with each picture's verdict and the reason for it."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from lightgen.disk.png import check_png
from lightgen.disk.regular import regular_file
from reports.records.cell import Cell, inside
from reports.records.study import Study, Variant
from reports.words import pretty

MAX_PROMPTS = 18  # rows of the grid in the HTML report
MAX_SIDE = 160  # pixels of an embedded picture; larger ones are reduced
MAX_PIXELS = 64_000_000
MAX_BYTES = 2**28


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One sample; `source` is a data address, empty where the file could not be shown and `reason` says why."""

    source: str
    is_correct: bool | None  # None where nobody judged
    reason: str
    image: Any  # a PIL image, or None
    label: str = ""  # of its variant, with the seed where it is not the first variant's


@dataclass(frozen=True, kw_only=True)
class PromptRow:
    """A prompt and what each variant drew for it, in the gallery's order; None where there is no sample."""

    prompt: str
    split: str
    task: str
    pictures: Sequence[Picture | None]

    @property
    def is_mixed(self) -> bool:
        """Whether the variants' pictures were judged differently."""
        return len({picture.is_correct for picture in self.pictures if picture}) > 1


@dataclass(frozen=True, kw_only=True)
class Gallery:
    variants: Sequence[Variant]
    seeds: Sequence[int]  # of the cell shown for each variant
    rows: Sequence[PromptRow]

    @property
    def is_judged(self) -> bool:
        """Whether any picture has a verdict."""
        return any(shown is not None and shown.is_correct is not None for row in self.rows for shown in row.pictures)

    @property
    def tasks(self) -> list[str]:
        return list(dict.fromkeys(row.task for row in self.rows if row.task))

    @property
    def splits(self) -> list[str]:
        return list(dict.fromkeys(row.split for row in self.rows if row.split))

    def empty(self) -> list[tuple[str, str]]:
        """The pairs of a task and a split ("" for any) of which no prompt is shown."""
        shown = {(row.task, row.split) for row in self.rows}
        return [(task, split) for task in self.tasks for split in self.splits if (task, split) not in shown]


def gallery(study: Study) -> Gallery | None:
    """The grid of the first complete seed of each variant; None without samples."""
    shown: list[tuple[Variant, Cell]] = []
    for variant in study.variants_in_order():
        cell = next((cell for cell in study.complete(variant.name) if cell.samples), None)
        if cell:
            shown.append((variant, cell))
    if not shown:
        return None
    asked = {sample["prompt"] for sample in shown[0][1].samples}  # who was asked for nothing of it has no column
    shown = [(variant, cell) for variant, cell in shown if any(one["prompt"] in asked for one in cell.samples)]
    drawn = [{sample["prompt"]: sample for sample in cell.samples} for _, cell in shown]
    rows = [
        PromptRow(
            prompt=sample["prompt"],
            split=str(sample.get("split") or ""),
            task=pretty(str(sample.get("tag") or "")),
            pictures=[
                _picture(cell, found[sample["prompt"]], _label(variant, cell, shown[0][1]))
                if sample["prompt"] in found
                else None
                for (variant, cell), found in zip(shown, drawn)
            ],
        )
        for sample in spread(shown[0][1].samples, MAX_PROMPTS)
    ]
    return Gallery(variants=[variant for variant, _ in shown], seeds=[cell.seed for _, cell in shown], rows=rows)


def spread(samples: Sequence[dict], count: int) -> list[dict]:
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


def _label(variant: Variant, cell: Cell, first: Cell) -> str:
    return variant.label if cell.seed == first.seed else f"{variant.label} (seed {cell.seed})"


def _picture(cell: Cell, sample: dict, label: str) -> Picture:
    try:
        image = _read(inside(cell.folder, sample["file"]))
    except Exception as error:  # Pillow raises anything from SyntaxError to struct.error on damaged files
        name = type(error).__name__
        return Picture(source="", is_correct=False, reason=f"cannot be shown ({name})", image=None, label=label)
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    source = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
    return Picture(source=source, is_correct=sample["correct"], reason=sample["reason"], image=image, label=label)


def _read(path: Path) -> Any:
    """The picture as plain RGB pixels: whatever else a file carries does not reach the report."""
    from PIL import Image

    data = regular_file(path, MAX_BYTES).read_bytes()
    check_png(data)
    with Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "WEBP"]) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{path}: {image.width} x {image.height} pixels are too many")
        rgb = image.convert("RGB")
    if max(rgb.size) > MAX_SIDE:
        rgb.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    return rgb
