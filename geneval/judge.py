"""GenEval in a process: pictures and prompts in, verdicts out. The command line judges folders through it too."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geneval.clip import find_clip
from geneval.comparability import NOT_COMPARABLE, is_comparable
from geneval.detections import ImageDetections
from geneval.images import as_pictures
from geneval.json_files import as_json
from geneval.options import DEFAULTS, Options
from geneval.prompts import OBJECTS, Prompt
from geneval.templates import as_prompt
from geneval.verdicts import Judged, judge_line

if TYPE_CHECKING:
    from PIL import Image

    from geneval.box_detector import BoxDetector
    from geneval.color import ColorClassifier
    from geneval.detector import Detections, Detector

COLOR_FLOOR = 0.1  # colors are asked for objects that any threshold above this can reach
Images = Any  # a sequence of PIL pictures or of tensors (3, H, W), or a tensor (B, 3, H, W)


class Judge:
    """A detector and a color classifier that say whether pictures show what prompts ask for.

        judge = Judge.from_pretrained(detector="mask2former", clip="ViT-L-14")
        [verdict.correct for verdict in judge(images, prompts)]

    Images: PIL pictures, or float tensors (B, 3, H, W) in [0, 1]. Prompts: text of GenEval's templates, `Prompt`, or
    the original's metadata. Without a classifier a prompt that asks for a color is refused.
    """

    def __init__(
        self,
        detector: "Detector | BoxDetector",
        classifier: "ColorClassifier | None",
        identity: Mapping[str, Any],
        options: Options = DEFAULTS,
        batch_size: int = 8,
        color_floor: float = COLOR_FLOOR,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        self.detector, self.classifier, self.identity = detector, classifier, identity
        self.options, self.batch_size, self.color_floor = options, batch_size, color_floor

    @classmethod
    def from_pretrained(
        cls,
        detector: str | Path,
        clip: str | Path | None = DEFAULTS.clip_model,
        device: str = "auto",
        *,
        options: Mapping[str, object] | Options = DEFAULTS,
        batch_size: int = 8,
        color_floor: float = COLOR_FLOOR,
    ) -> "Judge":
        """The judge of a detector folder and a CLIP as `geneval.clip` names it; None judges no colors."""
        from geneval.color import ColorClassifier
        from geneval.detectors import load_detector

        options = Options.parse(options)
        identity = judge_identity(detector, clip, options)
        classifier = None if clip is None else ColorClassifier.from_pretrained(clip, device)
        return cls(load_detector(detector, device), classifier, identity, options, batch_size, color_floor)

    def __call__(self, images: Images, prompts: Sequence[Any], *, strict: bool = False) -> list[Judged]:
        """One verdict an image. `strict`: the reward of flow_grpo's server instead, which wants exact counts."""
        asked = self.prompts(prompts)
        return self.verdicts(self.detect(images, asked), asked, strict=strict)

    def detect(self, images: Images, prompts: Sequence[Any]) -> list[ImageDetections]:
        """Raw detections and colors of each image, before any threshold; `verdicts` reads them as often as wanted."""
        asked, pictures = self.prompts(prompts), as_pictures(images)
        _same_length(pictures, asked)
        found: dict[int, ImageDetections] = {}
        for batch in _same_size_batches(pictures, self.batch_size):
            found.update(zip(batch, self._detect([pictures[i] for i in batch], [asked[i] for i in batch])))
        return [found[i] for i in range(len(pictures))]

    def verdicts(
        self,
        detections: Sequence[ImageDetections],
        prompts: Sequence[Any],
        *,
        options: Mapping[str, object] | Options | None = None,
        strict: bool = False,
    ) -> list[Judged]:
        """The verdicts on what `detect` found, by these options (default: the judge's)."""
        asked = self.prompts(prompts)
        _same_length(detections, asked)
        chosen = self.options if options is None else Options.parse(options)
        return [judge_line(p.metadata(), line, chosen, strict=strict) for p, line in zip(asked, detections)]

    def prompts(self, given: Sequence[Any]) -> list[Prompt]:
        """The prompts, checked against what this judge can see; `MetadataError` or ValueError names the first wrong."""
        if isinstance(given, str | Mapping):
            raise ValueError("prompts must be a sequence, one prompt an image")
        names = [*self.detector.names, *(name for name in OBJECTS if name not in self.detector.names)]
        asked = [as_prompt(prompt, f"prompt {i}", names) for i, prompt in enumerate(given)]
        check_vocabulary(self.detector.names, asked)
        if self.classifier is None and any(clause.color for prompt in asked for clause in prompt.include):
            raise ValueError("a prompt asks for a color, and this judge was made without a color classifier (clip)")
        return asked

    @property
    def note(self) -> str:
        """What must stand beside every number of this judge: "", or that it is not comparable with published ones."""
        return "" if self.identity.get("comparable") else NOT_COMPARABLE

    def _detect(self, pictures: "list[Image.Image]", prompts: Sequence[Prompt]) -> list[ImageDetections]:
        """One batch through the detector, and the crops of all its images through the classifier together."""
        from geneval.color import color_candidates

        found = self.detector.detect(pictures)
        wanted = [
            color_candidates(prompt.metadata(), detections.rows, self.options, self.color_floor)
            for prompt, detections in zip(prompts, found)
        ]
        colors = self._colors(pictures, found, wanted)
        return [
            ImageDetections("", d.size, d.rows, answers, self.identity, prompt=prompt.prompt)
            for d, answers, prompt in zip(found, colors, prompts)
        ]

    def _colors(
        self,
        pictures: "Sequence[Image.Image]",
        found: "Sequence[Detections]",
        wanted: Sequence[Sequence[tuple[str, int]]],
    ) -> list[dict[str, list[str | None]]]:
        """class -> colors parallel to its detections, for the classes that were asked about."""
        from geneval.color import object_crop

        if self.classifier is None:
            return [{} for _ in pictures]
        crops = [
            object_crop(picture, detections.mask(name, i), detections.rows[name][i], self.options)
            for picture, detections, objects in zip(pictures, found, wanted)
            for name, i in objects
        ]
        answers = iter(self.classifier.classify(crops, [name for objects in wanted for name, _ in objects]))
        colors: list[dict[str, list[str | None]]] = []
        for detections, objects in zip(found, wanted):
            by_class: dict[str, list[str | None]] = {}
            for name, i in objects:
                by_class.setdefault(name, [None] * len(detections.rows[name]))[i] = next(answers)
            colors.append(by_class)
        return colors


def judge_identity(detector: Path | str, clip: Path | str | None, options: Options) -> dict[str, Any]:
    """What every detection says of its making, read without torch; refuses missing weights before any work."""
    from geneval.detectors import identity_of

    identity = identity_of(detector)
    identity["clip"] = None if clip is None else find_clip(clip).identity
    identity["crop"] = {"bgcolor": options.bgcolor, "crop": options.crop}
    identity["comparable"] = is_comparable(identity)
    return as_json(identity)


def check_vocabulary(names: Sequence[str], prompts: Iterable[Prompt]) -> None:
    """A class that the detector does not know would score 0 without a word."""
    asked = {name for prompt in prompts for name in prompt.class_names}
    if unknown := sorted(asked - set(names)):
        raise ValueError(f"the prompts ask for classes that this detector does not know: {', '.join(unknown)}")


def _same_length(images: Sequence[Any], prompts: Sequence[Any]) -> None:
    if len(images) != len(prompts):
        raise ValueError(f"{len(images)} images and {len(prompts)} prompts; a judge needs one prompt an image")


def _same_size_batches(pictures: "Sequence[Image.Image]", batch_size: int) -> Iterator[list[int]]:
    waiting: dict[tuple[int, int], list[int]] = {}
    for i, picture in enumerate(pictures):
        batch = waiting.setdefault(picture.size, [])
        batch.append(i)
        if len(batch) == batch_size:
            yield waiting.pop(picture.size)
    yield from waiting.values()
