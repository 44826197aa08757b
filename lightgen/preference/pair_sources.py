"""Where preferences come from: a teacher, a verifier, damaged detail, a wrong layout, or a coin.

Sources that make images write OUT/images and then OUT/pairs.jsonl, and go on image by image after a kill.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightgen.data.images import save_image
from lightgen.data.painters import Painter
from lightgen.data.shards import Sample, read_shards, shard_paths
from lightgen.disk.folders import claim_folder
from lightgen.disk.json_files import read_json_lines
from lightgen.disk.seeds import derive_seed
from lightgen.preference.pairs import Pair, write_pairs

if TYPE_CHECKING:
    from PIL.Image import Image

    from lightgen.model.encoders import ImageTokenizer

DAMAGES = ("blur", "noise", "vae")


def teacher_pairs(
    dataset: Path,
    model: Painter,
    out: Path,
    *,
    limit: int = 1000,
    batch_size: int = 16,
    seed: int = 0,
    identity: str = "",
    shard: tuple[int, int] = (0, 1),
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Pairs of a data set's image (chosen) and the model's own sample for its caption (rejected), as LightGen's
    released script makes them (scripts/dpo_sample.py).

    `identity` names the model's weights, so that a folder begun with others is refused. Of a `shard` (I of N) only
    every N-th batch of images is made, for the call without one to find.
    """

    def draw(samples: Sequence[Sample], numbers: Sequence[int]) -> list[Image]:
        seeds = [derive_seed(seed, sample.prompt, number) for sample, number in zip(samples, numbers)]
        return model([sample.prompt for sample in samples], seeds)

    settings = {"source": "teacher", "model": identity or model.name, "seed": seed, "limit": limit}
    samples = itertools.islice(read_shards(dataset), limit)
    return _against(samples, draw, Path(out), settings, limit, batch_size, progress, shard)


def detail_pairs(
    dataset: Path,
    out: Path,
    *,
    damages: Sequence[str] = ("blur", "noise"),
    blur: float = 0.7,
    noise: float = 8.0,
    tokenizer: ImageTokenizer | None = None,
    limit: int = 1000,
    batch_size: int = 64,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Pairs of a data set's image (chosen) and itself with its fine detail damaged (rejected); damages alternate.

    blur: a Gaussian of `blur` pixels; noise: normal with a standard deviation of `noise` grey levels; vae: encoded and
    decoded by `tokenizer`. ValueError for another damage, or for vae without a tokenizer.
    """
    if not damages or set(damages) - set(DAMAGES):
        raise ValueError(f"damages are {', '.join(damages) or 'none'}; valid: {', '.join(DAMAGES)}")
    if "vae" in damages and tokenizer is None:
        raise ValueError("the damage 'vae' needs an image tokenizer (--vae)")

    def spoil(samples: Sequence[Sample], numbers: Sequence[int]) -> list[Image]:
        return [
            _damaged(sample.image, damages[number % len(damages)], derive_seed(seed, "detail", number))
            for sample, number in zip(samples, numbers)
        ]

    def _damaged(image: Image, damage: str, own_seed: int) -> Image:
        if damage == "blur":
            from PIL import ImageFilter

            return image.filter(ImageFilter.GaussianBlur(blur))
        if damage == "noise":
            return _noisy(image, noise, own_seed)
        assert tokenizer is not None
        return tokenizer.decode(tokenizer.latents(tokenizer.moments([image]), None))[0]

    settings = {
        "source": "detail",
        "damages": list(damages),
        "blur": blur,
        "noise": noise,
        "seed": seed,
        "limit": limit,
    }
    settings["vae"] = tokenizer.identity if tokenizer is not None and "vae" in damages else ""
    return _against(
        itertools.islice(read_shards(dataset), limit), spoil, Path(out), settings, limit, batch_size, progress
    )


def layout_pairs(
    dataset: Path,
    against: Path,
    out: Path,
    *,
    limit: int = 1000,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Pairs of a data set's image (chosen) and the image of the same key in `against` (rejected), where the same
    objects stand so that the caption is wrong; a sample without a counterpart gives no pair.

    ValueError where a key's captions differ or `against` has keys that the data set lacks.
    """
    wrong = {sample.key: sample for sample in itertools.islice(read_shards(against), limit)}
    found: set[str] = set()

    def right() -> Iterator[Sample]:
        for sample in read_shards(dataset):
            if sample.key in wrong:
                found.add(sample.key)
                yield sample
        if lost := sorted(set(wrong) - found):
            raise ValueError(f"{against} has {len(lost)} samples that {dataset} lacks, the first {lost[0]}")

    def counterpart(samples: Sequence[Sample], numbers: Sequence[int]) -> list[Image]:
        for sample in samples:
            if (other := wrong[sample.key].prompt) != sample.prompt:
                raise ValueError(f"sample {sample.key} is {sample.prompt!r} in {dataset}, but {other!r} in {against}")
        return [wrong[sample.key].image for sample in samples]

    settings = {"source": "layout", "dataset": _identity(dataset), "against": _identity(against), "limit": limit}
    return _against(right(), counterpart, Path(out), settings, len(wrong), 64, progress)


def shuffled_pairs(pairs: Sequence[Pair], *, seed: int = 0) -> list[Pair]:
    """The pairs with one half of them (drawn by `seed`) swapped: preferences that mean nothing, the placebo."""
    swapped = set(random.Random(seed).sample(range(len(pairs)), len(pairs) // 2))
    shuffled = []
    for number, pair in enumerate(pairs):
        pair = replace(pair, source="random")
        if number in swapped:
            pair = replace(pair, chosen=pair.rejected, rejected=pair.chosen, scores=pair.scores[::-1])
        shuffled.append(pair)
    return shuffled


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
    ValueError for a gap that lets equal scores prefer one another.
    """
    if not min_gap > 0:
        raise ValueError(f"min_gap is {min_gap:g}, must be above 0: equal scores prefer nothing")
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
            if type(value) not in (int, float, bool) or not isinstance(row["prompt"], str):
                raise TypeError(f"score {value!r}, prompt {row['prompt']!r}")
            groups[row["prompt"]].append((Path(images) / row["filename"], float(value)))
            tasks[row["prompt"]] = str(row.get("tag", ""))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{results}, line {number}: needs filename, prompt and a score ({error!r})") from None
    return dict(groups), tasks


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


def _against(
    samples: Iterable[Sample],
    counterparts: Callable[[Sequence[Sample], Sequence[int]], list[Image]],
    out: Path,
    settings: Mapping[str, Any],
    total: int,
    batch_size: int,
    progress: Callable[[int, int], None] | None,
    shard: tuple[int, int] = (0, 1),
) -> Path:
    """OUT/pairs.jsonl of each sample's image (chosen) against what `counterparts(samples, their numbers)` makes."""
    claim_folder(out, settings)
    prompts: list[str] = []
    stream = iter(samples)
    while batch := list(itertools.islice(stream, batch_size)):
        numbers = range(len(prompts), len(prompts) + len(batch))
        missing = [i for i, number in enumerate(numbers) if not _place(out, number, "rejected").is_file()]
        if missing and numbers[0] // batch_size % shard[1] == shard[0]:
            made = counterparts([batch[i] for i in missing], [numbers[i] for i in missing])
            for index, image in zip(missing, made, strict=True):
                save_image(batch[index].image, _place(out, numbers[index], "chosen"))
                save_image(image, _place(out, numbers[index], "rejected"))
        prompts += [sample.prompt for sample in batch]
        if progress is not None:
            progress(len(prompts), total)
    if shard[1] > 1:
        return out / "pairs.jsonl"
    return write_pairs(
        (
            Pair(prompt=text, chosen=_place(out, i, "chosen"), rejected=_place(out, i, "rejected"),
                 source=settings["source"])
            for i, text in enumerate(prompts)
        ),
        out / "pairs.jsonl",
    )  # fmt: skip


def _identity(dataset: Path) -> str:
    """Which shards these are, by name and size: hashing all of a large data set would take hours."""
    listing = [(path.name, path.stat().st_size) for path in shard_paths(dataset)]
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def _place(out: Path, number: int, which: str) -> Path:
    return out / f"images/{number:06d}-{which}.png"


def _noisy(image: Image, deviation: float, seed: int) -> Image:
    import numpy as np
    from PIL import Image as Pillow

    pixels = np.asarray(image, np.float32) + np.random.default_rng(seed).normal(0, deviation, (*image.size[::-1], 3))
    return Pillow.fromarray(pixels.clip(0, 255).round().astype(np.uint8))
