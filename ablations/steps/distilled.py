"""The step that makes a student's training set: another model's pictures of a data set's captions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ablations.icons.render import DatasetConfig, diversity_statistics, sample_captions, sample_scenes
from ablations.runner.step import Facts, Step, Work
from ablations.steps.generate import load_model, sampling_call
from ablations.steps.judge import Judges
from lightgen.disk.json_files import write_json
from lightgen.disk.seeds import derive_seed
from lightgen.model.config import SamplingConfig

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, kw_only=True)
class Distill(Step):
    """dataset/ and captions.json: a model's own picture of each caption that the config would have drawn.

    With `tries` above 1 a picture that the judges call wrong is made again, that often at most; captions of which none
    was right are left out, and counted.
    """

    is_slow: ClassVar[bool] = True
    model: Step
    config: DatasetConfig
    sampling: SamplingConfig
    judges: Judges
    tries: int = 1

    def run(self, work: Work) -> Facts:
        from lightgen.data.shards import Sample, write_shards

        scenes, captions = list(sample_scenes(self.config)), list(sample_captions(self.config))
        pictures = self._pictures(work, captions, [dict(scene.request) for scene in scenes])
        kept = [index for index in range(len(captions)) if index in pictures]
        samples = (
            Sample(f"{place:08d}", pictures[index], {"prompt": captions[index], "tag": scenes[index].request["tag"]})
            for place, index in enumerate(kept)
        )
        write_shards(samples, work.out / "dataset", manifest={"teacher": f"model {self.model.key[:16]}"})
        write_json(work.out / "captions.json", [captions[index] for index in kept])
        return {"images": len(kept), "left_out": len(captions) - len(kept),
                "diversity": diversity_statistics(self.config) | {"images": len(kept)}}  # fmt: skip

    def _pictures(self, work: Work, captions: Sequence[str], requests: Sequence[dict[str, Any]]) -> dict[int, Image]:
        """{caption's place: picture}; where pictures are tried again, of those that came out right."""
        found, todo = dict[int, "Image"](), list(range(len(captions)))
        for attempt in range(self.tries):
            made = dict(zip(todo, self._drawn(work, captions, todo, attempt), strict=True))
            right = self._right(work, made, requests) if self.tries > 1 else todo
            found |= {index: made[index] for index in right}
            todo = [index for index in todo if index not in found]
        return found

    def _drawn(self, work: Work, captions: Sequence[str], places: Sequence[int], attempt: int) -> Iterator[Image]:
        import torch

        pipeline, batch = load_model(work, self.model), work.runtime.generate_batch
        for first in range(0, len(places), batch):
            part = places[first : first + batch]
            seeds = [derive_seed(self.config.seed, "distill", index, attempt) for index in part]
            generators = [torch.Generator().manual_seed(seed) for seed in seeds]
            prompts = [captions[index] for index in part]
            yield from pipeline(prompt=prompts, generator=generators, **sampling_call(self.sampling)).images
            work.tick(attempt * len(captions) + first + len(part), self.tries * len(captions))

    def _right(self, work: Work, made: dict[int, Image], requests: Sequence[dict[str, Any]]) -> list[int]:
        from geneval.judge import Judge

        if not made:
            return []
        detector, clip = self.judges.detector.location, self.judges.clip.location
        judge = Judge.from_pretrained(detector, clip, work.runtime.device, batch_size=work.runtime.detect_batch)
        places = list(made)
        verdicts = judge([made[index] for index in places], [_metadata(requests[index]) for index in places])
        return [index for index, verdict in zip(places, verdicts, strict=True) if verdict.correct]


def _metadata(request: dict[str, Any]) -> dict[str, Any]:
    """The request as GenEval's files have it: lists where the world has tuples."""
    clauses = [{k: list(v) if isinstance(v, tuple) else v for k, v in c.items()} for c in request["include"]]
    return {**request, "include": clauses}
