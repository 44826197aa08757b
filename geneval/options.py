"""The original's options, with its names and defaults."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class Options:
    """`--options key=value` of the original; the first three (DETECTING) matter to `detect`, the others to `score`."""

    clip_model: str = "ViT-L-14-quickgelu"  # the original's "ViT-L-14" is built with another activation today
    bgcolor: str = "#999"  # gray behind the object's mask; "original" keeps the picture
    crop: str = "1"  # "1" crops to the box; anything else keeps the whole picture
    threshold: float = 0.3  # a detection counts if its score is above this
    counting_threshold: float = 0.9  # the same for prompts tagged "counting"
    max_objects: int = 16  # a class, after the threshold
    max_overlap: float = 1.0  # IoU at which the less confident of two boxes is dropped; exactly 1 switches this off
    position_threshold: float = 0.1  # share of the summed sizes that an offset must exceed

    @classmethod
    def parse(cls, values: "Mapping[str, object] | Options") -> "Options":
        """Options from the command line's strings (or from values); unknown names are refused with the valid ones."""
        if isinstance(values, Options):
            return values
        kinds = {field.name: type(field.default) for field in fields(cls)}
        if unknown := set(values) - set(kinds):
            hint = "; the detector is given as --detector" if "model" in unknown else ""
            raise ValueError(f"unknown option {sorted(unknown)}; valid: {', '.join(kinds)}{hint}")
        return cls(**{name: _parsed(name, value, kinds[name]) for name, value in values.items()})  # type: ignore[arg-type]

    def score_threshold(self, tag: str) -> float:
        """The threshold for a prompt with this tag."""
        return self.counting_threshold if tag == "counting" else self.threshold


def _parsed(name: str, value: object, kind: type) -> object:
    try:
        parsed = kind(value)
    except (TypeError, ValueError):
        raise ValueError(f"option {name}={value!r} is not {kind.__name__}") from None
    if kind is float and not math.isfinite(parsed):
        raise ValueError(f"option {name}={value!r} is not a finite number")
    if name == "max_objects" and parsed < 0:
        raise ValueError(f"option {name}={value!r} must be 0 or more")
    return parsed


DEFAULTS = Options()
DETECTING = ("clip_model", "bgcolor", "crop")
