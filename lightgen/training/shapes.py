"""What a cache of latents says of the shapes of a model that is trained on it."""

from collections.abc import Collection, Mapping
from typing import Any

from lightgen.model.config import MARConfig, SamplingConfig


def from_latents(
    index: Mapping[str, Any], model: MARConfig, sampling: SamplingConfig, given: Collection[str]
) -> dict[str, Any]:
    """Changes of a preset, by dotted name, without which it could not be trained on a cache with this index.json or
    would generate pictures of another size than the cache's; what was `given` by name is left as it is."""
    found = {
        "model.vae_channels": index["vae"]["channels"],
        "model.vae_stride": index["vae"]["stride"],
        "model.text_channels": index["text"]["channels"],
        "model.max_text_length": max(index["text"]["max_length"], model.max_text_length),
    }
    height, width = index["grid"]
    if height == width and height % model.patch_size == 0:
        side = height // model.patch_size
        found["model.position_grid"] = side
        found["sampling.num_steps"] = min(sampling.num_steps, side**2)
    have = {f"model.{name}": value for name, value in vars(model).items()}
    have["sampling.num_steps"] = sampling.num_steps
    return {name: value for name, value in found.items() if name not in given and have[name] != value}
