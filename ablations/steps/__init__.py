"""The steps of a text-to-image study, one frozen dataclass each, and the table of those that a plan may name."""

from ablations.runner.step import Step
from ablations.steps.data import DrawBenchmark, DrawIcons, Restore
from ablations.steps.distilled import Distill
from ablations.steps.encode import Encode
from ablations.steps.generate import Generate
from ablations.steps.judge import Judge, Judges
from ablations.steps.named import AskNamed, SplitPrompts
from ablations.steps.pairs import (
    DetailPairs,
    LayoutPairs,
    Learned,
    RankedPairs,
    Sample,
    ShuffledPairs,
    TeacherPairs,
)
from ablations.steps.prefer import Prefer, TuneGuidance
from ablations.steps.quality import DescribeReference, Quality
from ablations.steps.subsets import (
    Copies,
    HoldOut,
    NearestPictures,
    Subset,
    TakeDataset,
    TakeSubset,
)
from ablations.steps.train import Initialize, Train
from ablations.steps.watched import TakePart, TrainWatched

STEPS: dict[str, type[Step]] = {
    step.__name__: step
    for step in (
        DrawIcons, DrawBenchmark, Restore, TakeDataset, TakeSubset, HoldOut, Encode, Subset, AskNamed, SplitPrompts,
        Copies, NearestPictures, Train, TrainWatched, TakePart, Initialize, Distill, Sample, RankedPairs, ShuffledPairs,
        TeacherPairs, DetailPairs, LayoutPairs, Prefer, TuneGuidance, Generate, Judge, DescribeReference, Quality,
    )
}  # fmt: skip

__all__ = ["STEPS", "Judges", "Learned", *sorted(STEPS)]
