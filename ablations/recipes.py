"""The common ways through the steps, of which studies build their variants.

trained:    dataset -> encode -> train [-> pairs of a source -> prefer, in rounds] -> generate -> judge, quality
untrained:  initialize -> generate -> judge, quality
teacher:    draw -> judge, quality
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ablations.data import NO_JUDGE, IconData
from ablations.record import write_record
from ablations.runner.step import Step
from ablations.runner.study import Split, Study
from ablations.settings import NOTES, SETTINGS, Setting
from ablations.steps import (
    STEPS,
    Copies,
    DescribeReference,
    DetailPairs,
    Encode,
    Generate,
    Initialize,
    Judge,
    Judges,
    LayoutPairs,
    Learned,
    NearestPictures,
    Prefer,
    Quality,
    RankedPairs,
    Sample,
    ShuffledPairs,
    SplitPrompts,
    Subset,
    TakeDataset,
    TakePart,
    TakeSubset,
    TeacherPairs,
    Train,
    TrainWatched,
    TuneGuidance,
)
from ablations.steps.asked import Asked
from ablations.steps.data import DrawIcons
from lightgen.disk.config import override
from lightgen.model.config import SamplingConfig
from lightgen.preference.config import PreferenceConfig

# What most cells import; each takes seconds.
IMPORTS = (
    "transformers:AutoTokenizer", "transformers:T5EncoderModel", "transformers:Mask2FormerForUniversalSegmentation",
    "diffusers:AutoencoderKL", "lightgen.model.pipeline", "open_clip", "scipy.linalg",
)  # fmt: skip
# What led when `training_sweep` changed it alone, together: a higher score after as many samples, in half more time.
BETTER = {"train.schedule": "constant", "train.per_image_ratio": True, "data.captions_kind": "mixed"}
ON_POLICY = ("verifier", "random")  # sources of own samples alone, which a model that has moved makes anew


def study(**fields: Any) -> Study:
    """A study of this package's steps at its scales, unless told otherwise."""
    shared: dict[str, Any] = {
        "settings": SETTINGS, "notes": NOTES, "steps": STEPS, "imports": IMPORTS, "record": write_record,
    }  # fmt: skip
    asked = {"splits": _splits, "told": _told, "measures": _measures}
    return Study(**{**asked, **shared, **fields})


def _splits(setting: Setting) -> tuple[Split, ...]:
    return setting.data.splits if setting.benchmark.has_judge else ()


def _measures(setting: Setting, metric: str) -> bool:
    """Whether the setting's cells have the metric."""
    return setting.benchmark.has_judge or not metric.startswith("geneval")


def _told(setting: Setting) -> str:
    """What a reader must know of the data; ValueError for data of which no study can be made."""
    setting.data.check(setting.model)
    if not setting.benchmark.has_judge and setting.data.own_captions() is None:
        raise ValueError(
            "benchmark.prompts=none is of one's own data, whose held-out captions are left; valid: own, official"
        )
    return setting.data.note(setting.components.weights("detector") if setting.benchmark.has_judge else None)


def trained(
    setting: Setting,
    seed: int,
    *,
    volume: str = "large",
    diversity: str = "diverse",
    flips: bool = False,
    changes: Mapping[str, Any] | None = None,
    dataset: Step | None = None,
) -> Train:
    """A model trained on a data set of that volume and diversity, or on `dataset`; `changes` are of the setting, by
    dotted name."""
    changed = override(setting, changes or {})
    latents = encoded(changed, volume, diversity, seed, flips=flips)
    return Train(
        latents=latents if dataset is None else replace(latents, dataset=dataset),
        model=changed.model,
        config=replace(changed.train, seed=seed),
        subset=arm(changed, seed, volume, diversity) if dataset is None else None,
    )


def watched(base: Train, setting: Setting, parts: int) -> TrainWatched:
    """The same training, its model kept after each of so many parts."""
    held = setting.data.set_aside(base.latents.dataset)
    latents = None if held is None else replace(base.latents, dataset=held)
    return TrainWatched(
        latents=base.latents, model=base.model, config=base.config, subset=base.subset, snapshots=parts, held=latents
    )


def encoded(setting: Setting, volume: str, diversity: str, seed: int, *, flips: bool = False) -> Encode:
    """The pictures of a training set, or all of one's own, as latents and text features."""
    return Encode(
        dataset=setting.data.dataset(volume, diversity, seed),
        vae=setting.components.weights("vae"),
        text=setting.components.weights("text"),
        max_text_length=setting.model.max_text_length,
        keep_padding=setting.model.attend_to_padding,
        flips=flips,
        **setting.data.encoding,
    )


def arm(setting: Setting, seed: int, volume: str = "large", diversity: str = "diverse") -> Subset | None:
    """Which of one's own pictures a training set holds; None where it is a data set by itself."""
    return setting.data.subset(encoded(setting, volume, diversity, seed), volume, diversity, seed)


def untrained(setting: Setting, seed: int) -> Initialize:
    """A model with its first weights."""
    components = setting.components
    return Initialize(model=setting.model, vae=components.weights("vae"), text=components.weights("text"), seed=seed)


def judged(
    setting: Setting,
    model: Step,
    *,
    sampling: SamplingConfig | None = None,
    tuned: TuneGuidance | None = None,
    arms: Sequence[Subset | None] = (),
    side: int = 0,
) -> tuple[Step, ...]:
    """What a cell ends with: verdicts and quality of the model's pictures of the benchmark's prompts.

    Of one's own data, quality is that of held-out captions' pictures instead, with copies of the trained; `arms` are
    the training sets by which prompts are split (default: the model's own). `side` is the pictures' in pixels (default:
    the model's own).
    """
    benchmark, held = setting.benchmark, setting.data.own_captions()

    def images(prompts: Asked, copies: int) -> Generate:
        call = sampling or setting.sampling
        return Generate(
            model=model, prompts=prompts, sampling=call, copies=copies, seed=benchmark.seed, tuned=tuned, side=side
        )

    if held is None:
        return verdicts(setting, images(prompts(setting), benchmark.copies))
    quality = _quality(setting, images(held, 1))
    ends: list[Step] = [quality]
    own = _subset_of(model)
    if own is not None:
        vae = setting.components.weights("vae")
        ends.append(Copies(images=quality.images, subset=own, vae=vae, share=held.share))
    if not setting.benchmark.has_judge:
        return tuple(ends)
    judge = _judge(setting, images(prompts(setting), benchmark.copies))
    if split_by := tuple(part for part in (arms or (own,)) if part is not None):
        assert isinstance(judge.prompts, Step)  # own data's
        ends.append(SplitPrompts(prompts=judge.prompts, arms=split_by))
    return (judge, *ends)


def judged_alone(setting: Setting, model: Step, asked: Asked) -> tuple[Judge]:
    """Verdicts on the model's pictures of other prompts than the benchmark's."""
    copies, seed = setting.benchmark.copies, setting.benchmark.seed
    images = Generate(model=model, prompts=asked, sampling=setting.sampling, copies=copies, seed=seed)
    return judged_drawn(setting, images, asked)


def judged_drawn(setting: Setting, images: Step, asked: Asked) -> tuple[Judge]:
    """Verdicts alone on pictures of these prompts."""
    return (Judge(images=images, prompts=asked, copies=setting.benchmark.copies, judges=judges(setting)),)


def copies(setting: Setting, model: Step, judge: Step) -> tuple[NearestPictures, ...]:
    """How near the judged pictures are to those that the model was trained on; of one's own data `judged` tells it."""
    training = _training_of(model)
    held = None if training is None else setting.data.set_aside(training.latents.dataset)
    if training is None or held is None:
        return ()
    assert isinstance(judge, Judge)
    latents = replace(training.latents, dataset=held)
    return (NearestPictures(images=judge.images, latents=training.latents, held=latents),)


def verdicts(setting: Setting, images: Step) -> tuple[Judge, Quality]:
    """Verdicts on pictures of the benchmark's prompts, and their quality."""
    return _judge(setting, images), _quality(setting, images)


def _judge(setting: Setting, images: Step) -> Judge:
    return judged_drawn(setting, images, prompts(setting))[0]


def _quality(setting: Setting, images: Step) -> Quality:
    benchmark, clip = setting.benchmark, setting.components.weights("clip")
    reference = DescribeReference(images=setting.data.reference(benchmark), clip=clip, extractor=benchmark.extractor)
    return Quality(images=images, reference=reference, clip=clip, extractor=benchmark.extractor)


def cannot_mix(setting: Setting) -> str:
    """Why there are no captions of two lengths, which BETTER asks for; empty where there are."""
    is_drawn = isinstance(setting.data, IconData)
    return "" if is_drawn else "captions of two lengths are written in the icon world alone"


def cannot_rank(setting: Setting) -> str:
    """Why no preferences come from verdicts, where the setting's own do; empty where they can."""
    return "" if setting.benchmark.has_judge or setting.preference.source not in ON_POLICY else NO_JUDGE


def prompts(setting: Setting) -> Asked:
    """What models are judged on."""
    latents = encoded(setting, "large", "diverse", 0)
    return setting.data.prompts(setting.benchmark, latents, setting.components.weights("detector"))


def _subset_of(model: Step) -> Subset | None:
    """What the model was trained on, of one's own data."""
    training = _training_of(model)
    return None if training is None else training.subset


def _training_of(model: Step) -> Train | TrainWatched | None:
    while isinstance(model, Prefer):
        model = model.model
    model = model.training if isinstance(model, TakePart) else model
    return model if isinstance(model, Train | TrainWatched) else None


def judges(setting: Setting) -> Judges:
    """Detector and color classifier."""
    return Judges(detector=setting.components.weights("detector"), clip=setting.components.weights("clip"))


def learned(setting: Setting, base: Train, seed: int, count: int) -> Learned:
    """Captions outside the benchmark to learn from, of the base's training set or of all that there are."""
    kind, detector = setting.preference.captions, setting.components.weights("detector")
    captions = setting.data.captions(base.latents, detector, kind, count=count, seed=seed)
    return Learned(captions=captions, benchmark=prompts(setting), count=count, seed=seed)


def preferred(
    setting: Setting,
    base: Train,
    seed: int,
    rounds: Sequence[PreferenceConfig] = (),
    *,
    source: str = "",
    policies: int = 1,
    extrapolation: float = 1.0,
) -> Prefer:
    """The base after preference training on pairs of a source (default: the setting's), one round for each config
    (default: the setting's one). In each further round the model before is sampled anew, and is the reference; drift is
    told from the base all the same."""
    source, rounds = source or setting.preference.source, rounds or (setting.preference.dpo,)
    if len(rounds) > 1 and source not in ON_POLICY:
        raise ValueError(f"{len(rounds)} rounds of the source {source}; only {', '.join(ON_POLICY)} have more than one")
    model: Train | Prefer = base
    for number, config in enumerate(rounds, 1):
        model = Prefer(
            model=model,
            pairs=pairs(setting, base, model, seed, source, number),
            config=replace(config, seed=seed),
            origin=base if number > 1 else None,
            policies=policies,
            extrapolation=extrapolation,
        )
    assert isinstance(model, Prefer)
    return model


def pairs(setting: Setting, base: Train, model: Step, seed: int, source: str, number: int = 1) -> Step:
    """The pairs of a source, for round `number`."""
    preference, dataset = setting.preference, base.latents.dataset
    if base.subset is not None:
        assert isinstance(dataset, TakeDataset)
        dataset = TakeSubset(dataset=dataset, subset=base.subset, images=preference.limit)
    if source == "teacher":
        return TeacherPairs(model=model, dataset=dataset, sampling=setting.sampling, limit=preference.limit, seed=seed)
    if source == "detail":
        vae = setting.components.weights("vae")
        return DetailPairs(dataset=dataset, damages=preference.damages, limit=preference.limit, seed=seed, vae=vae)
    if source == "layout":
        assert isinstance(dataset, DrawIcons)
        return LayoutPairs(dataset=dataset, limit=preference.limit)
    if source not in ON_POLICY:
        raise ValueError(f"no source of pairs {source!r}; valid: verifier, random, teacher, detail, layout")
    samples = Sample(
        model=model,
        learned=learned(setting, base, seed, preference.prompts),
        sampling=setting.sampling,
        judges=judges(setting),
        copies=preference.copies,
        max_copies=preference.max_copies,
        round=number,
    )
    ranked = RankedPairs(
        samples=samples,
        per_prompt=preference.per_prompt,
        min_gap=preference.min_gap,
        per_task=preference.per_task,
    )
    return ShuffledPairs(pairs=ranked, seed=seed) if source == "random" else ranked


def tuned(setting: Setting, base: Train, seed: int) -> TuneGuidance:
    """Guidance chosen by the verifier on captions to learn from."""
    preference = setting.preference
    return TuneGuidance(
        model=base,
        learned=learned(setting, base, seed, preference.guidance_prompts),
        sampling=setting.sampling,
        judges=judges(setting),
        scales=preference.guidance_scales,
        copies=preference.guidance_copies,
    )
