"""A study's folder: whose it is, study.json, and that one command at a time works in it."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ablations.runner.plan import plain
from ablations.runner.store import Store
from ablations.runner.study import Cell, Study, Variant
from lightgen.disk.json_files import read_object, typed, write_sealed

SCHEMA = 1
OWN = {"store", "plan.json", ".lock", ".owner", "cells", "jobs"}


def check_folder(out: Path, study: Study, scale: str, setting: Any) -> None:
    """Refuse a folder of another study, scale, setting or version, or that a person keeps other things in."""
    path = out / "study.json"
    if path.is_file():
        _check_study(out, read_object(path), study, scale, setting)
    elif out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; give a folder as --out")
    elif out.is_dir() and any(p.name not in OWN for p in out.iterdir()):
        raise ValueError(f"{out} is not empty and holds no study; give another --out")
    Store(out / "store", create=False)


def _check_study(out: Path, found: Mapping[str, Any], study: Study, scale: str, setting: Any) -> None:
    if (found.get("name"), found.get("scale")) != (study.name, scale):
        raise ValueError(
            f"{out} holds the study {found.get('name')} at scale {found.get('scale')}, not {study.name} at {scale};"
            " give another --out"
        )
    if "setting_changes" not in found:
        raise ValueError(
            f"{out} was written by lightgen-bench 0.1, whose settings this version does not read: give another --out,"
            " or use that version (`python -m reports build` still reads its records)"
        )
    before, now = flat(typed(found.get("protocol", {}), f"{out / 'study.json'}: protocol")), flat(plain(setting))
    # A field that an older version did not have is at its default there, as it is in keys.
    before = flat(json.loads(json.dumps(_defaults(setting)))) | before
    changed = [name for name in now | before if name not in now or before.get(name) != now[name]]
    if changed := [name for name in changed if not name.startswith("runtime.")]:
        told = ", ".join(f"{name} {before.get(name)!r}, now {now.get(name)!r}" for name in changed[:3])
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise ValueError(f"{out} was begun with another setting ({told}{more}); give another --out")


def _defaults(setting: Any) -> dict[str, Any]:
    """The fields of a dataclass that have a default, and those of the dataclasses in it."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(setting):
        value = getattr(setting, field.name)
        if dataclasses.is_dataclass(value):
            found[field.name] = _defaults(value)
        elif field.default is not dataclasses.MISSING:
            found[field.name] = field.default
    return found


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The nested mapping with dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def write_study(
    out: Path,
    study: Study,
    variants: Sequence[Variant],
    scale: str,
    setting: Any,
    cells: Sequence[Cell],
    changes: Mapping[str, Any],
) -> None:
    """OUT/study.json: what was asked, of the cells of this command and of those that are there already. Where variants
    were made at other seeds, each names its own."""
    asked = {(cell.variant, cell.seed) for cell in cells} | set(_recorded(out, variants))
    names = {variant for variant, _ in asked}
    single = {variant.name for variant in variants if variant.is_control}
    seeds = sorted({seed for variant, seed in asked if variant not in single} or {seed for _, seed in asked})
    write_sealed(
        out / "study.json",
        {
            "schema": SCHEMA,
            **{name: getattr(study, name) for name in ("name", "title", "question", "claim", "source")},
            "scale": scale,
            "seeds": seeds,
            "note": study.note(scale, setting),
            "variants": [_described(v, asked, seeds) for v in variants if v.name in names],
            "contrasts": [
                asdict(made) for contrast in study.contrasts_of(setting) if (made := contrast.of_made(names))
            ],
            "splits": [asdict(split) for split in study.splits(setting)],
            "draws": study.draws,
            "interaction": dict(study.interaction),
            "protocol": cells[0].setting,
            "setting_changes": dict(changes),
        },
    )


def _described(variant: Variant, asked: Collection[tuple[str, int]], seeds: Sequence[int]) -> dict[str, Any]:
    own = [seed for seed in seeds if (variant.name, seed) in asked]
    common = {
        "name": variant.name,
        "label": variant.label,
        "factors": dict(variant.factors),
        "once": variant.is_control,
    }
    return common if variant.is_control or own == list(seeds) else {**common, "seeds": own}


def _recorded(out: Path, variants: Sequence[Variant]) -> Iterator[tuple[str, int]]:
    known = {variant.name for variant in variants}
    for path in (out / "cells").glob("*/result.json"):
        variant, _, seed = path.parent.name.rpartition("-s")
        if variant in known and seed.isdigit():
            yield variant, int(seed)


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Hold OUT for this process; the kernel lets go of it when the process ends, however it ends."""
    out.mkdir(parents=True, exist_ok=True)
    owner = out / ".owner"
    try:
        with FileLock(out / ".lock", timeout=0):
            owner.write_text(f"{os.getpid()} on {socket.gethostname()}", encoding="utf-8")
            yield
    except Timeout:
        holder = owner.read_text(encoding="utf-8") if owner.is_file() else "unknown"
        raise ValueError(f"{out} is being worked on by process {holder}; wait for it or stop it") from None


def owner_of(out: Path) -> tuple[int, str]:
    """Process and host of the command that works in OUT now; (0, "") if there is none."""
    try:
        with FileLock(out / ".lock", timeout=0):
            return 0, ""
    except Timeout:
        pid, _, host = (out / ".owner").read_text(encoding="utf-8").partition(" on ")
        return int(pid), host
