"""detections.jsonl: every image's raw detections, before any threshold, with the identity of what made them."""

import gc
import json
import math
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from geneval.json_files import check_depth, parse_json
from geneval.prompts import COLORS
from geneval.regular import regular_file

FILE_NAME = "detections.jsonl"
_LARGEST_COORDINATE = 1e7
LARGEST_FILE = 2**36
_ROUNDING = 1e-5  # of a score, a product of float32 probabilities
_CHECKSUM = "crc32"  # the last field of a line that `detect` wrote: of all before it


class DetectionsError(ValueError):
    """A line of detections.jsonl that cannot be used; the message names file and line."""


@dataclass(frozen=True, slots=True)
class ImageDetections:
    """One line: class -> rows `[x0, y0, x1, y1, score]` in the detector's order; `colors` runs parallel."""

    filename: str  # relative to the folder of images, with "/"
    size: tuple[int, int]  # width, height
    detections: Mapping[str, list[list[float]]]
    colors: Mapping[str, list[str | None]]
    detector: Mapping[str, Any]
    sha256: str = ""  # of the image file
    prompt: str = ""  # that the image was detected for; colors were asked by it

    def line(self) -> str:
        """The line of detections.jsonl, without its newline."""
        record = {
            "filename": self.filename,
            "size": list(self.size),
            "detections": self.detections,
            "colors": self.colors,
            "detector": self.detector,
            "sha256": self.sha256,
            "prompt": self.prompt,
        }
        text = json.dumps(record, separators=(",", ":"), allow_nan=False)
        return text[:-1] + _checksum(text[:-1])


def read_detections(images: Path) -> dict[str, ImageDetections]:
    """filename -> line, over detections.jsonl and the files of its shards (detections-0-of-2.jsonl, ...)."""
    paths = detection_files(images)
    if not paths:
        raise FileNotFoundError(f"{images / FILE_NAME}: missing; run `python -m geneval detect {images}` first")
    found: dict[str, ImageDetections] = {}
    with _without_collection():
        for path in paths:
            for line in read_lines(path):
                if line.filename in found:
                    raise DetectionsError(f"{path}: {line.filename} occurs twice")
                found[line.filename] = line
    return found


def detection_files(images: Path) -> list[Path]:
    """The finished files: detections.jsonl alone, or those of its shards."""
    whole = images / FILE_NAME
    return [whole] if whole.is_file() else sorted(images.glob("detections-*-of-*.jsonl"))


def read_lines(path: Path) -> Iterator[ImageDetections]:
    """The lines of one file; `DetectionsError` names the line that is torn or wrong."""
    with open(regular_file(path, LARGEST_FILE, DetectionsError), encoding="utf-8") as file:
        try:
            for number, text in enumerate(file, 1):
                yield parse_line(text, f"{path}:{number}")
        except UnicodeDecodeError as error:
            raise DetectionsError(f"{path}: not UTF-8 text ({error.reason})") from None


def parse_line(text: str, where: str) -> ImageDetections:
    """One line, every field checked."""
    record = parse_json(text, where, DetectionsError, "delete the line and run detect again", is_flat=True)
    if not isinstance(record, dict):
        raise DetectionsError(f"{where}: must be a JSON object")
    if _CHECKSUM in record:
        content = text.rstrip().rpartition(f',"{_CHECKSUM}"')[0]
        if text.rstrip() != content + _checksum(content):
            raise DetectionsError(f"{where}: changed since `detect` wrote it; delete it and run detect again")
    filename, detections, colors = record.get("filename"), record.get("detections"), record.get("colors", {})
    if not isinstance(filename, str) or not filename:
        raise DetectionsError(f"{where}: 'filename' must be a string, not {filename!r}")
    if not isinstance(detections, dict) or not isinstance(colors, dict):
        raise DetectionsError(f"{where}: 'detections' and 'colors' must be objects of lists by class")
    if not _is_clean(detections.values()):
        for name, rows in detections.items():
            _check_rows(rows, f"{where}: detections[{name!r}]")
    for name, answers in colors.items():
        _check_colors(answers, detections.get(name), f"{where}: colors[{name!r}]")
    detector = record.get("detector", {})
    try:
        check_depth(detector)
    except ValueError as error:
        raise DetectionsError(f"{where}: 'detector' {error}") from None
    size, sha256, prompt = _checked_size(record.get("size"), where), record.get("sha256", ""), record.get("prompt", "")
    if not isinstance(detector, dict) or not isinstance(sha256, str) or not isinstance(prompt, str):
        raise DetectionsError(f"{where}: 'detector' must be an object, 'sha256' and 'prompt' strings")
    return ImageDetections(filename, size, detections, colors, detector, sha256, prompt)


def _checksum(content: str) -> str:
    """The end of a line that begins with `content`."""
    return f',"{_CHECKSUM}":"{zlib.crc32(content.encode(errors="surrogatepass")):08x}"}}'


@contextmanager
def _without_collection() -> Iterator[None]:
    """No garbage collection: parsing makes a million lists and no cycle, and scanning them takes half the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _is_clean(classes: Collection[Any]) -> bool:
    """Whether `_check_rows` would pass every class, in a few passes over the whole line."""
    if not set(map(type, classes)) <= {list}:
        return False
    rows = list(chain.from_iterable(classes))
    if not set(map(type, rows)) <= {list} or not set(map(len, rows)) <= {5}:
        return False
    values = list(chain.from_iterable(rows))
    return set(map(type, values)) <= {float, int} and _is_bounded(values) and _are_scores(values[4::5])


def _is_bounded(values: list[float]) -> bool:
    # NaN cannot come out of the parser; an overflowing literal can, as infinity.
    return not values or (min(values) >= -_LARGEST_COORDINATE and max(values) <= _LARGEST_COORDINATE)


def _are_scores(values: list[float]) -> bool:
    return not values or (min(values) >= 0 and max(values) <= 1 + _ROUNDING)


def _check_rows(rows: Any, where: str) -> None:
    if type(rows) is not list or not all(type(row) is list and len(row) == 5 for row in rows):
        raise DetectionsError(f"{where} must be a list of [x0, y0, x1, y1, score]")
    values = list(chain.from_iterable(rows))
    if not set(map(type, values)) <= {float, int}:
        raise DetectionsError(f"{where} holds something that is not a number")
    if not _is_bounded(values):
        raise DetectionsError(f"{where} holds a number beyond {_LARGEST_COORDINATE:g}")
    if not _are_scores(values[4::5]):
        raise DetectionsError(f"{where} holds a score outside [0, 1]")


def _check_colors(answers: Any, rows: Any, where: str) -> None:
    if type(answers) is not list or rows is None or len(answers) != len(rows):
        raise DetectionsError(f"{where} must be a list parallel to the class's detections")
    if wrong := [a for a in answers if a is not None and a not in COLORS]:
        raise DetectionsError(f"{where}: {wrong[0]!r} is none of {', '.join(COLORS)}")


def _checked_size(size: Any, where: str) -> tuple[int, int]:
    is_pair = isinstance(size, list) and len(size) == 2 and all(type(s) is int and s > 0 for s in size)
    if not is_pair or not math.isfinite(size[0] * size[1]):
        raise DetectionsError(f"{where}: 'size' must be [width, height], not {size!r}")
    return size[0], size[1]
