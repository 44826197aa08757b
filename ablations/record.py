"""A cell's record: everything that a report reads of it, gathered from its finished steps.

Small files are copied, so that the cells' folders can be moved, kept and reported on without the store.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablations.prompts import IconPrompts, OfficialPrompts, shown_prompts
from ablations.runner.step import Step, numbered
from ablations.runner.store import Store
from ablations.runner.study import Cell
from ablations.steps.asked import prompts_of
from ablations.steps.judge import Judge
from ablations.steps.named import UNNAMED
from ablations.steps.quality import Quality
from ablations.steps.train import Train
from ablations.steps.watched import TakePart, TrainWatched
from benchmarks.environment import environment
from geneval.detections import read_detections
from geneval.layout import read_layout
from geneval.prompts import official_prompts
from geneval.protocol import read_generation
from geneval.scores import format_results, read_provenance, read_results
from geneval.statistics import summarize
from lightgen.disk.json_files import content_sha256, read_json, write_json, write_sealed

SCHEMA = 1
NORMAL_95 = 1.959964

Rows = Sequence[Mapping[str, Any]]
Splits = Mapping[str, Mapping[str, str]]


def write_record(folder: Path, cell: Cell, store: Store) -> None:
    """Fill the cell's folder; result.json comes last, so that a folder that has it is whole."""
    (folder / "result.json").unlink(missing_ok=True)
    steps = {name: step for name, step in numbered(cell.steps).items() if store.has(step)}
    made = {name: store.record(step) for name, step in steps.items()}
    facts = {name: record["facts"] for name, record in made.items()}
    items = _copy_curves(folder, cell, store)
    by_key = {step.key: facts[name] for name, step in steps.items()}
    metrics = _diversity_metrics(_last_training(cell), by_key) | _preference_metrics(facts)
    if "judge" in facts:
        judged, found = _verdicts(folder, cell, store, facts["judge"])
        metrics, items = metrics | judged, items | found
    if "quality" in facts:
        items |= _quality(folder, store.folder(steps["quality"]))
        if _last(cell, "judge") is None:
            items |= _unjudged(folder, cell, store)
        metrics |= facts["quality"]["metrics"]
    for name in ("copies", "nearest_pictures"):
        metrics |= facts.get(name, {}).get("metrics", {})
    status, reason = _status(cell, facts)
    result = {
        "schema": SCHEMA,
        **{"study": cell.study, "variant": cell.variant, "seed": cell.seed, "scale": cell.scale},
        "config": cell.setting,
        "inputs": {name: f"sha256:{step.key}" for name, step in steps.items()},
        "env": {**environment(), **_shared_out(made)},
        "protocol": _protocol(cell, store) if "judge" in facts else {},
        "cost": _cost(made, _samples_seen(cell, by_key)),
        "metrics": metrics,
        "items": items,
        "rests_on": _rests_on(folder, cell, store) if "judge" in facts else {},
        "files": {path: content_sha256(folder / path) for path in _written(folder, items)},
        "status": status,
        "reason": reason,
    }
    write_sealed(folder / "result.json", result)


def _written(folder: Path, items: Mapping[str, str]) -> list[str]:
    """The files that the record rests on, pictures to show among them, relative to the cell's folder."""
    shown = sorted(path.relative_to(folder).as_posix() for path in folder.glob("samples/*.png"))
    return [*items.values(), *(shown if "samples" in items else ())]


def _rests_on(folder: Path, cell: Cell, store: Store) -> dict[str, int]:
    """How many images, prompts and detected objects the record's verdicts were made from."""
    step = _last(cell, "judge")
    assert step is not None
    kept = {row["filename"] for row in read_results(folder / "results.jsonl")}
    lines = [line for line in read_detections(store.folder(step) / "images").values() if line.filename in kept]
    found = sum(len(rows) for line in lines for rows in line.detections.values())
    prompts = {line.filename.split("/")[0] for line in lines}
    return {"images": len(lines), "prompts": len(prompts), "detections": found}


def _status(cell: Cell, facts: Mapping[str, Any]) -> tuple[str, str]:
    for name, found in facts.items():
        if found.get("status") == "diverged":
            return "diverged", f"{name} diverged after {found.get('steps', 0)} steps"
    missing = [name for name in numbered(cell.steps) if name not in facts]
    if missing:
        return "partial", f"{', '.join(missing)} missing"
    has_drifted = any(found.get("status") == "drifted" for found in facts.values())
    return "complete", "DPO ended early, at its bound on the winners' drift" if has_drifted else ""


def _last(cell: Cell, name: str) -> Step | None:
    """The last step of that name: of several rounds the one that made the model."""
    return next((step for step in reversed(cell.steps) if step.name == name), None)


def _copy_curves(folder: Path, cell: Cell, store: Store) -> dict[str, str]:
    """training.jsonl and preference.jsonl, from the steps that learn."""
    items = {}
    for step_name, name in (("train", "training"), ("train_watched", "training"), ("prefer", "preference")):
        step = _last(cell, step_name)
        if name not in items:
            (folder / f"{name}.jsonl").unlink(missing_ok=True)
        if step is not None and (store.folder(step) / "metrics.jsonl").is_file():
            shutil.copyfile(store.folder(step) / "metrics.jsonl", folder / f"{name}.jsonl")
            items[name] = f"{name}.jsonl"
    return items


def _verdicts(
    folder: Path, cell: Cell, store: Store, facts: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """GenEval's metrics; results.jsonl, prompts.json and the pictures to show, with paths inside the cell's folder."""
    step = _last(cell, "judge")
    assert isinstance(step, Judge)
    images = store.folder(step) / "images"
    prompts, splits = prompts_of(step.prompts, store.folder), _splits(cell, step, store)
    rows = [{**row, "filename": _inside(row["filename"])} for row in read_results(images.parent / "results.jsonl")]
    left_out = {line for line, entry in splits.items() if entry["split"] == UNNAMED}
    rows = [row for row in rows if row["metadata"] not in left_out]
    (folder / "results.jsonl").write_text(format_results(rows), encoding="utf-8")
    write_json(folder / "prompts.json", {line: entry for line, entry in splits.items() if line not in left_out})
    numbers = shown_prompts(prompts, splits, cell.setting["benchmark"]["shown"])
    shown = [number for number in numbers if prompts[number].line() not in left_out]
    write_json(folder / "samples.json", _show(folder, images, rows, splits, shown))
    judge = "; ".join(f"{name}={identity[:12]}" for name, identity in facts["judge"].items())
    # Everything that would change a verdict: rules, prompts, copies, and judge weights.
    version = f"rules 1; prompts={facts['prompts_sha256'][:12]}; copies={step.copies}; {judge}"
    names = {"geneval": "results.jsonl", "prompts": "prompts.json", "samples": "samples.json"}
    return _geneval_metrics(rows, splits, version) | _asked(cell, store), names


def _unjudged(folder: Path, cell: Cell, store: Store) -> dict[str, str]:
    """samples.json of a cell without a judge: the first pictures of held-out captions, right or wrong to nobody."""
    step = _last(cell, "quality")
    assert isinstance(step, Quality)
    images, count = store.folder(step.images) / "images", cell.setting["benchmark"]["shown"]
    found, _ = read_layout(images)
    _empty_samples(folder)
    entries = []
    for drawn in found[:count]:
        name, told = f"samples/{drawn.name}.png", {"correct": None, "reason": "", "tag": "", "split": ""}
        shutil.copyfile(images / drawn.samples[0], folder / name)
        entries.append({"file": name, "prompt": drawn.metadata["prompt"], **told})
    write_json(folder / "samples.json", entries)
    return {"samples": "samples.json"}


def _protocol(cell: Cell, store: Store) -> dict[str, Any]:
    """How the judged pictures were made, as far as it changes a score; of a teacher's pictures their size alone."""
    step = _last(cell, "judge")
    assert isinstance(step, Judge)
    made = read_generation(store.folder(step.images) / "images") or {}
    found = {**(made.get("protocol") or {}), **{name: made[name] for name in ("seed", "processes") if name in made}}
    sizes = read_provenance(store.folder(step) / "results.jsonl").get("sizes") or []
    return {**found, "size": sizes[0] if len(sizes) == 1 else sizes}


def _asked(cell: Cell, store: Store) -> dict[str, Any]:
    """How many of the official prompts ask for objects that no training caption names or the judge does not know; and
    of the prompts asked those whose objects no training set names, which are left out, or not the cell's own."""
    found, split = _last(cell, "ask_named"), _last(cell, "split_prompts")
    counts: dict[str, tuple[int, int]] = {}
    if found is not None:
        counts["official_left_out"] = store.facts(found)["official_left_out"], len(official_prompts())
    if split is not None:
        facts, training = store.facts(split), _last_training(cell)
        asked = sum(facts[name] for name in ("shared", "diverse", "unseen", UNNAMED))
        counts["left_out"] = facts[UNNAMED], asked
        own = [arm for arm in facts["arms"] if training and training.subset and arm["subset"] == training.subset.key]
        counts |= {name: (own[0][name], asked) for name in ("unnamed", "together") if own}
    return {
        f"prompts/{name}": {"value": value, "ci": None, "n": of, "higher_is_better": name == "together", "version": "1"}
        for name, (value, of) in counts.items()
    }


def _splits(cell: Cell, judge: Judge, store: Store) -> Splits:
    """The split of each prompt: as a step found them in the training sets, or as the prompts themselves tell."""
    found = _last(cell, "split_prompts")
    if found is not None:
        return read_json(store.folder(found) / "splits.json")
    return judge.prompts.splits(draw=cell.seed) if isinstance(judge.prompts, IconPrompts | OfficialPrompts) else {}


def _quality(folder: Path, made: Path) -> dict[str, str]:
    """quality.json with what the quality metrics' plots need: FID by N with its limit, and power spectra."""
    measured = read_json(made / "quality.json")
    curves = {name: measured[name] for name in ("fid_by_n", "fid_infinity", "spectrum") if measured.get(name)}
    write_json(folder / "quality.json", curves)
    return {"quality": "quality.json"}


def _inside(filename: str) -> str:
    """The last three parts, 00000/samples/00000.png: where the images lay is nothing a record should depend on."""
    return "/".join(Path(filename).parts[-3:])


def _show(folder: Path, images: Path, rows: Rows, splits: Splits, shown: Sequence[int]) -> list[dict[str, Any]]:
    _empty_samples(folder)
    first = {row["filename"]: row for row in rows}
    entries = []
    for index in shown:
        row = first[f"{index:05}/samples/00000.png"]
        name = f"samples/{index:05}.png"
        shutil.copyfile(images / row["filename"], folder / name)
        entry = {key: row[key] for key in ("prompt", "correct", "reason", "tag")}
        entries.append({"file": name, **entry, "split": splits.get(row["metadata"], {}).get("split", "")})
    return entries


def _empty_samples(folder: Path) -> None:
    shutil.rmtree(folder / "samples", ignore_errors=True)
    (folder / "samples").mkdir()


def _geneval_metrics(rows: Rows, splits: Splits, version: str) -> dict[str, Any]:
    parts: dict[str, list[Mapping[str, Any]]] = {"": list(rows)}
    for row in rows:
        if row["metadata"] in splits:
            parts.setdefault(f"@{splits[row['metadata']]['split']}", []).append(row)
    metrics = {}
    for part, kept in parts.items():
        summary = summarize(kept)
        for name, estimate in {"overall": summary["overall"], **summary["tasks"]}.items():
            metrics[f"geneval{part}/{name}"] = {**estimate, "higher_is_better": True, "version": version}
    return metrics


def _last_training(cell: Cell) -> Train | TrainWatched | None:
    """The training of the cell's own model: a teacher's, if there is one, comes before it."""
    return next((step for step in reversed(cell.steps) if isinstance(step, Train | TrainWatched)), None)


def _diversity_metrics(training: Train | TrainWatched | None, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """How diverse the training set was, as measured; `facts` by the steps' keys."""
    source = None if training is None else training.subset or training.latents.dataset
    measured = None if source is None else facts.get(source.key, {}).get("diversity")
    if training is None or measured is None:
        return {}
    names = ("distinct_captions", "composition_coverage", "effective_clusters", "vendi", "conditional_vendi")
    values = {name: measured[name] for name in names if name in measured}
    encoded = facts.get(training.latents.key, {})
    values |= {"vendi_text": encoded["vendi_text"]} if "vendi_text" in encoded else {}
    shared = {"ci": None, "n": measured["images"], "higher_is_better": True, "version": "1"}
    return {f"diversity/{name}": {"value": value, **shared} for name, value in values.items()}


def _preference_metrics(facts: Mapping[str, Any]) -> dict[str, Any]:
    """How far preference training moved the model from its reference, on draws that its order of training did not
    choose; and the guidance that was chosen where it was tuned instead."""
    found: dict[str, Any] = {}
    drifts = [fact["drift"] for fact in facts.values() if fact.get("drift")]
    if drifts:
        drift = drifts[-1]
        shared = {"n": drift["pairs"], "higher_is_better": False, "version": "mean squared error, pool entry 0"}
        for name in ("winner", "loser"):
            value, reach = drift[name], NORMAL_95 * drift[f"{name}_stderr"]
            found[f"preference/{name}_drift"] = {"value": value, "ci": [value - reach, value + reach], **shared}
        accuracy = {"value": drift["accuracy"], "ci": None, **shared, "higher_is_better": True}
        found["preference/accuracy"] = accuracy
    if chosen := facts.get("tune_guidance"):
        shared = {"n": len(chosen["right"]), "higher_is_better": True, "version": "best on training captions"}
        found["preference/guidance_scale"] = {"value": chosen["guidance_scale"], "ci": None, **shared}
    return found


def _shared_out(made: Mapping[str, Any]) -> dict[str, Any]:
    """The processes and threads that the steps were made with, on which sums depend: one number where all agree."""
    found: dict[str, Any] = {}
    for name in ("processes", "threads"):
        counts = sorted({record["how"][name] for record in made.values() if name in record.get("how", {})})
        found |= {name: counts[0] if len(counts) == 1 else counts} if counts else {}
    return found


def _samples_seen(cell: Cell, facts: Mapping[str, Mapping[str, Any]]) -> int:
    """Samples that the cell's own model was trained on, up to the part that was taken; `facts` by the steps' keys."""
    model = next((step for step in reversed(cell.steps) if isinstance(step, Train | TrainWatched | TakePart)), None)
    seen = 0
    while model is not None:  # a training that began with another's model
        seen += facts.get(model.key, {}).get("samples", 0)
        model = model.start if isinstance(model, Train) else None
    return seen


def _cost(made: Mapping[str, Any], samples: int) -> dict[str, Any]:
    """Learning in seconds, samples and operations; pictures judged; and the seconds of every step."""
    facts = {name: record["facts"] for name, record in made.items()}
    learned = [found for found in facts.values() if "flops" in found]
    return {
        "train_seconds": sum(found["seconds"] for found in learned),
        "train_samples": samples,
        "flops": sum(found["flops"] for found in learned),
        "images": facts.get("judge", {}).get("images", 0),
        **{f"{name}_stage_seconds": record["seconds"] for name, record in made.items()},
    }
