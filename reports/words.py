"""Numbers, names and settings as a reader sees them."""

from collections.abc import Mapping
from typing import Any

OVERALL = "overall"  # beside the tasks: the mean of their means


def number(value: float) -> str:
    """Three or four digits that matter, without an exponent where a reader can do without."""
    magnitude = abs(value)
    if magnitude == 0:
        return "0"
    if magnitude < 1e-4 or magnitude >= 1e6:
        return f"{value:.3g}"
    digits = 4 if magnitude < 0.01 else 3 if magnitude < 10 else 1 if magnitude < 1000 else 0
    return f"{value:.{digits}f}"


def interval(ci: tuple[float, float] | None, form: str = "") -> str:
    """The two bounds in brackets; nothing where there is no interval."""
    if ci is None:
        return ""
    low, high = (form.format(x) if form else number(x) for x in ci)
    return f"[{low}, {high}]"


def pretty(name: str) -> str:
    """A task's or field's name in words."""
    return {"color_attr": "color attribution", "flops": "FLOPs"}.get(name, name.replace("_", " "))


def shortened(text: str, most: int) -> str:
    """The text in one line, cut to `most` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


METRICS = {
    "fid": "FID", "fid_infinity": "FID∞", "kid": "KID", "cmmd": "CMMD", "vendi": "Vendi score",
    "prompt_vendi": "Vendi score within a prompt", "clip_score": "CLIP score", "geneval": "GenEval",
    "spectrum_gap": "spectrum gap", "laplacian_gap": "Laplacian gap",
}  # fmt: skip


def metric_name(name: str) -> tuple[str, str]:
    """A metric in words, and its protocol: ("FID", "icon-clip, n=856") of "fid[icon-clip,n=856]"."""
    base, _, protocol = name.partition("[")
    place, _, last = base.rpartition("/")
    group, _, split = place.partition("@")
    words = METRICS.get(last, pretty(last))
    if group == "geneval":
        words = " ".join(word for word in ("GenEval", split, words) if word)
    elif group not in ("", "detail"):
        words = f"{pretty(group)}: {words}"
    return words, protocol.rstrip("]").replace(",", ", ")


def part_label(split: str, task: str) -> str:
    """A split and a task in words; "all prompts" for both together."""
    words = pretty(task) if task != OVERALL else ("all prompts" if not split else "")
    return " / ".join(word for word in (split, words) if word)


def flat(value: Any, name: str = "") -> dict[str, str]:
    """Nested settings of any depth as {"outer.inner": text}; a list of plain values is one text."""
    if isinstance(value, list) and any(isinstance(item, (Mapping, list)) for item in value):
        value = {str(place): item for place, item in enumerate(value, 1)}
    if isinstance(value, Mapping) and (value or not name):
        found: dict[str, str] = {}
        for key, item in value.items():
            found.update(flat(item, f"{name}.{key}" if name else str(key)))
        return found
    if isinstance(value, list):
        return {name: ", ".join(map(str, value))}
    return {name: "none" if value is None or value == {} else str(value)}
