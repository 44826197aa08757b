"""GenEval's prompts: the official suite byte for byte, and the same suite over other class lists, colors and sizes."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from geneval.atomic import write_text
from geneval.json_files import parse_json, read_text
from geneval.random_stream import RandomStream

COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
RELATIONS = ("left of", "right of", "above", "below")
TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
OBJECTS = tuple(Path(__file__).with_name("object_names.txt").read_text(encoding="utf-8").splitlines())
OFFICIAL_SHA256 = "5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13"  # evaluation_metadata.jsonl

_NUMBERS = {2: "two", 3: "three", 4: "four"}
_MOST = 10_000  # objects of a clause; more are a damaged number
_CLAUSE_KEYS = {"class", "count", "color", "position"}


class MetadataError(ValueError):
    """A prompt's metadata that no scorer can use; the message says where and what."""


@dataclass(frozen=True)
class Clause:
    """`count` objects of one class, of one color, in a relation to the objects of the include clause `position[1]`."""

    class_name: str
    count: int
    color: str | None = None
    position: tuple[str, int] | None = None

    def metadata(self) -> dict[str, Any]:
        """The clause as it stands in metadata.jsonl."""
        record: dict[str, Any] = {"class": self.class_name, "count": self.count}
        if self.color is not None:
            record["color"] = self.color
        if self.position is not None:
            record["position"] = list(self.position)
        return record


@dataclass(frozen=True)
class Prompt:
    """One prompt with what its picture must show (`include`, all of it) and must not (`exclude`)."""

    tag: str
    prompt: str
    include: tuple[Clause, ...] = ()
    exclude: tuple[Clause, ...] = ()
    extra: tuple[tuple[str, Any], ...] = ()  # further fields of a user's metadata, kept as they are

    @classmethod
    def from_metadata(cls, record: Any, where: str = "prompt") -> "Prompt":
        """The prompt of one metadata record; `MetadataError` names `where` and the field that is wrong."""
        record = _checked(record, where)
        return cls(
            tag=record["tag"],
            prompt=record["prompt"],
            include=tuple(_clause(c) for c in record.get("include", ())),
            exclude=tuple(_clause(c) for c in record.get("exclude", ())),
            extra=tuple((k, v) for k, v in record.items() if k not in ("tag", "prompt", "include", "exclude")),
        )

    def metadata(self) -> dict[str, Any]:
        """The record of metadata.jsonl, keys in the original's order."""
        record: dict[str, Any] = {"tag": self.tag, "include": [clause.metadata() for clause in self.include]}
        if self.exclude:
            record["exclude"] = [clause.metadata() for clause in self.exclude]
        return {**record, "prompt": self.prompt, **dict(self.extra)}

    def line(self) -> str:
        """The metadata as the original prints it: `json.dumps` with its default separators."""
        return json.dumps(self.metadata())

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes the prompt speaks of, each once."""
        return tuple(dict.fromkeys(clause.class_name for clause in self.include + self.exclude))


@cache
def official_prompts() -> tuple[Prompt, ...]:
    """GenEval's 553 prompts in their order."""
    prompts = tuple(prompt_suite(OBJECTS))
    assert prompts_sha256(prompts) == OFFICIAL_SHA256
    return prompts


def prompt_suite(
    objects: Sequence[str], *, colors: Sequence[str] = COLORS, num_prompts: int = 100, seed: int = 43
) -> list[Prompt]:
    """GenEval's six tasks over `objects` and `colors`: at most `num_prompts` a task, exact duplicates dropped.

    "person" is never colored; a list without it has nothing to leave out. Small lists give few distinct prompts, so
    fewer than `num_prompts` may remain; a task that the lists are too small for raises `ValueError`.
    """
    _check_suite(objects, colors, num_prompts)
    stream = RandomStream(seed)
    drawn = _draw_suite(stream, tuple(objects), tuple(colors), num_prompts)
    return list(dict.fromkeys(drawn))


def prompts_sha256(prompts: Iterable[Prompt]) -> str:
    """The hash of evaluation_metadata.jsonl as these prompts would be written: the name of a prompt set."""
    return hashlib.sha256(_metadata_text(prompts).encode()).hexdigest()


def write_prompts(prompts: Sequence[Prompt], out: Path) -> None:
    """Write OUT/evaluation_metadata.jsonl and OUT/generation_prompts.txt, the original's two files."""
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "evaluation_metadata.jsonl", _metadata_text(prompts))
    write_text(out / "generation_prompts.txt", "".join(f"{prompt.prompt}\n" for prompt in prompts))


def read_prompts(path: Path) -> list[Prompt]:
    """The prompts of an evaluation_metadata.jsonl (or of a folder that holds one)."""
    path = path / "evaluation_metadata.jsonl" if path.is_dir() else path
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such prompts file; write one with `python -m geneval prompts --out DIR`")
    lines = read_text(path, MetadataError).splitlines()
    prompts = [
        Prompt.from_metadata(parse_json(line, f"{path}:{number}", MetadataError), f"{path}:{number}")
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    if not prompts:
        raise MetadataError(f"{path}: holds no prompt")
    return prompts


def _metadata_text(prompts: Iterable[Prompt]) -> str:
    return "".join(f"{prompt.line()}\n" for prompt in prompts)


# --- drawing --------------------------------------------------------------------------------------------------------


def _check_suite(objects: Sequence[str], colors: Sequence[str], num_prompts: int) -> None:
    if len(set(objects)) != len(objects) or not all(isinstance(o, str) and o.strip() for o in objects):
        raise ValueError("the class list must hold distinct, non-empty names")
    if len([o for o in objects if o != "person"]) < 2:
        raise ValueError(f"the suite needs at least 2 classes beside 'person', got {list(objects)}")
    if len(colors) < 2 or not set(colors) <= set(COLORS) or len(set(colors)) != len(colors):
        raise ValueError(f"the suite needs at least 2 of GenEval's colors ({', '.join(COLORS)}), got {list(colors)}")
    if num_prompts < 1:
        raise ValueError(f"num_prompts must be at least 1, not {num_prompts}")


def _draw_suite(
    stream: RandomStream, objects: tuple[str, ...], colors: tuple[str, ...], num_prompts: int
) -> Iterator[Prompt]:
    """The prompts in the original's order of draws; changing the order changes every later prompt."""
    for i in stream.choice(len(objects), min(num_prompts, len(objects))):
        yield single_object_prompt(objects[i])
    for _ in range(num_prompts):
        a, b = stream.choice(len(objects), 2)
        yield two_object_prompt(objects[a], objects[b])
    for _ in range(num_prompts):
        yield counting_prompt(objects[stream.below(len(objects))], 2 + stream.below(3))
    colorable = _colorable(objects)
    for _ in range(num_prompts):
        yield colors_prompt(colorable[stream.below(len(colorable))], colors[stream.below(len(colors))])
    for _ in range(num_prompts):
        a, b = stream.choice(len(objects), 2)
        yield position_prompt(objects[a], objects[b], RELATIONS[stream.below(4)])
    for _ in range(num_prompts):
        a, b = stream.choice(len(colorable), 2)
        c, d = stream.choice(len(colors), 2)
        yield color_attr_prompt(colorable[a], colors[c], colorable[b], colors[d])


def _colorable(objects: tuple[str, ...]) -> tuple[str, ...]:
    """The classes after "person" first, then those before it: the original's index arithmetic as a list."""
    if "person" not in objects:
        return objects
    start = objects.index("person") + 1
    return objects[start:] + objects[: start - 1]


def single_object_prompt(name: str) -> Prompt:
    """One object."""
    return Prompt("single_object", f"a photo of {_with_article(name)}", (Clause(name, 1),))


def two_object_prompt(a: str, b: str) -> Prompt:
    """Two objects."""
    text = f"a photo of {_with_article(a)} and {_with_article(b)}"
    return Prompt("two_object", text, (Clause(a, 1), Clause(b, 1)))


def counting_prompt(name: str, count: int) -> Prompt:
    """Exactly `count` objects, 2 to 4."""
    text = f"a photo of {_NUMBERS[count]} {name}{'es' if name.endswith('s') else 's'}"
    return Prompt("counting", text, (Clause(name, count),), (Clause(name, count + 1),))


def colors_prompt(name: str, color: str) -> Prompt:
    """One object of a color."""
    return Prompt("colors", f"a photo of {_with_article(color)} {name}", (Clause(name, 1, color),))


def position_prompt(a: str, b: str, relation: str) -> Prompt:
    """`a` in a relation to `b`."""
    text = f"a photo of {_with_article(a)} {relation} {_with_article(b)}"
    return Prompt("position", text, (Clause(b, 1), Clause(a, 1, position=(relation, 0))))


def color_attr_prompt(a: str, color_a: str, b: str, color_b: str) -> Prompt:
    """Two objects, each of its color."""
    text = f"a photo of {_with_article(color_a)} {a} and {_with_article(color_b)} {b}"
    return Prompt("color_attr", text, (Clause(a, 1, color_a), Clause(b, 1, color_b)))


def _with_article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


# --- validation -----------------------------------------------------------------------------------------------------


def _checked(record: Any, where: str) -> dict[str, Any]:
    """The record itself once every field has its type."""
    if not isinstance(record, dict):
        raise MetadataError(f"{where}: metadata must be a JSON object, not {type(record).__name__}")
    for key in ("tag", "prompt"):
        value = record.get(key)
        if _is_collated(value):
            raise MetadataError(
                f"{where}: {key!r} is the one-element list {value!r}: this metadata went through a batching loader "
                "(LightGen's GenEval script writes it so); write each metadata.jsonl from the prompts file instead"
            )
        if not isinstance(value, str):
            raise MetadataError(f"{where}: {key!r} must be a string, not {value!r}")
    for key in ("include", "exclude"):
        clauses = record.get(key, [])
        if not isinstance(clauses, list):
            raise MetadataError(f"{where}: {key!r} must be a list of clauses, not {clauses!r}")
        for i, clause in enumerate(clauses):
            _check_clause(clause, f"{where}: {key}[{i}]", i if key == "include" else 0)
    return record


def _is_collated(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 1 and isinstance(value[0], str)


def _check_clause(clause: Any, where: str, num_before: int) -> None:
    if not isinstance(clause, dict):
        raise MetadataError(f"{where} must be an object, not {clause!r}")
    if not isinstance(clause.get("class"), str):
        raise MetadataError(f"{where}: 'class' must be a string, not {clause.get('class')!r}")
    count = clause.get("count")
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= _MOST:
        raise MetadataError(f"{where}: 'count' must be an integer from 0 to {_MOST:,}, not {count!r}")
    if unknown := set(clause) - _CLAUSE_KEYS:
        raise MetadataError(f"{where}: unknown {sorted(unknown)}; a clause has {sorted(_CLAUSE_KEYS)}")
    color = clause.get("color")
    if "color" in clause and color not in COLORS:
        raise MetadataError(f"{where}: 'color' must be one of {', '.join(COLORS)}, not {color!r}")
    if "position" in clause:
        _check_position(clause["position"], where, num_before)


def _check_position(position: Any, where: str, num_before: int) -> None:
    is_pair = isinstance(position, list | tuple) and len(position) == 2
    if not is_pair or position[0] not in RELATIONS or type(position[1]) is not int:
        raise MetadataError(
            f"{where}: 'position' must be [relation, include index] with one of {RELATIONS}, not {position!r}"
        )
    if not -num_before <= position[1] < num_before:
        raise MetadataError(f"{where}: 'position' must point to an include clause before it, not to {position[1]}")


def _clause(record: dict[str, Any]) -> Clause:
    position = record.get("position")
    return Clause(
        record["class"], record["count"], record.get("color"), (position[0], position[1]) if position else None
    )
