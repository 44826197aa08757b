"""Record this folder's files: `python tests/golden/lightgen_reference/record.py`.

A smaller model than the released program's recording, in the same form, computed by this project's reference path. It
guards against changes; equality with the release is shown by the same tests on a recording of the release, named by
LIGHTGEN_GOLDEN.
"""

import json
import re
from pathlib import Path

import torch
from safetensors.torch import save_file

from lightgen.model.config import MARConfig, SamplingConfig
from lightgen.model.convert import RELEASED_NAMES, our_name
from lightgen.model.mar import MAR
from lightgen.model.masking import Draws, mask_layout
from lightgen.model.released import PATHS
from lightgen.model.sampling import generate_from_draws

HERE = Path(__file__).parent
SETTINGS = {
    "width": 16,
    "depth": 1,
    "heads": 2,
    "text_depth": 1,
    "caption_channels": 16,
    "max_length": 6,
    "vae_embed_dim": 4,
    "head_depth": 1,
    "head_width": 16,
    "head_steps": 5,
    "ar_steps": 4,
    "batch": 2,
    "mul": 2,
    "mask_ratio": 0.8,
    "resized_px": 96,
    "samples": [[4.0, "constant", 1.0], [3.0, "linear", 0.9], [1.0, "constant", 1.0]],
}


class RecordingDraws:
    """Random draws that are kept in the order in which the release makes them."""

    def __init__(self, generator: torch.Generator):
        self.generator, self.flat, self.rows = generator, [], []
        self.order = torch.empty(0)

    def orders(self, num_tokens: int) -> torch.Tensor:
        self.order = torch.rand(SETTINGS["batch"], num_tokens, generator=self.generator).argsort(1)
        return self.order

    def normal(self, count: int, num_tokens: int, channels: int) -> torch.Tensor:
        noise = torch.randn(count, SETTINGS["batch"], num_tokens, channels, generator=self.generator)
        self.flat.append(noise.flatten())
        self.rows += [SETTINGS["batch"] * num_tokens] * count
        return noise


def main() -> None:
    generator = torch.Generator().manual_seed(20250311)
    model = random_model(generator)
    tensors = {}
    for name, value in record_case(model, SETTINGS["resized_px"], generator).items():
        tensors[f"resized.{name}"] = value
    names = SETTINGS["param_names"]
    for scale, schedule, temperature in SETTINGS["samples"]:
        prefix = f"sample.cfg{scale}.{schedule}.temp{temperature}"
        for name, value in record_sample(model, tensors, scale, schedule, temperature, generator).items():
            tensors[f"{prefix}.{name}"] = value
    parameters = dict(model.named_parameters())
    save_file({name: parameters[our_name(name)].detach() for name in names}, HERE / "weights.safetensors")
    save_file({name: value.contiguous() for name, value in tensors.items()}, HERE / "tensors.safetensors")
    (HERE / "config.json").write_text(json.dumps(SETTINGS, indent=1) + "\n")


def random_model(generator: torch.Generator) -> MAR:
    depth = SETTINGS["depth"]
    config = MARConfig(
        width=SETTINGS["width"],
        encoder_depth=depth,
        decoder_depth=depth,
        cross_depth=depth,
        heads=SETTINGS["heads"],
        text_depth=SETTINGS["text_depth"],
        text_channels=SETTINGS["caption_channels"],
        max_text_length=SETTINGS["max_length"],
        vae_channels=SETTINGS["vae_embed_dim"],
        head_depth=SETTINGS["head_depth"],
        head_width=SETTINGS["head_width"],
        noise_copies=SETTINGS["mul"],
    )
    model = MAR(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.3 if parameter.ndim == 1 else parameter.shape[-1] ** -0.5
            parameter.add_(torch.randn(parameter.shape, generator=generator) * scale)
    SETTINGS["param_names"] = [released_name(name) for name, _ in model.named_parameters()]
    return model


def released_name(ours: str) -> str:
    for released, prefix in RELEASED_NAMES.items():
        if match := re.match(re.escape(prefix).replace(r"\{\}", r"(\d+)"), ours):
            name = released.format(*match.groups()) + ours[match.end() :]
            if our_name(name) == ours:
                return name
    raise AssertionError(f"{ours} has no released name")


def record_case(model: MAR, pixels: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    config, batch = model.mar_config, SETTINGS["batch"]
    side = pixels // config.token_pixels
    latents = torch.randn(batch, config.vae_channels, pixels // 8, pixels // 8, generator=generator)
    text = torch.randn(batch, config.max_text_length, config.text_channels, generator=generator)
    masked = -int(-(side**2) * SETTINGS["mask_ratio"] // 1)
    mask = torch.rand(batch, side**2, generator=generator).argsort(1) < masked
    rows = (config.noise_copies, batch, side**2)
    timesteps = torch.randint(1000, rows, generator=generator)
    noise = torch.randn(*rows, config.token_dim, generator=generator)
    draws = Draws.of(mask, timesteps, noise, torch.zeros(batch, dtype=torch.bool))
    lengths = torch.full((batch,), config.max_text_length)
    model.zero_grad()
    result = model(latents, text, lengths, draws)
    result.loss.backward()
    parameters = {name: value.grad for name, value in model.named_parameters()}
    gradients = [parameters[our_name(name)] for name in SETTINGS["param_names"]]
    with torch.no_grad():
        grid, layout = (side, side), mask_layout(draws)
        tokens = model.patchify(latents)
        aligned, _ = model.align_text(text, lengths)
        encoded = model.encode(tokens, model.positions(model.encoder_positions, grid), layout)
        decoded = model.decode(encoded, model.positions(model.decoder_positions, grid), layout)
        z = model.cross(decoded, model.positions(model.cross_positions, grid), aligned, None, None)
    return {
        "latents": latents,
        "text": text,
        "mask": mask.float(),
        "timesteps": timesteps.flatten(),
        "noise": noise.flatten(0, 2),
        "tokens": tokens,
        "aligned_text": aligned,
        "encoder_out": encoded,
        "decoder_out": decoded,
        "z": z,
        "loss": result.loss.detach(),
        "mse": result.mse.detach(),
        # The null text takes part in no undropped batch.
        "grad_norms": torch.stack([grad.norm() if grad.any() else torch.tensor(-1.0) for grad in gradients]),
    }


def record_sample(model, tensors, scale, schedule, temperature, generator) -> dict[str, torch.Tensor]:
    side = SETTINGS["resized_px"] // model.mar_config.token_pixels
    config = SamplingConfig(
        num_steps=SETTINGS["ar_steps"],
        num_head_steps=SETTINGS["head_steps"],
        guidance_scale=scale,
        guidance_schedule=schedule,
        temperature=temperature,
    )
    draws = RecordingDraws(generator)
    text = tensors["resized.text"]
    lengths = torch.full((len(text),), text.shape[1])
    latents = generate_from_draws(model, text, lengths, (side, side), config, draws, parts=PATHS["reference"])
    rows = torch.tensor(draws.rows)
    return {"orders": draws.order, "latents": latents, "draws": torch.cat(draws.flat), "draw_rows": rows}


if __name__ == "__main__":
    main()
