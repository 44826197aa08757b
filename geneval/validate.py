"""Agreement with people: GenEval's own annotations (1,200 images of three models, five annotators each).

The human verdict of an annotation follows the prompt's clauses: counts equal for the counting task and at least as
large elsewhere, the wanted color among those chosen, the relation among those chosen.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from geneval.detections import read_detections
from geneval.json_files import MAX_BYTES
from geneval.options import DEFAULTS, Options
from geneval.prompts import Prompt, official_prompts
from geneval.regular import regular_file
from geneval.rules import check

MODELS = ("clip", "sdv2", "if-xl")
PUBLISHED = {"agreement": 0.83, "agreement_unanimous": 0.91, "annotators": 0.88}
# What the annotation files themselves must give: a check of the rule above.
EXPECTED = {"unanimous": 860, "human_means": {"clip": 0.416, "sdv2": 0.570, "if-xl": 0.716}}
_COLUMNS = ("Input.prompt_id", "Input.image_id", "Input.caption")


class AnnotationError(ValueError):
    """An annotation file that cannot be used; the message names file and row."""


@dataclass(frozen=True)
class JudgedImage:
    """One image with the verdicts of its annotators."""

    model: str
    prompt_index: int
    copy: int
    tag: str
    verdicts: tuple[bool, ...]

    @property
    def filename(self) -> str:
        """Its place in the model's folder of images."""
        return f"{self.prompt_index:05}/samples/{self.copy:05}.png"

    @property
    def majority(self) -> bool:
        """More annotators for than against."""
        return 2 * sum(self.verdicts) > len(self.verdicts)

    @property
    def is_unanimous(self) -> bool:
        """All annotators agree."""
        return len(set(self.verdicts)) == 1


def validate_folder(annotations: Path, images: Path, options: Options = DEFAULTS) -> dict[str, Any]:
    """Agreement of the verdicts on IMAGES/MODEL with ANNOTATIONS/annotations_MODEL.csv, beside published figures."""
    judged = [image for model in MODELS for image in read_annotations(annotations / f"annotations_{model}.csv", model)]
    return agreement(judged, _scores(judged, images, options))


def read_annotations(path: Path, model: str) -> list[JudgedImage]:
    """The images of one file, in order of prompt and copy."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing; it is one of GenEval's annotations/*.csv")
    # Free text holds bare carriage returns, at which csv would end the row.
    text = regular_file(path, MAX_BYTES).read_bytes().decode("utf-8", errors="replace").replace("\r", " ")
    rows = csv.DictReader(line for line in text.split("\n") if line.strip())
    if missing := [name for name in _COLUMNS if name not in (rows.fieldnames or ())]:
        raise AnnotationError(f"{path}: has no column {', '.join(missing)}")
    verdicts: dict[tuple[int, int], list[bool]] = {}
    for number, row in enumerate(rows, 2):
        key, verdict = _judged(row, f"{path}: row {number}")
        verdicts.setdefault(key, []).append(verdict)
    prompts = official_prompts()
    return [JudgedImage(model, i, copy, prompts[i].tag, tuple(v)) for (i, copy), v in sorted(verdicts.items())]


def agreement(judged: Sequence[JudgedImage], scores: Sequence[bool]) -> dict[str, Any]:
    """Shares of agreement and Cohen's kappa with the majority, overall, on unanimous images, by task and by model."""
    pairs = list(zip(judged, scores))
    unanimous = [(image, score) for image, score in pairs if image.is_unanimous]
    tags = dict.fromkeys(image.tag for image in judged)
    models = dict.fromkeys(image.model for image in judged)
    return {
        "published": PUBLISHED,
        "expected": EXPECTED,
        "overall": _agreement(pairs),
        "unanimous": _agreement(unanimous),
        "tasks": {tag: _agreement([p for p in pairs if p[0].tag == tag]) for tag in tags},
        "annotators": _pairwise([image.verdicts for image in judged]),
        "human_means": {m: _mean([v for i in judged if i.model == m for v in i.verdicts]) for m in models},
    }


def validation_text(result: Mapping[str, Any]) -> str:
    """The result as a table, published and expected figures beside ours."""
    lines = [f"{'':<16} {'images':>7} {'annotators':>11} {'majority':>9} {'kappa':>7}"]
    for name, row in {"overall": result["overall"], "unanimous": result["unanimous"], **result["tasks"]}.items():
        lines.append(
            f"{name:<16} {row['n']:>7} {row['annotators']:>11.1%} {row['majority']:>9.1%} {row['kappa']:>7.3f}"
        )
    published, expected = result["published"], result["expected"]
    means = ", ".join(
        f"{m} {v:.3f} (expected {expected['human_means'][m]:.3f})" for m, v in result["human_means"].items()
    )
    lines += [
        "",
        f"published for the original: {published['agreement']:.0%} overall, "
        f"{published['agreement_unanimous']:.0%} on unanimous images; annotators among themselves "
        f"{published['annotators']:.0%} (here {result['annotators']:.1%})",
        f"check of the annotations: {result['unanimous']['n']} unanimous images (expected {expected['unanimous']}); "
        f"human means {means}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _judged(row: Mapping[str, str | None], where: str) -> tuple[tuple[int, int], bool]:
    """((prompt, copy), verdict) of one annotation."""
    try:
        index, copy = int(row["Input.prompt_id"] or ""), int(row["Input.image_id"] or "")
        prompt = official_prompts()[index]
        if index < 0 or (row["Input.caption"] or "").strip() != prompt.prompt:
            raise AnnotationError(f"{where}: caption {row['Input.caption']!r} is not the official prompt {index}")
        return (index, copy), human_verdict(prompt, row)
    except AnnotationError:
        raise
    except (KeyError, ValueError, IndexError) as error:
        raise AnnotationError(f"{where}: not a GenEval annotation ({type(error).__name__}: {error})") from None


def human_verdict(prompt: Prompt, row: Mapping[str, str | None]) -> bool:
    """What one annotator's answers say about the prompt."""
    for k, clause in enumerate(prompt.include):
        count = int(row[f"Answer.task-count-{k}"] or 0)
        if count < clause.count or (prompt.tag == "counting" and count != clause.count):
            return False
        if clause.color is not None and clause.color not in _chosen(row[f"Answer.task-color-{k}"]):
            return False
        if clause.position is not None:
            chosen = {(row[f"Answer.task-position-{axis}"] or "").strip() for axis in "xy"}
            if clause.position[0].removesuffix(" of") not in chosen:
                return False
    return True


def _chosen(answer: str | None) -> set[str]:
    return {part.strip() for part in (answer or "").split("|")}


def _scores(judged: Sequence[JudgedImage], images: Path, options: Options) -> list[bool]:
    prompts = official_prompts()
    found = {model: read_detections(images / model) for model in dict.fromkeys(image.model for image in judged)}
    if missing := [f"{i.model}/{i.filename}" for i in judged if i.filename not in found[i.model]]:
        raise ValueError(f"{images}: {len(missing)} annotated images have no detections, as {missing[0]}")
    scores = []
    for image in judged:
        line = found[image.model][image.filename]
        scores.append(check(prompts[image.prompt_index].metadata(), line.detections, line.colors, options).correct)
    return scores


def _agreement(pairs: Sequence[tuple[JudgedImage, bool]]) -> dict[str, float]:
    """Share of annotations, and of majorities, that the scores agree with; kappa with the majority."""
    if not pairs:
        return {"n": 0, "annotators": 0.0, "majority": 0.0, "kappa": 0.0}
    agreed = _mean([image.majority == score for image, score in pairs])
    human, ours = _mean([image.majority for image, _ in pairs]), _mean([score for _, score in pairs])
    chance = human * ours + (1 - human) * (1 - ours)
    return {
        "n": len(pairs),
        "annotators": _mean([verdict == score for image, score in pairs for verdict in image.verdicts]),
        "majority": agreed,
        "kappa": (agreed - chance) / (1 - chance) if chance < 1 else 0.0,
    }


def _pairwise(verdicts: Sequence[Sequence[bool]]) -> float:
    """How often two annotators of one image agree."""
    return _mean([a == b for image in verdicts for a, b in combinations(image, 2)])


def _mean(values: Sequence[bool]) -> float:
    return sum(values) / len(values) if values else 0.0
