"""The teacher's pictures of GenEval prompts over a world's classes, in GenEval's folder layout."""

from __future__ import annotations

from pathlib import Path

from ablations.icons.teacher import IconTeacher
from ablations.icons.world import world
from geneval.layout import sample_path, write_prompt_folder
from geneval.prompts import TASKS, prompt_suite, write_prompts
from lightgen.disk.seeds import derive_seed


def render_benchmark(name: str, out: Path, images: int, seed: int = 0) -> int:
    """One picture a prompt, of each task the same share of `images`; returns how many there are (duplicate prompts are
    dropped). ValueError for fewer images than tasks, or an OUT with other prompts."""
    if images < len(TASKS):
        raise ValueError(f"{images} images are too few for GenEval's {len(TASKS)} tasks; give --images {len(TASKS)}")
    here = world(name)
    prompts = prompt_suite(here.classes, colors=here.colors, num_prompts=images // len(TASKS), seed=seed)
    teacher = IconTeacher(here)
    for index, prompt in enumerate(prompts):
        write_prompt_folder(out, index, prompt)
        (picture,) = teacher([prompt.prompt], [derive_seed(seed, prompt.prompt)])
        picture.save(sample_path(out, index, 0))
    write_prompts(prompts, out)
    return len(prompts)
