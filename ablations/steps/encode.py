"""The step that encodes a data set once: images to VAE moments, captions to text features."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ablations.runner.step import Facts, Folder, Step, Work
from lightgen.disk.json_files import read_json

if TYPE_CHECKING:
    import numpy as np

VENDI_CAPTIONS, VENDI_BATCH = 2000, 256


@dataclass(frozen=True, kw_only=True)
class Encode(Step):
    """latents/: VAE moments and text features; measures how diverse the captions' features are."""

    resumable: ClassVar[bool] = True
    is_slow: ClassVar[bool] = True
    parts: ClassVar[tuple[str, ...]] = ("encode",)
    dataset: Step
    vae: Folder
    text: Folder
    max_text_length: int
    keep_padding: bool = False
    flips: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"  # of stored moments and features
    once: bool = True  # each caption encoded once in the whole set, not once a shard

    def encode(self, work: Work) -> tuple[Any, Any]:
        """The cache, or a process's share of it; returns its index, if it is whole, and the text encoder."""
        from lightgen.data.config import EncodeConfig
        from lightgen.data.encoding import encode_dataset
        from lightgen.device import choose_device
        from lightgen.model.encoders import ImageTokenizer, TextEncoder

        device = choose_device(work.runtime.device)
        text = TextEncoder.from_pretrained(self.text.location, self.max_text_length).to(device)
        tokenizer = ImageTokenizer.from_pretrained(self.vae.location).to(device)
        index = encode_dataset(
            work.made(self.dataset) / "dataset",
            work.out / "latents",
            EncodeConfig(
                keep_padding=self.keep_padding,
                flips=self.flips,
                dtype=self.dtype,
                once=self.once,
                batch_size=work.runtime.encode_batch,
            ),
            tokenizer=tokenizer,
            text=text,
            shard=work.shard,
            progress=work.tick,
        )
        return index, text

    def run(self, work: Work) -> Facts:
        index, text = self.encode(work)
        assert index is not None  # one process has no others to wait for
        found = {"identity": index["identity"]}
        made = work.made(self.dataset)
        if (made / "captions.json").is_file():  # of a set that is trained on as a whole
            found["vendi_text"] = _vendi(read_json(made / "captions.json"), text)
        return found


def _vendi(captions: Sequence[str], text: Any) -> float:
    """The Vendi score of the centered mean text features of some captions, as often as the data set shows them."""
    import numpy as np

    from benchmarks.quality.manifold import vendi

    # Drawn, not taken in steps: data sets turn through the tasks, and a step could meet the same few again and again.
    prompts = random.Random(0).sample(list(captions), min(VENDI_CAPTIONS, len(captions)))
    unique = sorted(set(prompts))
    means = np.concatenate([_means(text, unique[i : i + VENDI_BATCH]) for i in range(0, len(unique), VENDI_BATCH)])
    means = means - means.mean(0)  # what all captions share ("a photo of") would make every pair look alike
    return float(vendi(means[[unique.index(prompt) for prompt in prompts]]))


def _means(text: Any, captions: Sequence[str]) -> np.ndarray:
    """The mean features (B, channels) of captions, padding left out, computed where the encoder lies."""
    import torch

    features, lengths = text(captions)
    lengths = lengths.to(features.device)
    inside = torch.arange(features.shape[1], device=features.device) < lengths[:, None]
    return ((features.float() * inside[..., None]).sum(1) / lengths[:, None]).cpu().numpy()
