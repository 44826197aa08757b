"""A synthetic study folder: drawn verdicts, curves and pictures, the same bytes for the same arguments."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

TASKS = {"single_object": 0.85, "two_object": 0.6, "counting": 0.5, "colors": 0.65, "position": 0.3, "color_attr": 0.15}
SPLITS = {"shared": "in every training set", "diverse": "only in the diverse sets", "unseen": "in no training set"}
COLORS = ("red", "green", "blue", "orange", "purple", "gold")


def variants() -> list[dict]:
    """2 volumes x 2 diversities x 2 preferences, and two controls."""
    rows = [
        {
            "name": f"{volume}-{diversity}-{preference}",
            "label": f"{volume}, {diversity}" + (" + DPO" if preference == "dpo" else ""),
            "factors": {"volume": volume, "diversity": diversity, "preference": preference},
        }
        for preference in ("none", "dpo")
        for volume in ("small", "large")
        for diversity in ("narrow", "diverse")
    ]
    controls = [{"name": name, "label": name, "factors": {"control": name}} for name in ("untrained", "teacher")]
    return rows + controls


def contrasts() -> list[dict]:
    common = {"metric": "geneval/overall", "smallest_effect": 0.03}
    return [
        {
            **common,
            "name": "diversity_beats_volume",
            "label": "small, diverse minus large, narrow",
            "a": "small-diverse-none",
            "b": "large-narrow-none",
            "claim": "more diverse captions help more than more images",
        },
        {
            **common,
            "name": "volume",
            "label": "large minus small, both diverse",
            "a": "large-diverse-none",
            "b": "small-diverse-none",
            "claim": "more images help at the same diversity",
        },
        {
            **common,
            "name": "preference",
            "label": "DPO minus none, small and diverse",
            "a": "small-diverse-dpo",
            "b": "small-diverse-none",
            "claim": "preference training helps",
        },
        {
            **common,
            "name": "interaction",
            "label": "diversity's gain at large minus at small volume",
            "a": "large-diverse-none",
            "b": "large-narrow-none",
            "claim": "diversity matters more when there is more data",
            "minus": ["small-diverse-none", "small-narrow-none"],
        },
    ]


def skill(factors: dict, split: str, task: str) -> float:
    """The chance that an image is right."""
    if "control" in factors:
        return 0.0 if factors["control"] == "untrained" else 0.98
    chance = (
        TASKS[task] + (0.03 if factors["volume"] == "large" else 0) + (0.02 if factors["preference"] == "dpo" else 0)
    )
    if factors["diversity"] == "narrow":
        chance = chance + 0.05 if split == "shared" else chance * 0.25
    return min(chance, 1.0)


def prompts(per_task: int) -> Iterator[tuple[str, str, str, str]]:
    """(task, prompt, metadata string, split), in order."""
    for task in TASKS:
        for i in range(per_task):
            prompt = f"a photo of {i + 2} {COLORS[i % 6]} apples and a {COLORS[(i + 1) % 6]} bench ({task})"
            metadata = json.dumps({"tag": task, "index": i, "prompt": prompt})
            yield task, prompt, metadata, tuple(SPLITS)[i % 3]


def _picture(path: Path, rng: random.Random) -> None:
    image = Image.new("RGB", (32, 32), (235, 235, 230))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.randint(1, 3)):
        x, y = rng.randint(0, 20), rng.randint(0, 20)
        draw.ellipse((x, y, x + 10, y + 10), fill=COLORS[rng.randrange(6)])
    image.save(path)


def write_lines(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_cell(root: Path, study: dict, variant: dict, seed: int, *, per_task: int, copies: int) -> None:
    """One complete cell; the luck of a seed shifts all its chances a little."""
    rng = random.Random(f"{variant['name']}-{seed}")
    cell = root / "cells" / f"{variant['name']}-s{seed}"
    (cell / "samples").mkdir(parents=True)
    items = {"geneval": "results.jsonl", "samples": "samples.json", "prompts": "prompts.json"}
    items["quality"] = "quality.json"
    _write_quality(cell)
    rows = _write_verdicts(cell, variant["factors"], rng, per_task, copies)
    if "control" not in variant["factors"]:
        items["training"] = "training.jsonl"
        _write_training(cell, variant["factors"], rng)
    if variant["factors"].get("preference") == "dpo":
        items["preference"] = "preference.jsonl"
        _write_preference(cell, rng)
    record = {
        "schema": 1, "study": study["name"], "variant": variant["name"], "seed": seed, "scale": study["scale"],
        "label": variant["label"], "factors": variant["factors"],
        "config": {"train": {"batch_size": 128, "learning_rate": 0.001}},
        "inputs": {"dataset": "sha256:" + "12" * 32, "model": "sha256:" + "34" * 32},
        "env": {"git": "abc1234", "dirty": False, "python": "3.11.9", "torch": "2.15.0", "device": "cpu (2 cores)",
                "packages": {"torch": "2.15.0", "diffusers": "0.42.1"}},
        "cost": {"train_seconds": 200.5, "train_samples": 192000, "flops": 3.1e14, "images": len(rows)},
        "metrics": _metrics(rows), "items": items, "status": "complete",
    }  # fmt: skip
    (cell / "result.json").write_text(json.dumps(record))


def _write_verdicts(cell: Path, factors: dict, rng: random.Random, per_task: int, copies: int) -> list[dict]:
    luck = rng.uniform(-0.02, 0.02)
    rows, samples, splits = [], [], {}
    for index, (task, prompt, metadata, split) in enumerate(prompts(per_task)):
        splits[metadata] = {"split": split}
        chance = skill(factors, split, task)
        if "control" not in factors:
            chance += luck + rng.gauss(0, 0.1)
        for copy in range(copies):
            correct = rng.random() < chance
            reason = "" if correct else f"expected {COLORS[index % 6]} apple>=1, found 0"
            verdict = {"prompt": prompt, "correct": correct, "reason": reason, "tag": task}
            name = f"{index:05d}/samples/{copy:05d}.png"
            rows.append({"filename": name, **verdict, "metadata": metadata, "details": "{}"})
        if index % max(1, per_task // 4) == 0:
            _picture(cell / "samples" / f"{index:05d}.png", rng)
            samples.append({"file": f"samples/{index:05d}.png", **verdict, "split": split})
    write_lines(cell / "results.jsonl", rows)
    (cell / "prompts.json").write_text(json.dumps(splits))
    (cell / "samples.json").write_text(json.dumps(samples))
    return rows


def _write_training(cell: Path, factors: dict, rng: random.Random) -> None:
    floor = 0.5 + 0.1 * (factors["volume"] == "small")
    curve = {step: floor + 0.6 * 2.0 ** (-step / 150) + rng.gauss(0, 0.02) for step in range(10, 1501, 10)}
    rest = {"lr": 1e-3, "grad_norm": 0.5}
    write_lines(
        cell / "training.jsonl",
        [
            {"step": step, "samples": step * 128, "loss": loss, "mse": loss, "seconds": step * 0.16, **rest}
            for step, loss in curve.items()
        ],
    )


def _write_preference(cell: Path, rng: random.Random) -> None:
    write_lines(
        cell / "preference.jsonl",
        [
            {
                "step": step,
                "loss": 0.69 - step * 1e-4,
                "winner_drift": -0.0005 * step + rng.gauss(0, 0.004),
                "loser_drift": 0.001 * step + rng.gauss(0, 0.004),
                "accuracy": 0.5 + 0.3 * step / 400,
            }
            for step in range(5, 401, 5)
        ],
    )


def _write_quality(cell: Path) -> None:
    limit = random.Random(cell.name).uniform(20, 60)
    quality = {
        "fid_by_n": [[n, limit + 400 / n] for n in (200, 280, 400, 1000)],
        "fid_infinity": {"value": limit, "stderr": 0.5},
        "spectrum": {
            "frequencies": [(i + 1) / 32 for i in range(16)],
            "generated": [900 / (i + 1) ** 2.2 for i in range(16)],
            "reference": [900 / (i + 1) ** 2 for i in range(16)],
        },
    }
    (cell / "quality.json").write_text(json.dumps(quality))


def _metrics(rows: list[dict]) -> dict[str, dict]:
    tasks = {task: [row["correct"] for row in rows if row["tag"] == task] for task in TASKS}
    means = {task: sum(hits) / len(hits) for task, hits in tasks.items()}
    overall = sum(means.values()) / len(means)
    judge = "rules 1, detector sha256:" + "ab" * 32 + ", prompts sha256:" + "cd" * 32
    features = "icon-clip sha256:" + "ef" * 32 + ", resize none, n=1000"

    def metric(value: float, spread: float | None, n: int, version: str, higher_is_better: bool = True) -> dict:
        ci = None if spread is None else [value - spread, value + spread]
        return {"value": value, "ci": ci, "n": n, "higher_is_better": higher_is_better, "version": version}

    return {
        "geneval/overall": metric(overall, 0.03, len(rows), judge),
        **{f"geneval/{task}": metric(mean, 0.06, len(tasks[task]), judge) for task, mean in means.items()},
        "fid[icon-clip,n=1000]": metric(60 - 50 * overall, None, 1000, features, False),
        "kid[icon-clip,n=1000]": metric(0.1 - 0.1 * overall, 0.01, 1000, features, False),
        "clip_score[icon-clip,n=1000]": metric(20 + 10 * overall, 0.2, 1000, features),
        "detail/spectrum_gap[n=1000]": metric(1 - overall, None, 1000, "log2", False),
    }


def write_study(
    root: Path, *, per_task: int = 6, copies: int = 2, seeds: tuple[int, ...] = (0,), scale: str = "cpu"
) -> Path:
    """A whole study of ten variants under `root`."""
    root.mkdir(parents=True, exist_ok=True)
    study = {
        "schema": 1, "name": "diversity_sweep", "title": "Diversity against volume",
        "question": "At the same number of training samples seen, does more diversity help more than more volume?",
        "claim": "Data diversity matters more than data volume.", "source": "arXiv 2503.08619, abstract",
        "scale": scale, "seeds": list(seeds), "note": "", "variants": variants(), "contrasts": contrasts(),
        "splits": [{"name": name, "label": label} for name, label in SPLITS.items()],
        "interaction": {"rows": "volume", "columns": "diversity"},
        "protocol": {"sampling": {"num_steps": 8, "guidance_scale": 3.0}, "copies": copies,
                     "judges": {"detector": "sha256:" + "ab" * 32}},
    }  # fmt: skip
    (root / "study.json").write_text(json.dumps(study))
    for variant in study["variants"]:
        for seed in seeds if "control" not in variant["factors"] else seeds[:1]:
            write_cell(root, study, variant, seed, per_task=per_task, copies=copies)
    return root


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete one-seed study. Read only."""
    return write_study(tmp_path_factory.mktemp("study") / "diversity_sweep")


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., Path]:
    """Writes a fresh study that the test may break."""
    return lambda **options: write_study(tmp_path / "study", **options)
