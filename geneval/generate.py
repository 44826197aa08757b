"""GenEval's images from any diffusers text-to-image pipeline, in the original's folder layout, resumable."""

import hashlib
import json
import os
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from geneval.atomic import partial_path, write_text
from geneval.json_files import MAX_BYTES, as_json, read_object
from geneval.layout import sample_path, write_prompt_folder
from geneval.prompts import Prompt
from geneval.protocol import FILE_NAME, given_text, protocol_of
from geneval.regular import regular_file

Progress = Callable[[int, int], None]  # images done, images in all
_PNG_END = b"IEND\xaeB`\x82"


def generate_images(
    pipeline: Any,
    prompts: Sequence[Prompt],
    out: Path,
    *,
    copies: int = 4,
    seed: int = 42,
    batch_size: int = 1,
    call: Mapping[str, Any] = {},
    seeding: Literal["original", "image"] = "original",
    shard: tuple[int, int] = (0, 1),
    source: str = "",
    progress: Progress | None = None,
) -> Path:
    """Write OUT/INDEX/samples/COPY.png for every prompt; complete images that are there are kept.

    OUT/generation.json says how they are made; a folder begun in another way is refused.
    seeding="original": the global seed is set before each prompt and its images are drawn one after another,
    `batch_size` of them a call. seeding="image": each image has its own generator from (seed, prompt text, copy), so it
    does not depend on the batch, and a batch spans prompts. `call`: further arguments of the pipeline's call.
    `shard` = (i, n) takes every n-th prompt from the i-th. A prompt with `"rewritten"` in its metadata is given to the
    pipeline so; seeds and judging keep to the prompt. `source`: where the pipeline comes from, for the record.
    """
    if seeding not in ("original", "image"):
        raise ValueError(f"seeding must be 'original' or 'image', not {seeding!r}")
    if copies < 1 or batch_size < 1 or not 0 <= shard[0] < shard[1]:
        raise ValueError(
            f"copies and batch_size must be at least 1 and shard (i, n) with i < n; got {copies}, {batch_size}, {shard}"
        )
    work = [(i, prompt) for i, prompt in enumerate(prompts) if i % shard[1] == shard[0]]
    more = {"protocol": protocol_of(pipeline, call, seeding, prompts), "processes": shard[1]}
    _same_run(out, _settings(pipeline, source, seed, seeding, batch_size, call), more)
    for index, prompt in work:
        write_prompt_folder(out, index, prompt)
    todo = [
        (i, prompt, copy) for i, prompt in work for copy in range(copies) if not _is_complete(sample_path(out, i, copy))
    ]
    total = len(work) * copies
    done = total - len(todo)
    drawn = _one_generator_each if seeding == "image" else _one_seed_a_prompt
    for index, copy, image in drawn(pipeline, todo, copies, seed, batch_size, call):
        _write_png(image, sample_path(out, index, copy))
        done += 1
        if progress is not None:
            progress(done, total)
    return out


def image_seed(seed: int, prompt: str, copy: int) -> int:
    """The seed of one image: any image can be made again alone."""
    digest = hashlib.sha256(json.dumps([seed, prompt, copy]).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def _settings(
    pipeline: Any, source: str, seed: int, seeding: str, batch_size: int, call: Mapping[str, Any]
) -> dict[str, Any]:
    """What decides the images, as JSON: with a generator an image the batch size does not."""
    record = {
        "pipeline": source or type(pipeline).__name__,
        "seed": seed,
        "seeding": seeding,
        "batch_size": batch_size if seeding == "original" else None,
        "call": {name: value if _is_json(value) else type(value).__name__ for name, value in sorted(call.items())},
    }
    return as_json(record)


def _is_json(value: Any) -> bool:
    return isinstance(value, str | int | float | bool | list | dict | None)


def _same_run(out: Path, settings: Mapping[str, Any], more: Mapping[str, Any]) -> None:
    """Record how a folder's images are made, or refuse to mix them with images made otherwise; `more` may differ."""
    path = out / FILE_NAME
    if path.is_file():
        begun = read_object(path, advice="delete it if the images are to be completed")
        if differing := [name for name in settings if begun.get(name) != settings[name]]:
            name = differing[0]
            raise ValueError(
                f"{out}: begun with {name} {begun.get(name)!r}, now {settings[name]!r}; use an empty folder, or the "
                "same settings"
            )
        return
    out.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(as_json({**settings, **more}), indent=1) + "\n")


def _one_generator_each(
    pipeline: Any,
    todo: Sequence[tuple[int, Prompt, int]],
    copies: int,
    seed: int,
    batch_size: int,
    call: Mapping[str, Any],
) -> Iterator[tuple[int, int, Any]]:
    import torch

    for part in _batched(todo, batch_size):
        seeds = [image_seed(seed, prompt.prompt, copy) for _, prompt, copy in part]
        generators = [torch.Generator().manual_seed(s) for s in seeds]
        images = _images(pipeline, len(part), prompt=[given_text(p) for _, p, _ in part], generator=generators, **call)
        for (index, _, copy), image in zip(part, images):
            yield index, copy, image


def _one_seed_a_prompt(
    pipeline: Any,
    todo: Sequence[tuple[int, Prompt, int]],
    copies: int,
    seed: int,
    batch_size: int,
    call: Mapping[str, Any],
) -> Iterator[tuple[int, int, Any]]:
    """A prompt with one image missing is drawn whole: its images come from one stream."""
    wanted: dict[int, tuple[Prompt, set[int]]] = {}
    for index, prompt, copy in todo:
        wanted.setdefault(index, (prompt, set()))[1].add(copy)
    for index, (prompt, missing) in wanted.items():
        drawn: list[Any] = []
        with _seeded(seed):
            while len(drawn) <= max(missing):
                count = min(batch_size, copies - len(drawn))
                drawn += _images(pipeline, count, prompt=given_text(prompt), num_images_per_prompt=count, **call)
        for copy in sorted(missing):
            yield index, copy, drawn[copy]


def _images(pipeline: Any, count: int, **call: Any) -> list[Any]:
    try:
        output = pipeline(**call)
    except RuntimeError as error:
        if type(error) is not RuntimeError:  # out of memory, for one, says what to do
            raise
        reason = str(error).partition("\n")[0]
        raise ValueError(f"the pipeline cannot draw {call['prompt']!r:.200} ({reason})") from error
    if len(output.images) != count:
        raise ValueError(f"the pipeline returned {len(output.images)} images where {count} were asked for")
    if num_blacked := sum(map(bool, getattr(output, "nsfw_content_detected", None) or ())):
        warnings.warn(
            f"{call['prompt']!r}: the safety checker replaced {num_blacked} images by black ones",
            stacklevel=2,
        )
    return list(output.images)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The global generators seeded, as the original does before each prompt, and restored afterwards."""
    import numpy as np
    import torch

    python_state, numpy_state = random.getstate(), np.random.get_state()
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    devices = [torch.accelerator.current_device_index()] if accelerator else []
    with torch.random.fork_rng(devices, device_type=accelerator.type if accelerator else None):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


def _batched(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _is_complete(path: Path) -> bool:
    """Whether a PNG is there to its last chunk."""
    try:
        with open(regular_file(path, MAX_BYTES), "rb") as file:
            file.seek(-len(_PNG_END), os.SEEK_END)
            return file.read() == _PNG_END
    except (OSError, ValueError):
        return False


def _write_png(image: Any, path: Path) -> None:
    """Rename without fsync: an image torn by a power cut has no last chunk and is drawn again."""
    partial = partial_path(path)
    image.save(partial, format="PNG")
    os.replace(partial, path)
