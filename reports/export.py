"""A study for other tools: curves and scores for trackio or TensorBoard, a model card and a leaderboard for the hub."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from reports.records.cell import Cell
from reports.records.study import Study, Variant
from reports.scores import Scores, by_version, scores
from reports.tables.table import markdown_text
from reports.verdict import primary, verdicts
from reports.words import OVERALL, flat, metric_name

STEPS = {"training": "samples", "preference": "step"}  # what a curve is drawn over


def to_trackio(study: Study, out: Path) -> Path:
    """Each complete cell as a run of a local trackio project in `out`."""
    import os

    os.environ["TRACKIO_DIR"] = str(out.resolve())  # read when trackio is imported
    try:
        import trackio
    except ModuleNotFoundError:
        raise ValueError("trackio is not installed: pip install 'lightgen-bench[trackio]'") from None
    for cell in study.complete():
        trackio.init(project=study.name, name=cell.name, config=flat(cell.record.config if cell.record else {}))
        for step, values in _curves(cell):
            trackio.log(values, step=step)
        trackio.log(_values(cell))
        trackio.finish()
    return out


def to_tensorboard(study: Study, out: Path) -> Path:
    """Each complete cell as a folder of TensorBoard events; scores stand at step 0."""
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ModuleNotFoundError:
        raise ValueError("tensorboard is not installed: pip install 'lightgen-bench[track]'") from None
    for cell in study.complete():
        writer = EventFileWriter(str(out / cell.name))
        for step, values in [(0, _values(cell)), *_curves(cell)]:
            rows = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
            writer.add_event(Event(step=int(step), wall_time=0.0, summary=Summary(value=rows)))
        writer.close()
    return out


def to_hub_card(study: Study, out: Path) -> Path:
    """`out`/README.md, the model card of the variant with the highest score, and leaderboard.json with all of them."""
    found = by_version(scores(study))
    ranked = _ranked(study, found[0]) if found else []
    if not ranked:
        raise ValueError(f"{study.folder}: no complete cell of a trained variant has GenEval verdicts; nothing to card")
    out.mkdir(parents=True, exist_ok=True)
    board = [_row(study, variant, found[0]) for variant in ranked]
    text = json.dumps(board, ensure_ascii=False, indent=2, allow_nan=False)
    (out / "leaderboard.json").write_text(f"{text}\n", encoding="utf-8")
    (out / "README.md").write_text(_card(study, ranked[0], found[0]), encoding="utf-8", newline="\n")
    return out


EXPORTS: dict[str, Callable[[Study, Path], Path]] = {
    "trackio": to_trackio,
    "tensorboard": to_tensorboard,
    "hub-card": to_hub_card,
}


def _curves(cell: Cell) -> Iterator[tuple[float, dict[str, float]]]:
    """(step, {"training/loss": value, ...}) of each logged line."""
    for name, rows in (("training", cell.training), ("preference", cell.preference)):
        for row in rows:
            numbers = {key: value for key, value in row.items() if isinstance(value, (int, float)) and key != "step"}
            step = row.get(STEPS[name], row.get("step", 0))
            yield step, {f"{name}/{key}": float(value) for key, value in numbers.items() if key != STEPS[name]}


def _values(cell: Cell) -> dict[str, float]:
    return {name: metric.value for name, metric in cell.metrics.items() if metric.value is not None}


def _ranked(study: Study, found: Scores) -> list[Variant]:
    """The variants under test, the highest overall score first."""
    shown = [v for v in study.variants if not v.is_control and (v.name, "", OVERALL) in found]
    return sorted(shown, key=lambda variant: -found[variant.name, "", OVERALL].value)


def _row(study: Study, variant: Variant, found: Scores) -> dict:
    """One line of the leaderboard."""
    scored = {task: score for (name, split, task), score in found.items() if name == variant.name and not split}
    return {
        "study": study.name, "scale": study.scale, "variant": variant.name, "label": variant.label,
        "factors": dict(variant.factors), "seeds": [cell.seed for cell in study.complete(variant.name)],
        "geneval": {task: {"value": score.value, "ci": score.ci} for task, score in scored.items()},
        "version": scored[OVERALL].version,
    }  # fmt: skip


def _card(study: Study, variant: Variant, found: Scores) -> str:
    import yaml

    row, cell = _row(study, variant, found), study.complete(variant.name)[0]
    overall = found[variant.name, "", OVERALL]
    results = [{"type": f"geneval/{task}", "name": metric_name(f"geneval/{task}")[0], "value": round(entry["value"], 6)}
               for task, entry in row["geneval"].items()]  # fmt: skip
    dataset = {"type": study.name, "name": study.title}
    task = {"type": "text-to-image"}
    index = [{"name": variant.name, "results": [{"task": task, "dataset": dataset, "metrics": results}]}]
    head = yaml.safe_dump({"pipeline_tag": "text-to-image", "tags": ["lightgen", "masked-autoregression", study.name],
                           "model-index": index}, sort_keys=False, allow_unicode=True)  # fmt: skip
    judged = primary(verdicts(study))
    verdict = (
        f"{judged.contrast.label}: {judged.outcome}. {judged.sentence}" if judged else "The study has no contrast."
    )
    interval = "no interval" if overall.ci is None else f"95 % interval {overall.ci[0]:.3f} to {overall.ci[1]:.3f}"
    metrics = [f"| {markdown_text(metric_name(name)[0])} | {value:.4g} | {markdown_text(metric_name(name)[1])} |"
               for name, value in _values(cell).items()]  # fmt: skip
    protocol = [f"- {markdown_text(name)}: {markdown_text(value)}" for name, value in flat(study.protocol).items()]
    return "\n".join([
        f"---\n{head}---", f"# {markdown_text(variant.label)}", "",
        f"{markdown_text(study.title)}, scale {markdown_text(study.scale)}. GenEval overall {overall.value:.3f} "
        f"({interval}), {overall.prompts} prompts, {overall.seeds} training seeds.", "",
        "## Limits", "",
        f"- The highest of {len(_ranked(study, found))} variants: an uncorrected maximum, so its score flatters it.",
        f"- The study's own verdict: {markdown_text(verdict)}",
        "- Scores hold for this judge and these prompts only: " + markdown_text(overall.version or "no version") + ".",
        *([f"- {markdown_text(study.note)}"] if study.note else []), "",
        f"## Metrics of seed {cell.seed}", "", "| metric | value | protocol |", "| --- | --: | --- |", *metrics, "",
        "## Protocol", "", *protocol, "",
    ])  # fmt: skip
