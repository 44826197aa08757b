"""Steps that give preference pairs: own samples and their grades, the teacher's pictures, damaged or wrong ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ablations.prompts import (
    AllCaptions,
    TrainingCaptions,
    copies_by_task,
    learning_prompts,
)
from ablations.runner.step import Facts, Folder, Step, Work
from ablations.steps.asked import Asked, prompts_of
from ablations.steps.data import DrawIcons
from ablations.steps.generate import generate, load_model, sampling_call
from ablations.steps.judge import Judges, detect, link
from ablations.steps.named import AskNamed
from lightgen.disk.json_files import read_json, write_json
from lightgen.model.config import SamplingConfig

if TYPE_CHECKING:
    from geneval.prompts import Prompt
    from lightgen.preference.pairs import Pair

NOISE_SEEDS = 1000  # a round's pictures have seeds of their own: the cell's seed and so many times the round


@dataclass(frozen=True, kw_only=True)
class Learned:
    """Which captions preferences are learned from: `count` that are not in the benchmark, as many of each task."""

    captions: TrainingCaptions | AllCaptions | AskNamed
    benchmark: Asked
    count: int
    seed: int

    def prompts(self, made: Callable[[Step], Path]) -> list[Prompt]:
        own = self.captions
        candidates = prompts_of(own, made) if isinstance(own, AskNamed) else own.candidates()
        return learning_prompts(candidates, prompts_of(self.benchmark, made), self.count, self.seed)


@dataclass(frozen=True, kw_only=True)
class Sample(Step):
    """images/TASK/: the model's own pictures of captions, detected; grades.json: {TASK: {file: grade}}."""

    resumable: ClassVar[bool] = True
    is_slow: ClassVar[bool] = True
    parts: ClassVar[tuple[str, ...]] = ("draw", "look")
    model: Step
    learned: Learned
    sampling: SamplingConfig
    judges: Judges
    copies: int  # samples a caption; tasks with fewer captions get more, up to max_copies
    max_copies: int
    round: int = 1  # 2 = of the model that the first round made, with other noise

    def draw(self, work: Work) -> None:
        """The pictures of a shard."""
        for images, asked, copies in self._tasks(work):
            generate(work, self.model, asked, images, sampling_call(self.sampling), copies=copies, seed=self._seed)

    def look(self, work: Work) -> None:
        """What is seen in a shard of the pictures."""
        for images, *_ in self._tasks(work):
            detect(work, images, self.judges)

    def run(self, work: Work) -> Facts:
        prompts, call = self.learned.prompts(work.made), sampling_call(self.sampling)
        grades = {
            images.name: graded(work, self.model, asked, images, call, self.judges, copies=copies, seed=self._seed)
            for images, asked, copies in self._tasks(work)
        }
        write_json(work.out / "grades.json", grades)
        right = {task: sum(grade == 1.0 for grade in found.values()) / len(found) for task, found in grades.items()}
        return {"prompts": len(prompts), "images": sum(map(len, grades.values())), "right": right}

    @property
    def _seed(self) -> int:
        return self.learned.seed + NOISE_SEEDS * self.round

    def _tasks(self, work: Work) -> Iterator[tuple[Path, list[Prompt], int]]:
        """Each task's folder of pictures, its prompts, and how many pictures of each."""
        prompts = self.learned.prompts(work.made)
        for task, copies in copies_by_task(prompts, self.copies, self.max_copies).items():
            yield work.out / "images" / task, [prompt for prompt in prompts if prompt.tag == task], copies


@dataclass(frozen=True, kw_only=True)
class RankedPairs(Step):
    """pairs.jsonl: best against worst of the model's own samples of a caption, ties left out, tasks balanced."""

    is_slow: ClassVar[bool] = True
    samples: Sample
    per_prompt: int  # pairs of a caption with `samples.copies` samples; in proportion where there are more
    min_gap: float  # least difference of the grades
    per_task: int  # most pairs of a task

    def run(self, work: Work) -> Facts:
        from geneval.layout import read_layout
        from lightgen.preference.pair_sources import ranked_pairs
        from lightgen.preference.pairs import write_pairs

        found, counts = [], Counter[str]()
        made = work.made(self.samples)
        for task, grades in read_json(made / "grades.json").items():
            images = made / "images" / task
            folders, _ = read_layout(images)
            groups = {
                f.metadata["prompt"]: [(link(images, work.out / task, s), grades[s]) for s in f.samples]
                for f in folders
            }
            copies = max(len(group) for group in groups.values())
            ranked = ranked_pairs(
                groups,
                per_prompt=self.per_prompt * copies // self.samples.copies,
                min_gap=self.min_gap,
                categories=dict.fromkeys(groups, task),
                per_category=self.per_task,
            )
            counts[task] = len(ranked)
            found += ranked
        write_pairs(found, work.out / "pairs.jsonl")
        return {"pairs": len(found), "by_task": dict(counts)}


@dataclass(frozen=True, kw_only=True)
class ShuffledPairs(Step):
    """pairs.jsonl of another step with half of its preferences turned around: the placebo."""

    pairs: Step
    seed: int

    def run(self, work: Work) -> Facts:
        from lightgen.preference.pair_sources import shuffled_pairs
        from lightgen.preference.pairs import read_pairs, write_pairs

        source = work.made(self.pairs) / "pairs.jsonl"
        if not source.stat().st_size:
            write_pairs([], work.out / "pairs.jsonl")
            return {"pairs": 0}
        found = shuffled_pairs(read_pairs(source), seed=self.seed)
        write_pairs([_with_own_images(pair, source.parent, work.out) for pair in found], work.out / "pairs.jsonl")
        return {"pairs": len(found)}


def _with_own_images(pair: Pair, root: Path, out: Path) -> Pair:
    """The pair with its images in the step's own folder: paths to another's would break when the folder is renamed."""
    places = (str(path.resolve().relative_to(root.resolve())) for path in (pair.chosen, pair.rejected))
    chosen, rejected = (link(root, out, place) for place in places)
    return replace(pair, chosen=chosen, rejected=rejected)


@dataclass(frozen=True, kw_only=True)
class TeacherPairs(Step):
    """pairs.jsonl as LightGen's script makes them: the teacher's picture against the model's own."""

    resumable: ClassVar[bool] = True
    is_slow: ClassVar[bool] = True
    parts: ClassVar[tuple[str, ...]] = ("draw",)
    model: Step
    dataset: Step
    sampling: SamplingConfig
    limit: int
    seed: int

    def draw(self, work: Work) -> Path:
        """The pictures, or those of a shard."""
        from lightgen.data.painters import DiffusersPainter
        from lightgen.preference.pair_sources import teacher_pairs

        model = DiffusersPainter(load_model(work, self.model), "own", sampling_call(self.sampling))
        options: dict[str, Any] = {"limit": self.limit, "seed": self.seed, "batch_size": work.runtime.generate_batch}
        dataset = work.made(self.dataset) / "dataset"
        return teacher_pairs(dataset, model, work.out, shard=work.shard, progress=work.tick, **options)

    def run(self, work: Work) -> Facts:
        return _counted(self.draw(work))


@dataclass(frozen=True, kw_only=True)
class DetailPairs(Step):
    """pairs.jsonl of the teacher's pictures against themselves with their detail damaged."""

    resumable: ClassVar[bool] = True
    dataset: Step
    damages: tuple[str, ...]
    limit: int
    seed: int
    vae: Folder

    def run(self, work: Work) -> Facts:
        from lightgen.device import choose_device
        from lightgen.model.encoders import ImageTokenizer
        from lightgen.preference.pair_sources import detail_pairs

        tokenizer = None
        if "vae" in self.damages:
            device = choose_device(work.runtime.device)
            tokenizer = ImageTokenizer.from_pretrained(self.vae.location).to(device)
        options: dict[str, Any] = {"damages": self.damages, "limit": self.limit, "seed": self.seed}
        dataset = work.made(self.dataset) / "dataset"
        return _counted(detail_pairs(dataset, work.out, tokenizer=tokenizer, progress=work.tick, **options))


@dataclass(frozen=True, kw_only=True)
class LayoutPairs(Step):
    """pairs.jsonl of the teacher's pictures against the same objects placed so that relation or number is wrong."""

    resumable: ClassVar[bool] = True
    dataset: DrawIcons
    limit: int

    def run(self, work: Work) -> Facts:
        from ablations.icons.layouts import render_wrong_layouts
        from lightgen.preference.pair_sources import layout_pairs

        render_wrong_layouts(self.dataset.config, work.out / "against")
        dataset = work.made(self.dataset) / "dataset"
        return _counted(layout_pairs(dataset, work.out / "against", work.out, limit=self.limit, progress=work.tick))


def graded(
    work: Work,
    model: Step,
    prompts: Sequence[Prompt],
    images: Path,
    call: dict[str, Any],
    judges: Judges,
    *,
    copies: int,
    seed: int,
) -> dict[str, float]:
    """{file: grade} of own pictures of the prompts, made in `images` unless they are there."""
    from geneval.scores import grade_folder

    generate(work, model, prompts, images, call, copies=copies, seed=seed)
    detect(work, images, judges)
    return grade_folder(images)


def _counted(path: Path) -> Facts:
    return {"pairs": sum(1 for line in path.read_text(encoding="utf-8").splitlines() if line)}
