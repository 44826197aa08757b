"""A folder of images to its detections.jsonl: batched, sharded, resumable after a kill."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geneval.atomic import write_text
from geneval.completeness import IncompleteFolder
from geneval.detections import FILE_NAME, LARGEST_FILE, DetectionsError, ImageDetections, parse_line
from geneval.hashes import file_sha256
from geneval.images import MAX_BYTES, ImageError, read_image
from geneval.judge import COLOR_FLOOR, Judge, judge_identity
from geneval.layout import PromptFolder, read_layout
from geneval.options import DEFAULTS, Options
from geneval.prompts import Prompt
from geneval.regular import regular_file

if TYPE_CHECKING:
    from PIL import Image

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
    color_floor: float = COLOR_FLOOR,
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
    identity = judge_identity(detector, clip, options)
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


def _resume(out: Path, partial: Path, work: _Work) -> dict[str, str]:
    """filename -> line of the images that are done: same detector, same picture. A torn last line is dropped."""
    done: dict[str, str] = {}
    for path in (out, partial):
        if not path.is_file():
            continue
        texts = regular_file(path, LARGEST_FILE).read_text(encoding="utf-8", errors="replace").split("\n")
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
    return path.is_file() and path.stat().st_size <= MAX_BYTES and file_sha256(path) == sha256


def _detected(work: _Work, todo: Sequence[str], problems: list[str]) -> Iterator[list[ImageDetections]]:
    """Batches of finished lines; pictures that cannot be read are added to `problems`."""
    judge = Judge.from_pretrained(
        work.detector,
        work.clip,
        work.device,
        options=work.options,
        batch_size=work.batch_size,
        color_floor=work.color_floor,
    )
    prompt_of = {folder.name: Prompt.from_metadata(folder.metadata) for folder in work.folder_of.values()}
    judge.prompts(list(prompt_of.values()))
    for batch in _same_size_batches(work.images, todo, work.batch_size, problems):
        found = judge.detect([image for _, _, image in batch], [prompt_of[work.folder_of[n].name] for n, _, _ in batch])
        yield [
            replace(line, filename=name, sha256=sha256, detector=work.identity)
            for (name, sha256, _), line in zip(batch, found)
        ]


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
