"""Equality with the released class: each stage, loss, gradient and whole generation, by the fast and the released path.

The recordings are outputs of the release itself; their READMEs under `tests/golden` say of what.
"""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lightgen.model.config import MARConfig, SamplingConfig
from lightgen.model.convert import our_name
from lightgen.model.diffusion import add_noise, learned_range_loss
from lightgen.model.head import Head
from lightgen.model.mar import MAR
from lightgen.model.masking import mask_layout
from lightgen.model.released import PATHS, reference_loss
from lightgen.model.sampling import generate_from_draws

PARTS = Path(__file__).parents[1] / "golden" / "lightgen_official"
SMALL = PARTS.with_name("lightgen_official_small")


def test_the_recording_of_the_default_run_reaches_both_open_end_bins():
    """The likelihood of the last step is symmetric but for these: without them a wrong sign would not show."""
    tensors = load_file(SMALL / "tensors.safetensors")
    for case, (rows, low, high) in {"native": (94, 158, 179), "resized": (24, 38, 39)}.items():
        tokens, mask = tensors[f"{case}.tokens"].flatten(0, 1), tensors[f"{case}.mask"].flatten().bool()
        last = tensors[f"{case}.timesteps"].view(-1, len(mask)) == 0
        scored = tokens.expand(len(last), *tokens.shape)[last & mask]
        found = (len(scored), int((scored < -0.999).sum()), int((scored > 0.999).sum()))
        assert found == (rows, low, high), case


def test_every_tensor_of_the_trunk_equals_the_recording(golden, relative_error):
    model = golden.model()
    for case in golden.cases:
        tensors = {name.removeprefix(f"{case}."): value for name, value in golden.tensors.items()}
        layout, grid = mask_layout(golden.draws(case)), model.token_grid(tensors["latents"])
        lengths = torch.full((len(tensors["text"]),), tensors["text"].shape[1])
        with torch.no_grad():
            tokens = model.patchify(tensors["latents"])
            aligned, key_mask = model.align_text(tensors["text"], lengths)
            encoded = model.encode(tokens, model.positions(model.encoder_positions, grid), layout)
            decoded = model.decode(encoded, model.positions(model.decoder_positions, grid), layout)
            z = model.cross(decoded, model.positions(model.cross_positions, grid), aligned, key_mask, None)
        assert torch.equal(model.unpatchify(tokens, grid), tensors["latents"])
        found = {"tokens": tokens, "aligned_text": aligned, "encoder_out": encoded, "decoder_out": decoded, "z": z}
        for name, value in found.items():
            assert relative_error(value, tensors[name]) < 2e-5, (case, name)


@pytest.mark.parametrize("path", ["fast", "reference"])
def test_loss_and_every_gradient_equal_the_recording(golden, relative_error, path):
    model = golden.model()
    loss = model if path == "fast" else partial(reference_loss, model)
    parameters = dict(model.named_parameters())
    for case in golden.cases:
        tensors = {name.removeprefix(f"{case}."): value for name, value in golden.tensors.items()}
        lengths = torch.full((len(tensors["text"]),), tensors["text"].shape[1])
        model.zero_grad()
        result = loss(tensors["latents"], tensors["text"], lengths, golden.draws(case))
        result.loss.backward()
        assert relative_error(result.loss.detach(), tensors["loss"]) < 2e-5
        assert relative_error(result.mse.detach(), tensors["mse"]) < 2e-5
        torch.testing.assert_close(result.errors.mean(), result.mse)
        names = golden.settings["param_names"]
        assert len(names) == len(parameters)
        for name, expected in zip(names, tensors["grad_norms"].tolist(), strict=True):
            gradient = parameters[our_name(name)].grad
            if expected < 0:  # the null text, where no caption is dropped
                assert gradient is None or not gradient.any(), name
            else:
                assert float(gradient.norm()) == pytest.approx(expected, rel=1e-4, abs=1e-7), (case, name)


class RecordedDraws:
    """The draws of a recorded generation, given back in the order in which they were made."""

    def __init__(self, tensors, prefix, batch):
        self.order = tensors[f"{prefix}.orders"]
        self.flat, self.rows = tensors[f"{prefix}.draws"], tensors[f"{prefix}.draw_rows"].tolist()
        self.batch = batch

    def orders(self, num_tokens):
        return self.order

    def normal(self, count, num_tokens, channels):
        assert self.rows[:count] == [self.batch * num_tokens] * count
        size = count * self.batch * num_tokens * channels
        taken, self.flat, self.rows = self.flat[:size], self.flat[size:], self.rows[count:]
        return taken.view(count, self.batch, num_tokens, channels)


@pytest.mark.parametrize("path", ["reference", "fast"])
def test_whole_generations_equal_the_recordings(golden, relative_error, path):
    model, settings = golden.model(), golden.settings
    text = golden.tensors["resized.text"]
    lengths = torch.full((len(text),), text.shape[1])
    side = settings["resized_px"] // model.mar_config.token_pixels
    assert settings["samples"]
    for scale, schedule, temperature in settings["samples"]:
        prefix = f"sample.cfg{scale}.{schedule}.temp{temperature}"
        config = SamplingConfig(
            num_steps=settings["ar_steps"],
            num_head_steps=settings["head_steps"],
            guidance_scale=scale,
            guidance_schedule=schedule,
            temperature=temperature,
        )
        draws = RecordedDraws(golden.tensors, prefix, len(text))
        latents = generate_from_draws(model, text, lengths, (side, side), config, draws, parts=PATHS[path])
        assert not draws.rows, "every recorded draw is used"
        assert relative_error(latents, golden.tensors[f"{prefix}.latents"]) < 1e-4, prefix


def test_the_released_heads_loss_and_gradients_are_reproduced():
    settings, tensors = json.loads((PARTS / "head.json").read_text()), load_file(PARTS / "head.safetensors")
    recorded = {name.removeprefix("resized."): value for name, value in tensors.items()}
    channels = recorded["tokens"].shape[-1]
    head = Head(channels, 2 * channels, recorded["z"].shape[-1], settings["head_width"], settings["head_depth"])
    weights = {our_name(name): value for name, value in tensors.items() if name.startswith("diffloss.")}
    head.load_state_dict({name.removeprefix("head."): value for name, value in weights.items()})
    shape = (settings["mul"], *recorded["mask"].shape)
    timesteps, noise = recorded["timesteps"].view(shape), recorded["noise"].view(*shape, channels)
    clean = recorded["tokens"].expand_as(noise)
    prediction = head(add_noise(clean, noise, timesteps), timesteps, recorded["z"].expand(shape[0], -1, -1, -1))
    residual, variational = learned_range_loss(prediction, clean, noise, timesteps)
    squared = residual.square().mean(-1)
    mask = recorded["mask"].expand(shape)
    mse, bound = ((term * mask).sum() / mask.sum() for term in (squared, variational))
    torch.testing.assert_close(mse, recorded["mse"], rtol=2e-5, atol=0)
    torch.testing.assert_close(mse + bound, recorded["loss"], rtol=2e-5, atol=0)
    (mse + bound).backward()
    parameters = dict(head.named_parameters())
    assert len(settings["grad_norms"]) == len(parameters)
    for name, expected in settings["grad_norms"].items():
        gradient = parameters[our_name(name).removeprefix("head.")].grad
        assert float(gradient.norm()) == pytest.approx(expected, rel=1e-4), name


def test_the_released_cross_stack_is_reproduced(relative_error):
    tensors = load_file(PARTS / "cross.safetensors")
    decoded, aligned = tensors.pop("resized.decoder_out"), tensors.pop("resized.aligned_text")
    none = dict.fromkeys(("encoder_depth", "decoder_depth", "text_depth", "head_depth"), 0)
    model = MAR(MARConfig(width=64, cross_depth=2, heads=4, **none)).eval()
    weights = {our_name(name): value for name, value in tensors.items()}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected and not any(name.startswith("cross_") for name in missing)
    with torch.no_grad():
        z = model.cross(decoded, model.positions(model.cross_positions, (8, 8)), aligned, None, None)
    assert relative_error(z, load_file(PARTS / "head.safetensors")["resized.z"]) < 2e-5


@pytest.mark.parametrize(
    ("width", "depth", "heads", "thousands"), [(768, 12, 12, 406689), (1024, 16, 16, 792244), (1280, 20, 16, 1414206)]
)
def test_released_sizes_have_the_published_parameter_counts(width, depth, heads, thousands):
    sizes = {"width": width, "encoder_depth": depth, "decoder_depth": depth, "cross_depth": depth, "heads": heads}
    with torch.device("meta"):
        model = MAR(MARConfig(**sizes))
    assert round(model.num_parameters() / 1000) == thousands
