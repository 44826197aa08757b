"""A folder of images to its detections.jsonl: batched, sharded, resumable after a kill."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geneval.atomic import write_text
from geneval.clip import find_clip
from geneval.comparability import is_comparable
from geneval.completeness import IncompleteFolder
from geneval.detections import FILE_NAME, DetectionsError, ImageDetections, parse_line
from geneval.hashes import file_sha256
from geneval.images import ImageError, read_image
from geneval.json_files import as_json
from geneval.layout import PromptFolder, read_layout
from geneval.options import DEFAULTS, Options

if TYPE_CHECKING:
    from PIL import Image

    from geneval.color import ColorClassifier
    from geneval.detector import Detections, Detector

Progress = Callable[[int, int], None]  # images done, images in all
_Picture = tuple[str, str, "Image.Image"]  # filename, sha256, RGB


def detect_images(
    images: Path,
    detector: Path | str,
    clip: Path | str | None,
    *,
    batch_size: int = 32,
    device: str = "auto",
    shard: tuple[int, int] = (0, 1),
    options: Mapping[str, object] | Options = DEFAULTS,
    color_floor: float = 0.1,
    allow_partial: bool = False,
    progress: Progress | None = None,
    left_out: Callable[[str], None] | None = None,
) -> Path:
    """Detect every sample of a folder and write IMAGES/detections.jsonl (a shard: detections-I-of-N.jsonl).

    Finished images are kept in a `.partial` file as the run goes, so a killed run goes on where it was; the file gets
    its name when it is complete. Colors are asked for the objects that the prompts' color clauses can reach with any
    threshold above `color_floor`; without `clip` they go to the classifier that the options name. A damaged picture
    is one line in `IncompleteFolder`; with `allow_partial` the rest is finished without it, and `left_out` hears of it.
    """
    images, options = Path(images), Options.parse(options)
    if not 0 <= shard[0] < shard[1] or batch_size < 1:
        raise ValueError(f"shard must be (i, n) with 0 <= i < n and batch_size at least 1, not {shard}, {batch_size}")
    folders, problems = read_layout(images)
    _refuse(images, problems, allow_partial)
    folder_of = _samples_of(images, folders[shard[0] :: shard[1]], problems)
    if clip is None and _asks_color(folders):
        clip = options.clip_model
    identity = _identity(detector, clip, options)
    work = _Work(images, folder_of, detector, clip, identity, options, color_floor, batch_size, device)
    out = images / (FILE_NAME if shard[1] == 1 else f"detections-{shard[0]}-of-{shard[1]}.jsonl")
    partial = out.with_name(f"{out.name}.partial")
    done = _resume(out, partial, work)
    todo = [sample for sample in folder_of if sample not in done]
    if not todo and out.is_file() and not partial.is_file():
        return out
    for lines in _kept(_detected(work, todo, problems), partial) if todo else ():
        done.update(lines)
        if progress is not None:
            progress(len(done), len(folder_of))
    _refuse(images, problems, allow_partial)
    for problem in problems if left_out else ():
        left_out(problem)  # type: ignore[misc]
    write_text(out, "".join(f"{done[sample]}\n" for sample in folder_of if sample in done))
    partial.unlink(missing_ok=True)
    return out


@dataclass(frozen=True)
class _Work:
    """What every batch of a run shares."""

    images: Path
    folder_of: Mapping[str, PromptFolder]
    detector: Path | str
    clip: Path | str | None
    identity: Mapping[str, Any]
    options: Options
    color_floor: float
    batch_size: int
    device: str


def _refuse(images: Path, problems: Sequence[str], allow_partial: bool) -> None:
    if problems and not allow_partial:
        raise IncompleteFolder(images, problems)


def _samples_of(images: Path, folders: Sequence[PromptFolder], problems: Sequence[str]) -> dict[str, PromptFolder]:
    """sample -> its folder; none at all is refused."""
    folder_of = {sample: folder for folder in folders for sample in folder.samples}
    if not folder_of:
        layout = "INDEX/metadata.jsonl with INDEX/samples/COPY.png, as 00000/samples/00000.png"
        raise IncompleteFolder(images, [*problems, f"no samples in this folder (or shard); it must hold {layout}"])
    return folder_of


def _kept(found: Iterable[list[ImageDetections]], partial: Path) -> Iterator[dict[str, str]]:
    """filename -> line of each batch, once it is written down."""
    with open(partial, "a", encoding="utf-8") as file:
        for batch in found:
            lines = {line.filename: line.line() for line in batch}
            file.writelines(f"{text}\n" for text in lines.values())
            file.flush()
            yield lines


def _asks_color(folders: Sequence[PromptFolder]) -> bool:
    return any("color" in clause for folder in folders for clause in folder.metadata.get("include", ()))


def _identity(detector: Path | str, clip: Path | str | None, options: Options) -> dict[str, Any]:
    """What every line says of its making; refuses missing weights before any work."""
    from geneval.detector import detector_folder, detector_identity

    identity = detector_identity(detector_folder(detector))
    identity["clip"] = None if clip is None else find_clip(clip).identity
    identity["crop"] = {"bgcolor": options.bgcolor, "crop": options.crop}
    identity["comparable"] = is_comparable(identity)
    return as_json(identity)


def _resume(out: Path, partial: Path, work: _Work) -> dict[str, str]:
    """filename -> line of the images that are done: same detector, same picture. A torn last line is dropped."""
    done: dict[str, str] = {}
    for path in (out, partial):
        if not path.is_file():
            continue
        texts = path.read_text(encoding="utf-8", errors="replace").split("\n")
        for number, text in enumerate(texts[:-1], 1):
            line = _line_or_none(text, f"{path}:{number}", is_last=number == len(texts) - 1)
            if line is None:
                continue
            if dict(line.detector) != work.identity:
                raise ValueError(f"{path}: made by another detector or other settings; delete it to detect anew")
            if line.filename in work.folder_of and _is_same_picture(work.images / line.filename, line.sha256):
                done[line.filename] = text
    if partial.is_file():
        # A torn line without its newline would swallow the next one.
        write_text(partial, "".join(f"{text}\n" for text in done.values()))
    return done


def _line_or_none(text: str, where: str, *, is_last: bool) -> ImageDetections | None:
    try:
        return parse_line(text, where)
    except DetectionsError:
        if is_last:
            return None
        raise


def _is_same_picture(path: Path, sha256: str) -> bool:
    return path.is_file() and file_sha256(path) == sha256


def _detected(work: _Work, todo: Sequence[str], problems: list[str]) -> Iterator[list[ImageDetections]]:
    """Batches of finished lines; pictures that cannot be read are added to `problems`."""
    from geneval.color import ColorClassifier, color_candidates
    from geneval.detector import Detector

    model = Detector.from_pretrained(work.detector, work.device)
    _check_vocabulary(model, work.folder_of.values())
    classifier = None if work.clip is None else ColorClassifier.from_pretrained(work.clip, work.device)
    for batch in _same_size_batches(work.images, todo, work.batch_size, problems):
        found = model.detect([image for _, _, image in batch])
        wanted = [
            color_candidates(work.folder_of[name].metadata, detections.rows, work.options, work.color_floor)
            for (name, _, _), detections in zip(batch, found)
        ]
        colors = _colors(batch, found, wanted, classifier, work.options)
        yield [
            ImageDetections(name, detections.size, detections.rows, answers, work.identity, sha256)
            for (name, sha256, _), detections, answers in zip(batch, found, colors)
        ]


def _check_vocabulary(model: "Detector", folders: Any) -> None:
    """A class that the detector does not know would score 0 without a word."""
    asked = {c["class"] for f in folders for key in ("include", "exclude") for c in f.metadata.get(key, ())}
    if unknown := sorted(asked - set(model.names)):
        raise ValueError(f"the prompts ask for classes that this detector does not know: {', '.join(unknown)}")


def _same_size_batches(
    images: Path, todo: Sequence[str], batch_size: int, problems: list[str]
) -> Iterator[list[_Picture]]:
    waiting: dict[tuple[int, int], list[_Picture]] = {}
    for name in todo:
        try:
            image, sha256 = read_image(images / name)
        except ImageError as error:
            problems.append(str(error))
            continue
        batch = waiting.setdefault(image.size, [])
        batch.append((name, sha256, image))
        if len(batch) == batch_size:
            yield waiting.pop(image.size)
    yield from waiting.values()


def _colors(
    batch: Sequence[_Picture],
    found: "Sequence[Detections]",
    wanted: Sequence[Sequence[tuple[str, int]]],
    classifier: "ColorClassifier | None",
    options: Options,
) -> list[dict[str, list[str | None]]]:
    """class -> colors parallel to its detections, for the classes that were asked about; one call for the batch."""
    from geneval.color import object_crop

    if classifier is None:
        return [{} for _ in batch]
    crops = [
        object_crop(image, detections.mask(name, i), detections.rows[name][i], options)
        for (_, _, image), detections, objects in zip(batch, found, wanted)
        for name, i in objects
    ]
    answers = iter(classifier.classify(crops, [name for objects in wanted for name, _ in objects]))
    colors: list[dict[str, list[str | None]]] = []
    for detections, objects in zip(found, wanted):
        by_class: dict[str, list[str | None]] = {}
        for name, i in objects:
            by_class.setdefault(name, [None] * len(detections.rows[name]))[i] = next(answers)
        colors.append(by_class)
    return colors
