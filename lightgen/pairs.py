"""Preference pairs: `pairs.jsonl` with prompt, chosen, rejected, source, scores; image paths relative to the file."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightgen.atomic import atomic_file, read_json, read_json_lines, write_json
from lightgen.images import read_image
from lightgen.seeds import derive_seed
from lightgen.shards import png_bytes, read_shards

if TYPE_CHECKING:
    from PIL import Image

    from lightgen.teachers import Teacher


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two images of one prompt, the first preferred."""

    prompt: str
    chosen: Path
    rejected: Path
    source: str = "file"  # where the preference comes from: teacher, verifier, ...
    scores: tuple[float, ...] = field(default=())  # of chosen and rejected, where they were scored


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a file, each checked: a prompt, two different image files that exist."""
    path = Path(path)
    pairs = [_pair(path, number, row) for number, row in read_json_lines(path)]
    if not pairs:
        raise ValueError(f"{path} holds no pairs")
    return pairs


def write_pairs(pairs: Iterable[Pair], path: Path) -> Path:
    """Write `path` (pairs.jsonl) atomically; images must lie in its folder or below, or beside it."""
    path = Path(path)
    rows = []
    for pair in pairs:
        row = asdict(pair)
        for name in ("chosen", "rejected"):
            row[name] = _relative(Path(row[name]), path.parent)
        rows.append(json.dumps(row, ensure_ascii=False))
    with atomic_file(path) as file:
        file.write("".join(row + "\n" for row in rows).encode())
    return path


def teacher_pairs(
    dataset: Path,
    model: Teacher,
    out: Path,
    *,
    limit: int = 1000,
    batch_size: int = 16,
    seed: int = 0,
    identity: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Pairs of a data set's image (chosen) and the model's own sample for its caption (rejected), as LightGen's
    released sampling script makes them. Writes OUT/pairs.jsonl and images; resumes image by image.

    `identity` names the model's weights, so that a folder begun with others is refused.
    """
    out = Path(out)
    claim_folder(out, {"source": "teacher", "model": identity or model.name, "seed": seed, "limit": limit})
    prompts: list[str] = []
    stream = itertools.islice(read_shards(dataset), limit)
    while batch := list(itertools.islice(stream, batch_size)):
        missing = [i for i in range(len(batch)) if not _place(out, len(prompts) + i, "rejected").is_file()]
        if missing:
            captions = [batch[i].prompt for i in missing]
            drawn = model(captions, [derive_seed(seed, batch[i].prompt, len(prompts) + i) for i in missing])
            for index, image in zip(missing, drawn):
                save_image(batch[index].image, _place(out, len(prompts) + index, "chosen"))
                save_image(image, _place(out, len(prompts) + index, "rejected"))
        prompts += [sample.prompt for sample in batch]
        if progress is not None:
            progress(len(prompts), limit)
    return write_pairs(
        (
            Pair(prompt=text, chosen=_place(out, i, "chosen"), rejected=_place(out, i, "rejected"), source="teacher")
            for i, text in enumerate(prompts)
        ),
        out / "pairs.jsonl",
    )


def _place(out: Path, index: int, which: str) -> Path:
    return out / f"images/{index:06d}-{which}.png"


def ranked_pairs(
    groups: Mapping[str, Sequence[tuple[Path, float]]],
    *,
    per_prompt: int = 1,
    min_gap: float = 1e-9,
    source: str = "verifier",
    categories: Mapping[str, str] | None = None,
    per_category: int | None = None,
    seed: int = 0,
) -> list[Pair]:
    """Best against worst of the scored samples of each prompt, then second best against second worst, and so on.

    At most `per_prompt` pairs a prompt; pairs whose scores differ by less than `min_gap` are ties and are dropped.
    With `categories` (prompt -> task), at most `per_category` pairs of one task are kept, chosen by `seed`.
    """
    pairs: list[Pair] = []
    for prompt, samples in groups.items():
        ranked = sorted(samples, key=lambda item: (-item[1], str(item[0])))
        matches = zip(ranked[: len(ranked) // 2], ranked[::-1])
        for (best, high), (worst, low) in list(matches)[:per_prompt]:
            if high - low >= min_gap:
                pairs.append(Pair(prompt=prompt, chosen=best, rejected=worst, source=source, scores=(high, low)))
    if categories is None or per_category is None:
        return pairs
    return _balanced(pairs, categories, per_category, seed)


def read_groups(
    results: Path, images: Path, *, score: str = "score"
) -> tuple[dict[str, list[tuple[Path, float]]], dict[str, str]]:
    """(scored samples by prompt, task by prompt) from a results file: JSON lines with filename, prompt, and a number
    `score` or, without one, the verdict `correct`."""
    groups: dict[str, list[tuple[Path, float]]] = defaultdict(list)
    tasks: dict[str, str] = {}
    for number, row in read_json_lines(results):
        try:
            value = row[score] if score in row else row["correct"]
            groups[row["prompt"]].append((Path(images) / row["filename"], float(value)))
            tasks[row["prompt"]] = str(row.get("tag", ""))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{results}, line {number}: needs filename, prompt and a score ({error!r})") from None
    return dict(groups), tasks


def pairs_sha256(pairs: Sequence[Pair]) -> str:
    """The identity of the pairs: prompts and image bytes."""
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(json.dumps(pair.prompt).encode())
        for path in (pair.chosen, pair.rejected):
            digest.update(hashlib.sha256(Path(path).read_bytes()).digest())
    return digest.hexdigest()


def claim_folder(out: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of a resumable folder before its first file, or refuse a folder begun with others."""
    path = Path(out) / "settings.json"
    settings = json.loads(json.dumps(settings))
    if path.is_file():
        if read_json(path) != settings:
            raise ValueError(f"{out} was begun with other settings; choose another folder or remove it")
    else:
        write_json(path, settings)


def save_image(image: Image.Image, path: Path) -> None:
    """Write a PNG atomically."""
    with atomic_file(path) as file:
        file.write(png_bytes(image))


def _balanced(pairs: list[Pair], categories: Mapping[str, str], per_category: int, seed: int) -> list[Pair]:
    order = list(range(len(pairs)))
    random.Random(seed).shuffle(order)
    counts: dict[str, int] = defaultdict(int)
    kept = []
    for index in order:
        category = categories.get(pairs[index].prompt, "")
        if counts[category] < per_category:
            counts[category] += 1
            kept.append(index)
    return [pairs[index] for index in sorted(kept)]


def _pair(path: Path, number: int, row: Any) -> Pair:
    where = f"{path}, line {number}"
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected an object with prompt, chosen and rejected")
    for name in ("prompt", "chosen", "rejected"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise ValueError(f"{where}: {name} is missing or empty")
    chosen, rejected = (path.parent / row[name] for name in ("chosen", "rejected"))
    if chosen.resolve() == rejected.resolve():
        raise ValueError(f"{where}: chosen and rejected are the same image, {row['chosen']}")
    for image in (chosen, rejected):
        if not image.is_file():
            raise FileNotFoundError(f"{where}: image {image} is missing")
    return Pair(
        prompt=row["prompt"],
        chosen=chosen,
        rejected=rejected,
        source=str(row.get("source", "file")),
        scores=tuple(float(score) for score in row.get("scores") or ()),
    )


def _relative(image: Path, folder: Path) -> str:
    return Path(os.path.relpath(image, folder)).as_posix()


def pair_images(pairs: Iterable[Pair]) -> Iterator[tuple[Image.Image, Image.Image]]:
    """(chosen, rejected) images, one pair at a time; all sizes must agree, and the two of a pair must differ."""
    first: tuple[Path, tuple[int, int]] | None = None
    for pair in pairs:
        chosen, rejected = read_image(pair.chosen), read_image(pair.rejected)
        for image, path in ((chosen, pair.chosen), (rejected, pair.rejected)):
            first = first or (path, image.size)
            if image.size != first[1]:
                raise ValueError(f"{path} is {image.size}, but {first[0]} is {first[1]}; pairs need one size")
        if chosen.tobytes() == rejected.tobytes():
            raise ValueError(f"{pair.chosen} and {pair.rejected} show the same pixels; remove the pair")
        yield chosen, rejected
