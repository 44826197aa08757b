"""Recorded outputs of LightGen, and the model they belong to.

`LIGHTGEN_GOLDEN` names a folder with outputs of the released program; without it the small set under
`tests/golden/lightgen_reference` of the same form is read.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from lightgen.convert import build_model, infer_config
from lightgen.mar import MAR
from lightgen.masking import Draws

GOLDEN = Path(__file__).parents[1] / "golden"


@dataclass(frozen=True)
class Golden:
    settings: dict
    weights: dict[str, Tensor]  # released names
    tensors: dict[str, Tensor]

    @property
    def cases(self) -> list[str]:
        """native (16x16 tokens), resized, or both."""
        return sorted({name.split(".")[0] for name in self.tensors} - {"sample"})

    def model(self) -> MAR:
        settings = self.settings
        config = infer_config(
            self.weights, heads=settings["heads"], patch_size=2, max_text_length=settings["max_length"]
        )
        return build_model(self.weights, config)

    def draws(self, case: str) -> Draws:
        mask = self.tensors[f"{case}.mask"].bool()
        shape = (self.settings["mul"], *mask.shape)
        timesteps, noise = self.tensors[f"{case}.timesteps"].view(shape), self.tensors[f"{case}.noise"]
        dropped = torch.zeros(len(mask), dtype=torch.bool)
        return Draws.of(mask, timesteps, noise.view(*shape, -1), dropped)


@pytest.fixture(scope="session")
def golden() -> Golden:
    folder = Path(os.environ.get("LIGHTGEN_GOLDEN", GOLDEN / "lightgen_reference"))
    return Golden(
        json.loads((folder / "config.json").read_text()),
        load_file(folder / "weights.safetensors"),
        load_file(folder / "tensors.safetensors"),
    )


@pytest.fixture
def relative_error():
    """The largest deviation from the expected tensor, relative to its largest magnitude."""

    def error(found: Tensor, expected: Tensor) -> float:
        assert found.shape == expected.shape
        return float((found.float() - expected).abs().max() / expected.abs().max())

    return error
