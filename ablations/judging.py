"""The stages that make and judge pictures: generate, draw, reference, judge, quality.

Heavy libraries are imported inside, so that a plan needs none of them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.cells import Work, component_folder, component_identity
from ablations.store import Stopped, read_json
from ablations.suite import evaluation_prompts

if TYPE_CHECKING:
    from geneval.prompts import Prompt

Facts = Mapping[str, Any]


def generate(work: Work) -> Facts:
    """images/: the benchmark's prompts as GenEval's folder."""
    evaluation = work.recipe["evaluation"]
    prompts = evaluation_prompts(evaluation, work.recipe["data"]["world"])
    generate_folder(work, prompts, work.out / "images", copies=evaluation["copies"], seed=evaluation["seed"])
    return {"prompts": len(prompts), "images": len(prompts) * evaluation["copies"]}


def draw(work: Work) -> Facts:
    """images/: the teacher's own pictures of the benchmark's prompts, which bound every score from above."""
    return _draw(work, work.recipe["evaluation"]["seed"])


def reference(work: Work) -> Facts:
    """images/ and features.safetensors: other pictures of the same prompts by the teacher, for FID to compare with."""
    from benchmarks.quality.extractors import load_extractor
    from benchmarks.quality.features import extract

    shards = work.recipe["data"]["shards"]
    facts = {} if shards else _draw(work, work.recipe["evaluation"]["seed"] + 1)
    images = work.out / "images"
    if shards and not images.exists():
        images.symlink_to((Path(shards) / "reference").resolve(), target_is_directory=True)
    network = load_extractor(component(work, "clip"), name=work.recipe["quality"]["extractor"])
    extract(images, network, work.out / "features.safetensors")
    return facts


def _draw(work: Work, seed: int) -> Facts:
    from ablations.icons.teacher import IconTeacher
    from ablations.icons.world import world
    from geneval.generate import image_seed
    from geneval.layout import sample_path, write_prompt_folder

    evaluation, name = work.recipe["evaluation"], work.recipe["data"]["world"]
    prompts, teacher = evaluation_prompts(evaluation, name), IconTeacher(world(name))
    for index, prompt in enumerate(prompts):
        write_prompt_folder(work.out / "images", index, prompt)
        seeds = [image_seed(seed, prompt.prompt, copy) for copy in range(evaluation["copies"])]
        for copy, image in enumerate(teacher([prompt.prompt] * len(seeds), seeds)):
            image.save(sample_path(work.out / "images", index, copy))
    return {"prompts": len(prompts), "images": len(prompts) * evaluation["copies"]}


def judge(work: Work) -> Facts:
    """images/ (links), detections.jsonl in it, and results.jsonl."""
    from geneval.prompts import prompts_sha256
    from geneval.scores import score_folder

    evaluation = work.recipe["evaluation"]
    prompts = evaluation_prompts(evaluation, work.recipe["data"]["world"])
    images = work.out / "images"
    _link_folder(work.inputs["images"] / "images", images)
    detect_folder(work, images)
    rows = score_folder(images, work.out / "results.jsonl", prompts=prompts, copies=evaluation["copies"])
    return {
        "prompts_sha256": prompts_sha256(prompts),
        "judge": {name: component_identity(component(work, name)) for name in ("detector", "clip")},
        "correct": sum(row["correct"] for row in rows),
        "images": len(rows),
    }


def quality(work: Work) -> Facts:
    """quality.json: FID and its kin against the reference, the CLIP score, and detail."""
    from benchmarks.quality.measure import measure

    clip = component(work, "clip")
    result = measure(
        work.inputs["images"] / "images",
        work.inputs["reference"] / "features.safetensors",
        extractor=clip,
        name=work.recipe["quality"]["extractor"],
        clip=clip,
        out=work.out,
    )
    return {"metrics": result["metrics"], "warnings": result["warnings"]}


def generate_folder(
    work: Work, prompts: Sequence[Prompt], out: Path, *, copies: int, seed: int, **changed: Any
) -> None:
    """Images of the prompts by the step's model, with the recipe's sampling settings except those `changed`."""
    from geneval.generate import generate_images

    generate_images(
        load_subject(work),
        prompts,
        out,
        copies=copies,
        seed=seed,
        batch_size=work.recipe["batch"]["generate"],
        call={**sampling_call(work), **changed},
        seeding="image",
        progress=ticker(work),
    )


def detect_folder(work: Work, images: Path) -> None:
    from geneval.detect import detect_images

    detect_images(
        images,
        component(work, "detector"),
        component(work, "clip"),
        batch_size=work.recipe["batch"]["detect"],
        progress=ticker(work),
    )


def ticker(work: Work) -> Callable[[int, int], None]:
    """A progress function for loops that keep what they finished: it is also where they can be left."""

    def tick(done: int, total: int) -> None:
        work.progress(done / total)
        if work.stop():
            raise Stopped

    return tick


def load_subject(work: Work) -> Any:
    from geneval.detector import default_device
    from lightgen.model.pipeline import LightGenPipeline

    pipeline = LightGenPipeline.from_pretrained(work.inputs["model"] / "model").to(default_device())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sampling_call(work: Work) -> dict[str, Any]:
    """The sampling settings, retuned ones before the recipe's, as arguments of the pipeline's call."""
    sampling = dict(work.recipe["sampling"])
    if "sampling" in work.inputs:
        sampling |= read_json(work.inputs["sampling"] / "sampling.json")
    return {"num_inference_steps": sampling.pop("num_steps"), **sampling}


def component(work: Work, name: str) -> Path:
    return component_folder(work.recipe["components"][name])


def link(images: Path, out: Path, sample: str) -> Path:
    """The sample inside the step's own folder: a hard link where the disk has them."""
    target = out / "images" / sample
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(images / sample, target)
        except OSError:
            shutil.copyfile(images / sample, target)
    return target


def _link_folder(images: Path, target: Path) -> None:
    for source in sorted(images.rglob("*")):
        if source.suffix == ".png":
            link(images, target.parent, str(source.relative_to(images)))
        elif source.name == "metadata.jsonl":
            (target / source.parent.name / "samples").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target / source.relative_to(images))
