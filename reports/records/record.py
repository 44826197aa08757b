"""`result.json`, the record of one cell, strictly read. Schema 1 (every field is required unless marked optional;
other fields are ignored):

    schema    1                      study, variant, scale   str         seed   int
    config    resolved settings      inputs   {step: "sha256:..."}       items  {"geneval": "results.jsonl", ...}
    env       git, dirty, python, torch, device, packages {name: version}
    protocol  how the judged pictures were made (optional; a mapping of any depth): steps, guidance, solver, size in
              pixels, dtype, seeding (the seed rule), seed, prompts_rewritten, processes
    cost      {name: number}: train_samples, flops, images and the seconds of each step, whatever the steps are called
    metrics   {name: {value: number or null, ci: [low, high] or null, n: int, clusters: int (optional),
                      higher_is_better: bool or null, version: str,
                      target: number (optional): where higher_is_better is null, the reference's value, and closer
                      to it is better}}
    rests_on  {"images": n, "prompts": n, "detections": n}, what the verdicts were made from (optional)
    files     {path in the cell's folder: SHA-256 of its content, unpacked} (optional)
    status    "complete", "partial", "failed", "diverged" or "stopped"
    reason    str (optional): why it is not complete

Metric names: "geneval/overall", "geneval/<task>", "geneval@<split>/overall", "geneval@<split>/<task>", and the
image-quality metrics, which carry their extractor, N and reference, such as "fid[icon-clip,n=1000,ref=5c1e07aa]". A
metric's version names everything that would change its value.

NaN and infinity are refused everywhere: no number is better than a wrong one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightgen.disk.json_files import read_json
from reports.records.fields import NUMBER, are_numbers, check_schema, checked

SCHEMA = 1
STATUSES = ("complete", "partial", "failed", "diverged", "stopped")
FIELDS = {
    "schema": int, "study": str, "variant": str, "seed": int, "scale": str, "config": dict, "inputs": dict, "env": dict,
    "cost": dict, "metrics": dict, "items": dict, "status": str,
}  # fmt: skip
METRIC_FIELDS = {
    "value": (*NUMBER, type(None)), "ci": (list, type(None)), "n": int, "higher_is_better": (bool, type(None)),
    "version": str,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number with all that is needed to read it."""

    value: float | None
    ci: tuple[float, float] | None  # 95 %
    n: int  # images (or whatever the name counts)
    clusters: int | None  # prompts, where several images share one
    higher_is_better: bool | None  # None: closer to the target is
    target: float | None  # the reference pictures' own value
    version: str


@dataclass(frozen=True, kw_only=True)
class Record:
    """`result.json`, checked."""

    study: str
    variant: str
    seed: int
    scale: str
    config: Mapping[str, Any]
    inputs: Mapping[str, Any]
    env: Mapping[str, Any]
    cost: Mapping[str, Any]
    metrics: Mapping[str, Metric]
    items: Mapping[str, str]
    status: str
    reason: str
    protocol: Mapping[str, Any]
    rests_on: Mapping[str, int]
    files: Mapping[str, str]


def read_record(path: Path) -> Record:
    """`result.json` at `path`; ValueError names the file and the field of the first thing that is wrong."""
    data = checked(read_json(path), FIELDS, str(path))
    check_schema(data, SCHEMA, str(path))
    if data["status"] not in STATUSES:
        raise ValueError(f"{path}: status: {data['status']!r} is not one of {', '.join(STATUSES)}")
    metrics = {name: _metric(entry, f"{path}: metrics: {name}") for name, entry in data["metrics"].items()}
    given = {name: data[name] for name in FIELDS if name not in ("schema", "metrics")}
    protocol = checked(data.get("protocol") or {}, {}, f"{path}: protocol")
    rests_on = _all(data.get("rests_on") or {}, int, f"{path}: rests_on")
    files = _all(data.get("files") or {}, str, f"{path}: files")
    _all(data["items"], str, f"{path}: items")
    _all(data["cost"], NUMBER, f"{path}: cost")
    reason = data.get("reason") or ""
    if not isinstance(reason, str):
        raise ValueError(f"{path}: reason: expected str, found {type(reason).__name__}")
    return Record(metrics=metrics, reason=reason, rests_on=rests_on, files=files, protocol=protocol, **given)


def _all(data: Any, kind: Any, where: str) -> dict[str, Any]:
    """An object whose every value is of that kind."""
    return checked(data, dict.fromkeys(checked(data, {}, where), kind), where)


def is_geneval(name: str) -> bool:
    return name.startswith(("geneval/", "geneval@"))


def is_quality(name: str) -> bool:
    """Whether a metric is of images alone: named without a group, or of the group "detail"."""
    return not is_geneval(name) and ("/" not in name.partition("[")[0] or name.startswith("detail/"))


def split_and_task(name: str) -> tuple[str, str]:
    """("unseen", "colors") of "geneval@unseen/colors"; ("", "overall") of "geneval/overall"."""
    place, task = name.split("/", 1)
    return place.removeprefix("geneval").removeprefix("@"), task


def _metric(entry: Any, where: str) -> Metric:
    data = checked(entry, METRIC_FIELDS, where)
    ci = data["ci"]
    if ci is not None and not (are_numbers(ci) and len(ci) == 2 and ci[0] <= ci[1]):
        raise ValueError(f"{where}: ci: expected [low, high] or null, found {ci}")
    if is_geneval(where.rpartition(": ")[2]) and data["value"] is not None and not 0 <= data["value"] <= 1:
        raise ValueError(f"{where}: value: {data['value']} is no share of right images")
    if data["n"] < 0 or not isinstance(data.get("clusters"), int | None) or type(data.get("clusters")) is bool:
        raise ValueError(f"{where}: n or clusters: expected whole numbers, found {data['n']}, {data.get('clusters')}")
    if data.get("target") is not None and type(data["target"]) not in NUMBER:
        raise ValueError(f"{where}: target: expected a number or null, found {data['target']!r}")
    return Metric(
        value=data["value"],
        ci=None if ci is None else (float(ci[0]), float(ci[1])),
        n=data["n"],
        clusters=data.get("clusters"),
        higher_is_better=data["higher_is_better"],
        target=data.get("target"),
        version=data["version"],
    )
