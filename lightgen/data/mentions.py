"""What captions name: objects of a given list, with their colors, counts and relations, by plain rules of English.

A color or a number belongs to the object that follows it within three words; a relation to the two objects around it.
Plurals are found too. What a rule cannot see (a pronoun, a synonym) is not named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}
RELATIONS = {
    "left of": ("left of",),
    "right of": ("right of",),
    "above": ("above", "over", "on top of"),
    "below": ("below", "under", "beneath", "underneath"),
}
_BEFORE = 3  # words before an object in which its color and number are looked for


@dataclass(frozen=True)
class Mentions:
    """What one caption names."""

    objects: frozenset[str]
    colors: frozenset[tuple[str, str]]  # (object, color)
    counts: frozenset[tuple[str, int]]  # (object, number), where a number or an article is named
    relations: frozenset[tuple[str, str, str]]  # (object, relation, object)

    @property
    def composition(self) -> tuple[str, ...]:
        """All of it, in one order: captions of one composition name the same."""
        pairs = [f"{color} {name}" for name, color in self.colors]
        pairs += [f"{count} {name}" for name, count in self.counts if count > 1]
        pairs += [" ".join(relation) for relation in self.relations]
        return tuple(sorted([*self.objects, *pairs]))


class Vocabulary:
    """Object names, and how they are found in captions."""

    def __init__(self, objects: Sequence[str]):
        if not objects:
            raise ValueError("no object names; give at least one")
        self.objects = tuple(dict.fromkeys(name.strip().lower() for name in objects if name.strip()))

    @cached_property
    def _forms(self) -> dict[str, tuple[str, bool]]:
        """{form: (name, whether it is a plural)}; singulars first, as a name may be another's plural."""
        plurals = {form: (name, True) for name in self.objects for form in plurals_of(name)}
        return {**plurals, **{name: (name, False) for name in self.objects}}

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        forms = sorted(self._forms, key=len, reverse=True)
        return re.compile(rf"\b(?:{'|'.join(map(re.escape, forms))})\b")

    def mentions(self, caption: str) -> Mentions:
        """What the caption names."""
        text = caption.lower()
        found = [(*self._forms[match[0]], match.start(), match.end()) for match in self._pattern.finditer(text)]
        colors, counts, relations = set(), set(), set()
        end = 0
        for name, is_plural, start, stop in found:
            words = re.findall(r"[a-z]+|\d+", text[end:start])[-_BEFORE:]
            colors |= {(name, word) for word in words if word in COLORS}
            numbers = [int(word) if word.isdigit() else NUMBERS.get(word, 0) for word in words]
            counts |= {(name, number) for number in numbers if number and is_plural == (number > 1)}
            end = stop
        for one, other in pairwise(found):
            between = text[one[3] : other[2]]
            relations |= {
                (one[0], relation, other[0])
                for relation, ways in RELATIONS.items()
                if any(re.search(rf"\b{way}\b", between) for way in ways)
            }
        objects = frozenset(name for name, *_ in found)
        return Mentions(objects, frozenset(colors), frozenset(counts), frozenset(relations))


def plurals_of(name: str) -> list[str]:
    """The plurals that a name may be written with."""
    irregular = {"person": "people", "mouse": "mice", "sheep": "sheep"}
    found = [f"{name}s", f"{name}es" if re.search(r"(s|x|z|ch|sh)$", name) else f"{name}s"]
    if name.endswith("y"):
        found.append(f"{name[:-1]}ies")
    if re.search(r"(f|fe)$", name):
        found.append(re.sub(r"(f|fe)$", "ves", name))
    first, _, last = name.rpartition(" ")
    if last in irregular:
        found.append(f"{first} {irregular[last]}".strip())
    return [form for form in dict.fromkeys(found) if form != name]


def compositions_of(captions: Iterable[str], vocabulary: Vocabulary) -> list[tuple[str, ...]]:
    """The composition of each caption; () where it names nothing of the vocabulary."""
    return [vocabulary.mentions(caption).composition for caption in captions]
