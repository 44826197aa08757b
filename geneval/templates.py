"""From a prompt's text back to what its picture must show: the inverse of GenEval's six templates."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from geneval.json_files import read_text
from geneval.prompts import (
    COLORS,
    OBJECTS,
    RELATIONS,
    MetadataError,
    Prompt,
    color_attr_prompt,
    colors_prompt,
    counting_prompt,
    position_prompt,
    read_prompts,
    single_object_prompt,
    two_object_prompt,
)

_NUMBERS = {"two": 2, "three": 3, "four": 4}
_POSITION = re.compile(rf"an? (.+) ({'|'.join(RELATIONS)}) an? (.+)")
_EXAMPLES = "'a photo of a bench', 'a photo of two clocks', 'a photo of a red dog and a black car'"


_PLURALS = {"person": "people", "mouse": "mice", "knife": "knives", "computer mouse": "computer mice"}
_PLURALS |= {name: name for name in ("sheep", "skis", "scissors")}


def english_plural(name: str) -> str:
    """The plural as people write it, where GenEval has "couchs" and "persons"."""
    return _PLURALS.get(name) or name + ("es" if name.endswith(("s", "x", "z", "ch", "sh")) else "s")


def as_prompt(given: Any, where: str = "prompt", objects: Sequence[str] = OBJECTS) -> Prompt:
    """A prompt from a `Prompt`, the original's metadata, or text of a template; `MetadataError` says what is wrong."""
    if isinstance(given, Prompt):
        return given
    if isinstance(given, Mapping):
        return Prompt.from_metadata(dict(given), where)
    if isinstance(given, str):
        return parse_text(given, where, objects)
    raise MetadataError(f"{where}: must be text, a Prompt or metadata, not {type(given).__name__}")


def parse_text(text: str, where: str = "prompt", objects: Sequence[str] = OBJECTS) -> Prompt:
    """The prompt of a template's text over these classes; a plural may be GenEval's or English."""
    body = text.removeprefix("a photo of ")
    known = set(objects)
    # A reading is right where its own template writes the very same text.
    for prompt in _readings(body) if body != text else ():
        if prompt.prompt == text and set(prompt.class_names) <= known:
            return prompt
    number, _, plural = body.partition(" ")
    for name in objects if number in _NUMBERS and body != text else ():
        if plural == english_plural(name):
            return counting_prompt(name, _NUMBERS[number])
    unknown = next((p for p in _readings(body) if p.prompt == text), None) if body != text else None
    if unknown is not None:
        names = ", ".join(repr(name) for name in unknown.class_names if name not in known)
        raise MetadataError(f"{where}: {text!r} asks for {names}, no class that can be detected; give metadata")
    raise MetadataError(
        f"{where}: {text!r} is none of GenEval's templates, as {_EXAMPLES}; give its metadata (tag, include, prompt)"
    )


def read_asked(path: Path) -> list[Prompt]:
    """The prompts of a file: a .txt of templates' text, a line each, or an evaluation_metadata.jsonl or its folder."""
    if path.suffix != ".txt" or not path.is_file():
        return read_prompts(path)
    lines = read_text(path, MetadataError).splitlines()
    prompts = [parse_text(line.strip(), f"{path}:{i}") for i, line in enumerate(lines, 1) if line.strip()]
    if not prompts:
        raise MetadataError(f"{path}: holds no prompt")
    return prompts


def _readings(body: str) -> Iterator[Prompt]:
    """Every way to read the text after "a photo of"; those with the most said of the objects come first."""
    number, _, plural = body.partition(" ")
    if number in _NUMBERS:
        for suffix in ("es", "s"):
            if plural.removesuffix(suffix) not in ("", plural):
                yield counting_prompt(plural.removesuffix(suffix), _NUMBERS[number])
    if found := _POSITION.fullmatch(body):
        yield position_prompt(found[1], found[3], found[2])
    name = _without_article(body)
    parts = re.split(r" and (?=an? )", name)
    if len(parts) == 2:
        a, b = parts[0], _without_article(parts[1])
        if (ours := _colored(a)) and (theirs := _colored(b)):
            yield color_attr_prompt(ours[1], ours[0], theirs[1], theirs[0])
        yield two_object_prompt(a, b)
    if one := _colored(name):
        yield colors_prompt(one[1], one[0])
    yield single_object_prompt(name)


def _without_article(text: str) -> str:
    return re.sub(r"^an? ", "", text)


def _colored(text: str) -> tuple[str, str] | None:
    color, _, name = text.partition(" ")
    return (color, name) if color in COLORS and name else None
