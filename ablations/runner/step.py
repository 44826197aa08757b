"""A step: a frozen dataclass whose fields are its settings and the steps that it needs. Its key follows from them.

The key is a hash of the class's name and version, of every field that is not at its default, of the keys of the steps
it needs and of the *contents* of the folders it reads. So a field added later with a neutral default changes no key,
another file behind the same path changes it, and nothing that only changes speed is in it: that is `Work.runtime`.
Whoever changes a default, or what a step writes, raises the step's `version`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from lightgen.disk.folders import file_sha256, folder_sha256
from lightgen.disk.tar_files import tar_file

Facts = Mapping[str, Any]  # what a step says of its result, as JSON


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a step is given to run: where to write, where the steps before it wrote, and ways to talk back."""

    out: Path
    made: Callable[[Step], Path]
    runtime: Any  # settings that change how fast a result is there, and nothing of it
    stop: Callable[[], bool] = lambda: False  # true once the cell should save and leave
    progress: Callable[[float], None] = lambda fraction: None  # fraction done
    shard: tuple[int, int] = (0, 1)  # (i, n): which part of a step's `parts` this process does

    def tick(self, done: int, total: int) -> None:
        """Progress of a loop that keeps what it finished, which is also where it can be left: raises `Stopped`."""
        self.progress(done / total)
        if self.stop():
            raise Stopped


class Stopped(Exception):
    """Raised at a place where leaving is safe, after a signal asked the cell to stop."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One kind of work: `run` fills `Work.out` and returns facts that are kept beside its files."""

    version: ClassVar[int] = 1
    resumable: ClassVar[bool] = False  # whether an unfinished folder is worth keeping
    is_slow: ClassVar[bool] = False  # a cell that needs it waits while another cell makes it, instead of starting
    num_judged: ClassVar[int] = 0  # pictures that it judges
    together: ClassVar[bool] = False  # whether the processes of a cell run it as one, with a process group
    parts: ClassVar[tuple[str, ...]] = ()  # methods that do the `shard` of a Work; `run` then finds their work done

    def run(self, work: Work) -> Facts:
        raise NotImplementedError

    @cached_property
    def key(self) -> str:
        """The same key always means the same result."""
        return _digest([type(self).__name__, self.version, _settings(self)])

    @property
    def needs(self) -> tuple[Step, ...]:
        """The steps among the fields, in the fields' order."""
        return tuple(_steps_in(getattr(self, field.name) for field in dataclasses.fields(self)))

    @property
    def name(self) -> str:
        """The class's name in small letters: `RankedPairs` is ranked_pairs."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()

    @property
    def folder(self) -> str:
        """The name of its folder in the store."""
        return f"{self.name}-{self.key[:16]}"


@dataclass(frozen=True)
class Folder:
    """A folder outside of the store; keys hold its identity, a hash of what it holds, and never where it lies."""

    path: str  # "ablations:..." lies inside this package, wherever that is installed

    @property
    def location(self) -> Path:
        package, colon, inside = self.path.partition(":")
        return Path(__file__).parents[1] / inside if colon and package == "ablations" else Path(self.path)

    @property
    def identity(self) -> str:
        return _folder_identity(self.location)


def in_order(ends: Iterable[Step]) -> list[Step]:
    """All steps that lead to `ends`, each once and after those that it needs."""
    found: dict[str, Step] = {}

    def visit(step: Step) -> None:
        if step.key not in found:
            for needed in step.needs:
                visit(needed)
            found[step.key] = step

    for end in ends:
        visit(end)
    return list(found.values())


def numbered(steps: Iterable[Step]) -> dict[str, Step]:
    """The steps by name, those of one name told apart as prefer, prefer_2, ..."""
    found: dict[str, Step] = {}
    counts: dict[str, int] = {}
    for step in steps:
        counts[step.name] = counts.get(step.name, 0) + 1
        found[step.name if counts[step.name] == 1 else f"{step.name}_{counts[step.name]}"] = step
    return found


def _settings(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that are not at their default, as JSON."""
    return {
        field.name: _content(given)
        for field in dataclasses.fields(value)
        if (given := getattr(value, field.name)) != _default(field)
    }


def _default(field: dataclasses.Field) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _content(value: Any) -> Any:
    if isinstance(value, Step):
        return {"step": value.key}
    if isinstance(value, Folder):
        return {"holds": value.identity}
    if dataclasses.is_dataclass(value):
        return {type(value).__name__: _settings(value)}
    if isinstance(value, tuple | list):
        return [_content(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a step cannot be keyed by {value!r}; a folder is given as Folder(path)")


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _steps_in(values: Iterable[Any]) -> Iterator[Step]:
    for value in values:
        if isinstance(value, Step):
            yield value
        elif isinstance(value, tuple):
            yield from _steps_in(value)


_IDENTITIES: dict[tuple[Any, ...], str] = {}


def _folder_identity(folder: Path) -> str:
    """The hash of weights, or of a data set, remembered while names, sizes and times of the files stay the same."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not there; give the folder of weights, or of shards, that is meant")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    seen = tuple((str(path), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in files)
    if seen not in _IDENTITIES:
        _IDENTITIES[seen] = _data_sha256(folder) if any(folder.glob("*.tar")) else folder_sha256(folder)
    return _IDENTITIES[seen]


def _data_sha256(folder: Path) -> str:
    """Of a data set: its manifest, which holds every shard's hash, or the shards themselves where there is none."""
    manifest = folder / "manifest.json"
    digest = hashlib.sha256()
    for path in [manifest] if manifest.is_file() else map(tar_file, sorted(folder.glob("*.tar"))):
        digest.update(f"{path.name}:{file_sha256(path)}\n".encode())
    return digest.hexdigest()
