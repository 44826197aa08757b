"""Steps that give pictures with captions: drawn by the icon world's teacher."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import ClassVar

from ablations.icons.render import DatasetConfig, diversity_statistics, render_dataset, sample_captions
from ablations.prompts import IconPrompts
from ablations.runner.step import Facts, Folder, Step, Work
from lightgen.disk.json_files import write_json


@dataclass(frozen=True, kw_only=True)
class DrawIcons(Step):
    """dataset/ and captions.json: the teacher's pictures of captions of one diversity."""

    resumable: ClassVar[bool] = True
    is_slow: ClassVar[bool] = True
    config: DatasetConfig

    def run(self, work: Work) -> Facts:
        render_dataset(self.config, work.out / "dataset")
        write_json(work.out / "captions.json", list(sample_captions(self.config)))
        return {"diversity": diversity_statistics(self.config)}


@dataclass(frozen=True, kw_only=True)
class DrawBenchmark(Step):
    """images/: the teacher's own pictures of the benchmark's prompts, in GenEval's folders."""

    prompts: IconPrompts
    copies: int
    seed: int

    def run(self, work: Work) -> Facts:
        from ablations.icons.teacher import IconTeacher
        from ablations.icons.world import world
        from geneval.generate import image_seed
        from geneval.layout import sample_path, write_prompt_folder

        prompts, teacher = self.prompts.prompts(), IconTeacher(world(self.prompts.world))
        for index, prompt in enumerate(prompts):
            write_prompt_folder(work.out / "images", index, prompt)
            seeds = [image_seed(self.seed, prompt.prompt, copy) for copy in range(self.copies)]
            for copy, image in enumerate(teacher([prompt.prompt] * len(seeds), seeds)):
                image.save(sample_path(work.out / "images", index, copy))
        return {"prompts": len(prompts), "images": len(prompts) * self.copies}


@dataclass(frozen=True, kw_only=True)
class Restore(Step):
    """images/: another step's pictures through the image tokenizer and back, the most that a model's can be."""

    images: DrawBenchmark
    vae: Folder

    def run(self, work: Work) -> Facts:
        from lightgen.data.images import read_image
        from lightgen.device import choose_device
        from lightgen.model.encoders import ImageTokenizer

        tokenizer = ImageTokenizer.from_pretrained(self.vae.location).to(choose_device(work.runtime.device))
        out = work.out / "images"
        shutil.copytree(work.made(self.images) / "images", out)
        paths, batch = sorted(out.glob("*/samples/*.png")), work.runtime.encode_batch
        for first in range(0, len(paths), batch):
            part = paths[first : first + batch]
            moments = tokenizer.moments([read_image(path) for path in part])
            for path, image in zip(part, tokenizer.decode(tokenizer.latents(moments, None)), strict=True):
                image.save(path)
        return {"images": len(paths)}
