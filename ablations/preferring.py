"""The stages before preference training: own samples and their grades, pairs by source; and guidance tuned instead.

Heavy libraries are imported inside, so that a plan needs none of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.cells import Work
from ablations.judging import (
    Facts,
    component,
    detect_folder,
    generate_folder,
    link,
    load_subject,
    sampling_call,
    ticker,
)
from ablations.store import read_json, write_json
from ablations.suite import copies_by_task, dataset_config, evaluation_prompts, preference_prompts

if TYPE_CHECKING:
    from geneval.prompts import Prompt
    from lightgen.preference.pairs import Pair


def samples(work: Work, *, turn: int = 1) -> Facts:
    """images/TASK/: the model's own pictures of captions, detected; grades.json: {TASK: {file: grade}}."""
    preference = work.recipe["preference"]
    prompts = _prompts(work, preference["prompts"])
    grades: dict[str, dict[str, float]] = {}
    images = 0
    for task, copies in copies_by_task(prompts, preference["copies"], preference["max_copies"]).items():
        asked = [prompt for prompt in prompts if prompt.tag == task]
        grades[task] = _graded(work, asked, work.out / "images" / task, copies=copies, seed=work.seed + 1000 * turn)
        images += len(grades[task])
    write_json(work.out / "grades.json", grades)
    right = {task: sum(grade == 1.0 for grade in found.values()) / len(found) for task, found in grades.items()}
    return {"prompts": len(prompts), "images": images, "right": right}


def samples_of_round(turn: int) -> Callable[[Work], Facts]:
    """`samples` with noise of its own, of the model that the round before made."""
    return partial(samples, turn=turn)


def pairs(work: Work) -> Facts:
    """pairs.jsonl: best against worst of the model's own samples of a caption, ties left out, tasks balanced."""
    from geneval.layout import read_layout
    from lightgen.preference.pair_sources import ranked_pairs
    from lightgen.preference.pairs import write_pairs

    preference = work.recipe["preference"]
    found = []
    counts: Counter[str] = Counter()
    for task, grades in read_json(work.inputs["samples"] / "grades.json").items():
        images = work.inputs["samples"] / "images" / task
        folders, _ = read_layout(images)
        groups = {
            f.metadata["prompt"]: [(link(images, work.out / task, s), grades[s]) for s in f.samples] for f in folders
        }
        copies = max(len(group) for group in groups.values())
        ranked = ranked_pairs(
            groups,
            per_prompt=preference["per_prompt"] * copies // preference["copies"],
            min_gap=preference["min_gap"],
            categories=dict.fromkeys(groups, task),
            per_category=preference["per_task"],
        )
        counts[task] = len(ranked)
        found += ranked
    write_pairs(found, work.out / "pairs.jsonl")
    return {"pairs": len(found), "by_task": dict(counts)}


def shuffled_pairs(work: Work) -> Facts:
    """pairs.jsonl of another stage with half of its preferences turned around: the placebo."""
    from lightgen.preference.pair_sources import shuffled_pairs as shuffled
    from lightgen.preference.pairs import read_pairs, write_pairs

    source = work.inputs["pairs"] / "pairs.jsonl"
    if not source.stat().st_size:
        write_pairs([], work.out / "pairs.jsonl")
        return {"pairs": 0}
    found = shuffled(read_pairs(source), seed=work.seed)
    write_pairs([_with_own_images(pair, work) for pair in found], work.out / "pairs.jsonl")
    return {"pairs": len(found)}


def _with_own_images(pair: Pair, work: Work) -> Pair:
    """The pair with its images in the step's own folder: paths to another's would break when the folder is renamed."""
    root = work.inputs["pairs"].resolve()
    places = (str(path.resolve().relative_to(root)) for path in (pair.chosen, pair.rejected))
    chosen, rejected = (link(root, work.out, place) for place in places)
    return replace(pair, chosen=chosen, rejected=rejected)


def teacher_pairs(work: Work) -> Facts:
    """pairs.jsonl as LightGen's script makes them: the teacher's picture against the model's own."""
    from lightgen.data.painters import DiffusersTeacher
    from lightgen.preference.pair_sources import teacher_pairs as run

    model = DiffusersTeacher(load_subject(work), "own", sampling_call(work))
    limit = work.recipe["preference"]["limit"]
    path = run(
        work.inputs["dataset"] / "dataset",
        model,
        work.out,
        limit=limit,
        batch_size=work.recipe["batch"]["generate"],
        seed=work.seed,
        progress=ticker(work),
    )
    return {"pairs": _count(path)}


def detail_pairs(work: Work) -> Facts:
    """pairs.jsonl of the teacher's pictures against themselves with their detail damaged."""
    from lightgen.model.encoders import ImageTokenizer
    from lightgen.preference.pair_sources import detail_pairs as run

    preference = work.recipe["preference"]
    tokenizer = None
    if "vae" in preference["damages"]:
        tokenizer = ImageTokenizer.from_pretrained(component(work, "vae"))
    path = run(
        work.inputs["dataset"] / "dataset",
        work.out,
        damages=preference["damages"],
        tokenizer=tokenizer,
        limit=preference["limit"],
        seed=work.seed,
        progress=ticker(work),
    )
    return {"pairs": _count(path)}


def layout_pairs(work: Work) -> Facts:
    """pairs.jsonl of the teacher's pictures against the same objects placed so that relation or number is wrong."""
    from ablations.icons.layouts import render_wrong_layouts
    from lightgen.preference.pair_sources import layout_pairs as run

    config = dataset_config(work.recipe["data"], work.seed)
    render_wrong_layouts(config, work.out / "against")
    limit = work.recipe["preference"]["limit"]
    dataset = work.inputs["dataset"] / "dataset"
    path = run(dataset, work.out / "against", work.out, limit=limit, progress=ticker(work))
    return {"pairs": _count(path)}


def retune(work: Work) -> Facts:
    """sampling.json: the guidance scale whose pictures of training captions the verifier likes best."""
    settings = work.recipe["retune"]
    prompts = _prompts(work, settings["prompts"])
    found = {}
    for scale in settings["scales"]:
        grades = _graded(
            work,
            prompts,
            work.out / "images" / f"{scale:g}",
            copies=settings["copies"],
            seed=work.seed + 1000,
            guidance_scale=scale,
        )
        found[scale] = _mean_of_tasks(grades, prompts)
    best = max(found, key=lambda scale: (found[scale], -scale))
    write_json(work.out / "sampling.json", {"guidance_scale": best})
    return {"guidance_scale": best, "right": {f"{scale:g}": value for scale, value in found.items()}}


def _prompts(work: Work, count: int) -> list[Prompt]:
    """Captions outside the benchmark, of the training set or of all that there are; ValueError where there are none."""
    data = work.recipe["data"]
    benchmark = evaluation_prompts(work.recipe["evaluation"], data["world"])
    prompts = preference_prompts(data, work.seed, benchmark, count, captions=work.recipe["preference"]["captions"])
    if not prompts:
        raise ValueError("no caption is outside the benchmark: nothing to learn a preference from")
    return prompts


def _graded(
    work: Work, prompts: Sequence[Prompt], images: Path, *, copies: int, seed: int, guidance_scale: float | None = None
) -> dict[str, float]:
    """{file: grade} of own pictures of the prompts, made in `images` unless they are there."""
    from geneval.scores import grade_folder

    given = {} if guidance_scale is None else {"guidance_scale": guidance_scale}
    generate_folder(work, prompts, images, copies=copies, seed=seed, **given)
    detect_folder(work, images)
    return grade_folder(images)


def _mean_of_tasks(grades: Mapping[str, float], prompts: Sequence[Prompt]) -> float:
    """The share of right pictures, as GenEval's overall score averages it."""
    by_task: dict[str, list[bool]] = {}
    for name, grade in grades.items():
        by_task.setdefault(prompts[int(name.split("/")[0])].tag, []).append(grade == 1.0)
    return sum(sum(found) / len(found) for found in by_task.values()) / len(by_task)


def _count(path: Path) -> int:
    return sum(1 for line in path.read_text(encoding="utf-8").splitlines() if line)
