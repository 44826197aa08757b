"""`LightGenPipeline`: prompts to images with the diffusers interface."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from lightgen.device import choose_device, require_bf16
from lightgen.disk.config import from_dict, override
from lightgen.disk.json_files import read_object
from lightgen.model.config import SamplingConfig
from lightgen.model.encoders import ImageTokenizer, TextEncoder, load_tokenizer, to_images
from lightgen.model.loading import LOADERS, Dtypes, device_map_of, load_options, one_dtype
from lightgen.model.mar import MAR
from lightgen.model.sampling import generate_latents

OUTPUT_TYPES = ("pil", "pt", "np", "latent")
MAX_SIDE = 4096  # pixels: 65,536 tokens of 16 px, sixty-four times the released 512 px


def hasten(pipeline: Any) -> None:
    """Trunk and head of a LightGen pipeline in bf16, in place; another pipeline is left as it is.

    Solver, guidance, draws and VAE stay float32. ValueError for a device without bf16.
    """
    if isinstance(pipeline, LightGenPipeline):
        require_bf16(pipeline.transformer.device)
        pipeline.transformer.to(torch.bfloat16)


@dataclass
class LightGenOutput(BaseOutput):
    """The images of a call: PIL images, an array for the output type `np`, a tensor for `pt` and `latent`."""

    images: list[Image.Image] | Tensor | np.ndarray


class LightGenPipeline(DiffusionPipeline):
    """Text to image: prompts are encoded, the masked autoregressive model makes latents, the VAE decodes them.

    `sampling` holds the defaults of a call; they are saved with the pipeline.
    """

    model_cpu_offload_seq = "text_encoder->transformer->vae"  # type: ignore[assignment]
    _callback_tensor_inputs = ("tokens",)

    def __init__(
        self,
        vae: Any,
        text_encoder: Any,
        tokenizer: PreTrainedTokenizerBase,
        transformer: MAR,
        sampling: dict[str, Any] | SamplingConfig | None = None,
    ):
        super().__init__()
        defaults = sampling if isinstance(sampling, SamplingConfig) else from_dict(SamplingConfig, sampling or {})
        self.register_modules(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, transformer=transformer)
        self.register_to_config(sampling=asdict(defaults))
        tokenizer_channels, wanted = ImageTokenizer(vae).channels, transformer.mar_config.vae_channels
        if tokenizer_channels != wanted:
            raise ValueError(f"the VAE's latents have {tokenizer_channels} channels, the model was made for {wanted}")
        if text_encoder.config.hidden_size != transformer.mar_config.text_channels:
            raise ValueError(
                f"the text encoder's features have {text_encoder.config.hidden_size} channels, "
                f"the model was made for {transformer.mar_config.text_channels}"
            )

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        folder: str | Path,
        *,
        dtype: Dtypes = None,
        torch_dtype: Dtypes = None,
        variant: str | None = None,
        device_map: str | Mapping[str, str] | None = None,
        **given: Any,
    ) -> Self:
        """The pipeline saved in a local folder, every part complete; `given` parts replace the folder's.

        `dtype` (torch_dtype is its old name) is one type or a mapping of parts' names and "default"; `variant` the
        weights saved under that name; `device_map` a device, a mapping of parts' names to devices, or "balanced".
        """
        folder = Path(folder)
        if not (folder / "model_index.json").is_file():
            raise FileNotFoundError(f"{folder} is no complete pipeline folder (no model_index.json); save it again")
        valid = (*LOADERS, "tokenizer", "sampling")
        if unknown := sorted(set(given) - set(valid)):
            options = "dtype, torch_dtype, variant, device_map"
            raise ValueError(f"unknown argument {', '.join(unknown)}; valid: {', '.join(valid)}, {options}")
        options_of = load_options(folder, one_dtype(dtype, torch_dtype), variant)
        parts = dict(given)
        for name, load in LOADERS.items():
            if name not in parts:
                parts[name] = load(folder / name, **options_of[name])
        if "tokenizer" not in parts:
            parts["tokenizer"] = load_tokenizer(folder / "tokenizer")
        if "sampling" not in parts:
            parts["sampling"] = read_object(folder / "model_index.json").get("sampling")
        pipeline = cls(**parts)
        return pipeline if device_map is None else pipeline._placed(device_map)

    @property
    def components(self) -> dict[str, Any]:
        """What the constructor takes: `LightGenPipeline(**pipeline.components)` is the same pipeline."""
        return {**super().components, "sampling": dict(self.config["sampling"])}

    def _placed(self, places: str | Mapping[str, str]) -> Self:
        """Its parts on the devices of a `device_map`."""
        placed = device_map_of(places)
        for name, place in placed.items():
            self.components[name].to(choose_device(place))
        self.hf_device_map = placed  # type: ignore[assignment]
        return self

    @property
    def sampling(self) -> SamplingConfig:
        """The defaults of a call."""
        return from_dict(SamplingConfig, self.config["sampling"])

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        callback_on_step_end: Callable[[Any, int, int, dict[str, Tensor]], Any] | None = None,
        return_dict: bool = True,
        **sampling: Any,
    ) -> LightGenOutput | tuple:
        """Images of each prompt, `num_images_per_prompt` in a row; sizes in pixels, None = the pipeline's default.

        `sampling` are fields of `SamplingConfig` as guidance_scale or solver, None = the pipeline's; num_steps, the
        autoregressive steps, is also `num_inference_steps`, as in diffusers. A list of generators, one an image, gives
        each image its own draws, equal to making it alone; one generator seeds a generator for each image in turn.
        `latents` (B, C, H / stride, W / stride), standard normal, is the noise that tokens are made from instead of
        theirs. `output_type`: pil, pt (B, 3, H, W in [0, 1]), np (B, H, W, 3) or latent.
        `callback_on_step_end(pipeline, step, step, {"tokens": ...})` after a step.
        ValueError for sizes, settings and generators that do not fit.
        """
        prompts = self._prompts(prompt, num_images_per_prompt)
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type is {output_type!r}; valid: {', '.join(OUTPUT_TYPES)}")
        grid = self._grid(height, width)
        config = override(self.sampling, {name: value for name, value in sampling.items() if value is not None})
        if num_inference_steps is not None:
            config = replace(config, num_steps=num_inference_steps)
        generators = self._generators(generator, len(prompts))
        self._check_noise(latents, len(prompts), grid)
        features, lengths = self._encode(prompts)
        with self.progress_bar(total=config.num_steps) as bar:

            def after_step(step: int, tokens: Tensor) -> None:
                bar.update()
                if callback_on_step_end is not None:
                    callback_on_step_end(self, step, step, {"tokens": tokens})

            made = generate_latents(
                self.transformer, features, lengths, grid, config, generators, start=latents, on_step=after_step
            )
        images = self._decode(made, output_type)
        self.maybe_free_model_hooks()
        return LightGenOutput(images=images) if return_dict else (images,)

    def _encode(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Features (B, L, D) and true lengths (B,) on the transformer's device; equal prompts are encoded once."""
        config, unique = self.transformer.mar_config, list(dict.fromkeys(prompts))
        encoder = TextEncoder(self.text_encoder, self.tokenizer, config.max_text_length)
        features, lengths = encoder(unique, pad=config.attend_to_padding)
        rows = torch.tensor([unique.index(text) for text in prompts]).to(features.device)
        device = self._execution_device if self.hf_device_map is None else self.transformer.device
        return features[rows].to(device), lengths[rows].to(device)

    def _check_noise(self, latents: Tensor | None, count: int, grid: tuple[int, int]) -> None:
        config = self.transformer.mar_config
        shape = (count, config.vae_channels, *(side * config.patch_size for side in grid))
        if latents is not None and tuple(latents.shape) != shape:
            raise ValueError(f"latents are of shape {tuple(latents.shape)}, {count} images of this size need {shape}")

    def _decode(self, latents: Tensor, output_type: str) -> list[Image.Image] | Tensor | np.ndarray:
        if output_type == "latent":
            return latents
        tokenizer = ImageTokenizer(self.vae)
        # One image at a time bounds the decoder's memory and keeps an image independent of its batch.
        pixels = torch.cat([tokenizer.decode_tensor(latent) for latent in latents.split(1)])
        if output_type == "np":
            return pixels.permute(0, 2, 3, 1).cpu().numpy()
        return to_images(pixels) if output_type == "pil" else pixels

    def _prompts(self, prompt: str | Sequence[str], copies: int) -> list[str]:
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        if not prompts:
            raise ValueError("no prompts; give at least one")
        if not all(isinstance(text, str) for text in prompts):
            raise ValueError("every prompt must be a string")
        if copies < 1:
            raise ValueError(f"num_images_per_prompt is {copies}, must be at least 1")
        return [text for text in prompts for _ in range(copies)]

    def _grid(self, height: int | None, width: int | None) -> tuple[int, int]:
        """(h, w) tokens of an image of the given pixels; the position tables' own grid by default."""
        config = self.transformer.mar_config
        default = config.position_grid * config.token_pixels
        height, width = default if height is None else height, default if width is None else width
        pixels = config.token_pixels
        if height < pixels or width < pixels or height % pixels or width % pixels:
            raise ValueError(f"images of {height}x{width} pixels do not divide into tokens of {pixels}x{pixels} pixels")
        if max(height, width) > MAX_SIDE:
            raise ValueError(f"images of {height}x{width} pixels: a side may have {MAX_SIDE:,} at most")
        return height // pixels, width // pixels

    def _generators(
        self, generator: torch.Generator | Sequence[torch.Generator] | None, count: int
    ) -> list[torch.Generator]:
        if isinstance(generator, Sequence):
            if len(generator) != count:
                raise ValueError(f"{len(generator)} generators for {count} images; give one for each image, or one")
            return list(generator)
        if count == 1 and generator is not None:
            return [generator]
        seeds = torch.randint(2**62, (count,), generator=generator, device=generator.device if generator else None)
        return [torch.Generator().manual_seed(seed) for seed in seeds.tolist()]
