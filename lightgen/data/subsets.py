"""Subsets of a latent cache that differ in diversity and in nothing else that can be matched: ids, not copies.

Samples fall into groups (clusters, captions or compositions). A narrow subset takes few groups, a diverse one all, each
as evenly as they allow, with the same number of images and the whole's mean caption length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lightgen.data.clusters import clusters
from lightgen.data.config import SubsetConfig
from lightgen.data.diversity import balance, conditional_vendi, measures, rank_agreement
from lightgen.data.matching import WORST, even_quotas, matched_draw
from lightgen.data.mentions import Vocabulary
from lightgen.data.pool import Pool, caption_features, image_features, read_pool
from lightgen.disk.json_files import read_object, write_sealed
from lightgen.disk.seeds import derive_seed

SCHEMA = 1
TRIES = 20  # draws of groups
AGREEING = ("distinct_captions", "effective_clusters", "vendi")
PROBE_IMAGES = 1000
LENGTH = "caption_length"  # characters


@dataclass(frozen=True)
class Grouped:
    """A pool with what its subsets are drawn and measured by."""

    pool: Pool
    group: np.ndarray  # (N,) the group that subsets are drawn by; -1 = in none
    cluster: np.ndarray  # (N,)
    features: np.ndarray  # (rows, D) whole numbers
    row: np.ndarray  # (N,) each sample's row of the features
    images: Callable[[np.ndarray], np.ndarray] | None = None  # image features of some samples
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)  # (N,) each: what is told of the balance


def draw_subset(
    latents: Path,
    out: Path,
    config: SubsetConfig = SubsetConfig(),  # noqa: B008
    *,
    objects: Sequence[str] = (),
) -> dict[str, Any]:
    """Draw a subset of a cache, write it to the file `out` and return it; `objects` are the names that compositions are
    of. ValueError says the largest number of images that can be drawn, or what cannot be matched."""
    found = draw(grouped(latents, read_pool(latents), config, objects), config)
    write_sealed(out, found)
    return found


def read_subset(path: Path, identity: str) -> list[int]:
    """The ids of a subset file. ValueError for one that was drawn from another cache than that of the identity."""
    found = read_object(path)
    if found.get("schema") != SCHEMA or "ids" not in found:
        raise ValueError(f"{path} is no subset of this version; `python -m lightgen subset` writes one")
    if found.get("cache") != identity:
        raise ValueError(f"{path} was drawn from another cache than these latents; draw it anew")
    if not isinstance(found["ids"], list) or not all(type(number) is int for number in found["ids"]):
        raise ValueError(f"{path}: ids: expected whole numbers; draw it anew")
    return found["ids"]


def grouped(latents: Path, pool: Pool, config: SubsetConfig, objects: Sequence[str] = ()) -> Grouped:
    """The pool's samples in groups."""
    from lightgen.data.latents import LatentDataset
    from lightgen.data.pool import pooled

    if config.features == "images":
        features, row = image_features(latents, pool), np.arange(len(pool))
    else:
        features, row = caption_features(latents, pool), pool.caption

    def images(rows: np.ndarray) -> np.ndarray:
        import torch

        data = LatentDataset(latents, ids=rows.tolist())
        modes = data.modes(torch.arange(len(rows)))
        return pooled(modes, modes.shape[1])

    cluster = clusters(features, min(config.clusters, len(features)), config.seed if config.by == "clusters" else 0)[
        row
    ]
    vocabulary = Vocabulary(objects) if objects else None
    if config.by == "compositions" and vocabulary is None:
        raise ValueError("compositions are of objects: give their names, a line each (--objects FILE)")
    group = cluster if config.by == "clusters" else pool.caption
    columns = _columns(pool)
    if vocabulary is not None:
        named = [vocabulary.mentions(caption) for caption in pool.captions]
        columns["objects_named"] = np.array([len(found.objects) for found in named])[pool.caption]
        if config.by == "compositions":
            group = _numbered([found.composition for found in named])[pool.caption]
    return Grouped(pool, group, cluster, features, row, images, columns)


def draw(data: Grouped, config: SubsetConfig) -> dict[str, Any]:
    """The subset as a subset file has it."""
    inside = (data.group >= 0) & ~data.pool.held_out(config.held_out)
    chosen, rows, left = _drawn(data, config, inside)
    measured = _measured(data, rows, config.seed)
    return {
        "schema": SCHEMA,
        "cache": data.pool.identity,
        "config": asdict(config),
        "images": len(rows),
        "groups": {"of": len(np.unique(data.group[inside])), "taken": len(chosen)},
        "in_no_group": int((data.group < 0).sum()),
        "matched": left,
        "balance": balance(data.columns or _columns(data.pool), inside, rows),
        "diversity": measured,
        "agreement": _agreement(data, inside, config.seed),
        "ids": rows.tolist(),
    }


def lines(found: Mapping[str, Any]) -> list[str]:
    """A subset as a person reads it: groups, balance, measures of diversity and their agreement."""
    groups, by = found["groups"], found["config"]["by"]
    told = [f"{found['images']:,} images of {groups['taken']} of {groups['of']} {by}"]
    told += [f"{'':24}{'whole':>12}{'subset':>12}{'difference in deviations':>28}"]
    told += [
        f"{row['column'][:23]:24}{row['pool']:12.4g}{row['subset']:12.4g}{row['difference']:28.3f}"
        for row in found["balance"]
    ]
    told += [f"{name}: {value:.4g}" for name, value in found["diversity"].items()]
    told += [f"rank agreement of {pair}: {value:.2f}" for pair, value in found["agreement"].items()]
    return told


def _columns(pool: Pool) -> dict[str, np.ndarray]:
    lengths = {
        LENGTH: np.array([len(caption) for caption in pool.captions])[pool.caption],
        "caption_words": np.array([len(caption.split()) for caption in pool.captions])[pool.caption],
    }
    return {**lengths, **pool.numbers}


def _numbered(compositions: Sequence[tuple[str, ...]]) -> np.ndarray:
    """A number for each composition, -1 for one of nothing."""
    known: dict[tuple[str, ...], int] = {}
    return np.array([known.setdefault(found, len(known)) if found else -1 for found in compositions])


def _drawn(data: Grouped, config: SubsetConfig, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """(groups, rows, deviations of what is matched from the whole)."""
    rng = np.random.default_rng(derive_seed(config.seed, "subset"))
    sizes = np.bincount(data.group[inside], minlength=int(data.group.max()) + 1)
    count, need = _number_of_groups(config, sizes), max(config.images, config.room)
    names, standard = _standard(data, config, inside)
    noise = -np.log(-np.log(rng.random(len(data.group)).clip(1e-12, 1 - 1e-12)))
    largest = int(np.sort(sizes)[::-1][:count].sum())
    if need > largest:
        raise ValueError(
            f"{count} of {(sizes > 0).sum()} {config.by} hold {largest} images at most, not {need:,}; take --images"
            f" {largest} or fewer, or more groups (--diversity K)"
        )
    worst = np.inf
    for attempt in range(TRIES):
        order = _order(rng, sizes, count, need)
        tried = [_filled(data, order, sizes, size, inside, standard, noise) for size in {need, config.images}]
        worst = min(worst, max(np.abs(left).max(initial=0) for _, left in tried))
        if worst < WORST or attempt == TRIES - 1:
            break
    if worst >= WORST:
        raise ValueError(
            f"{config.images:,} images of {count} {config.by} stay {worst:.2f} deviations from the whole's mean in"
            f" {', '.join(names)}; take another number of images, more groups, another seed, or match less"
        )
    rows, left = min(tried, key=lambda found: len(found[0]))
    return order, rows, dict(zip(names, map(float, left)))


def _number_of_groups(config: SubsetConfig, sizes: np.ndarray) -> int:
    there = int((sizes > 0).sum())
    if config.diversity.isdigit() and int(config.diversity) > there:
        raise ValueError(f"--diversity {config.diversity}: there are {there} {config.by}; give {there} or fewer")
    if config.diversity.isdigit():
        return int(config.diversity)
    return there if config.diversity == "diverse" else max(1, round(config.narrow * there))


def _standard(data: Grouped, config: SubsetConfig, inside: np.ndarray) -> tuple[list[str], np.ndarray]:
    """What is matched, as deviations from the mean of the whole (N, C)."""
    columns = data.columns or _columns(data.pool)
    if unknown := [name for name in config.match if name not in columns]:
        raise ValueError(f"no number {', '.join(unknown)} to match; there are {', '.join(columns)}")
    names = [name for name in dict.fromkeys((LENGTH, *config.match)) if columns[name][inside].std() > 0]
    values = [(columns[name] - columns[name][inside].mean()) / columns[name][inside].std() for name in names]
    return names, np.stack(values, 1) if values else np.zeros((len(data.group), 0))


def _order(rng: np.random.Generator, sizes: np.ndarray, count: int, need: int) -> np.ndarray:
    """`count` groups drawn at random that can hold `need` images: the largest ones where no draw finds such."""
    there = np.flatnonzero(sizes > 0)
    for _ in range(TRIES * 10):
        order = there[np.argsort(rng.random(len(there)), kind="stable")][:count]
        if sizes[order].sum() >= need:
            return order
    return there[np.argsort(-sizes[there], kind="stable")][:count]


def _filled(
    data: Grouped,
    order: np.ndarray,
    sizes: np.ndarray,
    count: int,
    inside: np.ndarray,
    standard: np.ndarray,
    noise: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """(rows, deviations) of `count` images of the groups in `order`."""
    own = np.zeros(len(sizes), int)
    own[order] = sizes[order]
    quotas = even_quotas(own, count, order)
    candidates = np.flatnonzero(inside & np.isin(data.group, order))
    rows, left = matched_draw(data.group[candidates], quotas, standard[candidates], noise[candidates])
    return candidates[rows], left


def _measured(data: Grouped, rows: np.ndarray, seed: int) -> dict[str, float]:
    """The measures of diversity; that of images which share a caption only where there are such."""
    found = measures(data.pool.caption[rows], data.cluster[rows], data.features[data.row[rows]], seed)
    if data.images is not None:
        drawn = _of_shared_captions(data.pool.caption[rows], rows)
        values = data.images(drawn) if len(drawn) else None
        if values is not None and (scores := conditional_vendi(values - values.mean(0), data.pool.caption[drawn])):
            found |= {"conditional_vendi": scores[0], "conditional_vendi_captions": float(scores[1])}
    return found


def _of_shared_captions(caption: np.ndarray, rows: np.ndarray, most: int = PROBE_IMAGES) -> np.ndarray:
    """Two images of each of some captions that have two."""
    order = np.argsort(caption, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(caption[order]) != 0])
    paired = starts[np.diff(np.r_[starts, len(order)]) > 1][:most]
    return rows[np.sort(np.r_[order[paired], order[paired + 1]])] if len(paired) else rows[:0]


def _agreement(data: Grouped, inside: np.ndarray, seed: int) -> dict[str, float]:
    """How alike the measures rank eight subsets of one size, from few clusters to all."""
    rng = np.random.default_rng(derive_seed(seed, "probes"))
    there = np.unique(data.cluster[inside])
    where = np.flatnonzero(inside)
    levels = np.unique(np.geomspace(1, len(there), 4).round().astype(int))
    chosen = [there[np.argsort(rng.random(len(there)))[:level]] for level in levels for _ in range(2)]
    members = [where[np.isin(data.cluster[where], picked)] for picked in chosen]
    count = max(2, min(PROBE_IMAGES, len(where) // len(there)))
    probes = [rows[np.argsort(rng.random(len(rows)))[:count]] for rows in members if len(rows) >= count]
    found = [measures(data.pool.caption[r], data.cluster[r], data.features[data.row[r]], seed) for r in probes]
    return rank_agreement(found, AGREEING)
