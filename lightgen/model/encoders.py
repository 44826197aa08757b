"""The frozen parts around the model: the image tokenizer (a diffusers VAE) and the text encoder (a transformers T5)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase, T5EncoderModel
from transformers.utils import logging as transformers_logging

from lightgen.disk.folders import folder_sha256
from lightgen.disk.json_files import read_json

# T5's own state dict names one embedding twice; the encoder keeps both names or one of them.
_TIED_NAMES = {"encoder.embed_tokens.weight", "shared.weight"}


class ImageTokenizer:
    """Images to latents and back, scaled and shifted by the numbers in the VAE's own config."""

    def __init__(self, vae: AutoencoderKL, folder: Path | None = None):
        self.vae = vae
        self.folder = folder  # where it was loaded from

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """The tokenizer of a diffusers `AutoencoderKL` folder."""
        return cls(load_complete(AutoencoderKL, folder), Path(folder))

    @cached_property
    def identity(self) -> str:
        """The SHA-256 of the folder's weights and settings; "" for a tokenizer that came from no folder."""
        return "" if self.folder is None else folder_sha256(self.folder)

    @property
    def channels(self) -> int:
        """Channels of a latent."""
        return self.vae.config["latent_channels"]

    @property
    def stride(self) -> int:
        """Pixels per side of one latent position."""
        return 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    def to(self, device: torch.device) -> Self:
        """Move the VAE."""
        self.vae.to(device)  # type: ignore[arg-type]
        return self

    @torch.no_grad()
    def moments(self, images: Sequence[Image.Image]) -> Tensor:
        """Mean and log variance (B, 2C, h, w), float32 and as the VAE gives them, of images of one size."""
        if not images:
            raise ValueError("no images to encode; give at least one")
        sizes = {image.size for image in images}
        if len(sizes) > 1:
            raise ValueError(f"images of sizes {sorted(sizes)} in one batch; encode one size at a time")
        width, height = sizes.pop()
        if width % self.stride or height % self.stride:
            raise ValueError(f"images of {width}x{height} pixels do not divide by the VAE's stride {self.stride}")
        pixels = np.stack([np.asarray(image.convert("RGB"), dtype=np.float32) for image in images])
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
        return self.vae.encode(x.to(self.vae.device, self.vae.dtype)).latent_dist.parameters.float()

    def latents(self, moments: Tensor, noise: Tensor | None) -> Tensor:
        """Model latents (B, C, h, w) from moments: their mode, or a sample made with standard normal `noise`."""
        return scaled_latents(moments, noise, shift=self.shift, scale=self.scale)

    @property
    def shift(self) -> float:
        """Subtracted from a VAE latent before scaling."""
        return self.vae.config["shift_factor"] or 0.0

    @property
    def scale(self) -> float:
        """Multiplies a shifted VAE latent."""
        return self.vae.config["scaling_factor"]

    def decode(self, latents: Tensor) -> list[Image.Image]:
        """The images of model latents (B, C, h, w)."""
        return to_images(self.decode_tensor(latents))

    @torch.no_grad()
    def decode_tensor(self, latents: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) in [0, 1] of model latents."""
        latents = (latents / self.scale + self.shift).to(self.vae.device, self.vae.dtype)
        return (self.vae.decode(latents, return_dict=False)[0].float() / 2 + 0.5).clamp(0, 1)


def scaled_latents(moments: Tensor, noise: Tensor | None, *, shift: float, scale: float) -> Tensor:
    """`ImageTokenizer.latents` from the two numbers alone, for cached moments."""
    latents, log_variance = moments.float().chunk(2, dim=1)
    if noise is not None:
        # The same bounds as diffusers' DiagonalGaussianDistribution.
        latents = latents + torch.exp(0.5 * log_variance.clamp(-30, 20)) * noise
    return (latents - shift) * scale


def to_images(pixels: Tensor) -> list[Image.Image]:
    """PIL images of pixels (B, 3, H, W) in [0, 1]."""
    array = (pixels * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(image) for image in array]


class TextEncoder:
    """Captions to T5 features at their true length."""

    def __init__(
        self, model: T5EncoderModel, tokenizer: PreTrainedTokenizerBase, max_length: int, folder: Path | None = None
    ):
        self.model = model
        self.tokenizer = tokenizer
        self.max_length = max_length  # positions; longer captions are cut, their last position kept for the end mark
        self.folder = folder  # where it was loaded from
        self.num_truncated = 0  # captions cut since this encoder was made

    @classmethod
    def from_pretrained(cls, folder: str | Path, max_length: int) -> Self:
        """The encoder of a folder with a transformers T5 encoder and its tokenizer."""
        tokenizer = load_tokenizer(folder)
        return cls(load_complete(T5EncoderModel, folder), tokenizer, max_length, Path(folder))

    @cached_property
    def identity(self) -> str:
        """The SHA-256 of the folder's weights, settings and tokenizer; "" where it came from no folder."""
        return "" if self.folder is None else folder_sha256(self.folder)

    def to(self, device: torch.device) -> Self:
        """Move the encoder."""
        self.model.to(device)  # type: ignore[arg-type]
        return self

    @property
    def channels(self) -> int:
        """Width of the features."""
        return self.model.config.d_model

    @torch.no_grad()
    def __call__(self, captions: Sequence[str], *, pad: bool = False) -> tuple[Tensor, Tensor]:
        """Features (B, L, D) float32 and true lengths (B,) with the end mark counted.

        L is the longest length in the batch and positions past a caption's length are zero; with `pad`, L is
        `max_length` and they hold what T5 computes there, as the release caches it.
        """
        if not captions:
            raise ValueError("no captions to encode; give at least one")
        tokens = self.tokenizer(list(captions), truncation=False)["input_ids"]
        self.num_truncated += sum(len(row) > self.max_length for row in tokens)
        batch = self.tokenizer(
            list(captions),
            truncation=True,
            max_length=self.max_length,
            padding="max_length" if pad else "longest",
            return_tensors="pt",
        )
        ids, mask = batch["input_ids"].to(self.model.device), batch["attention_mask"].to(self.model.device)
        features = self.model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        if not pad:
            features = features * mask[..., None]
        return features, mask.sum(1)


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer in `folder`, or beside it as a pipeline's text encoder has it; nothing is fetched."""
    folder = Path(folder)
    places = [place for place in (folder, folder.parent / "tokenizer") if _has_tokenizer(place)]
    if not places:
        raise FileNotFoundError(f"{folder} holds neither tokenizer.json nor spiece.model; give a complete T5 folder")
    return AutoTokenizer.from_pretrained(places[0], local_files_only=True)


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("tokenizer.json", "spiece.model"))


def load_complete(cls: type, folder: str | Path, **options: Any) -> Any:
    """A diffusers or transformers model of class `cls` from `folder`, in evaluation mode.

    Every parameter must come from the folder and every tensor in it must be used: otherwise a wrong or torn folder
    would give a partly random model without an error.
    """
    folder = Path(folder)
    _refuse_torn(folder)
    try:
        with quiet():
            model, info = cls.from_pretrained(  # type: ignore[attr-defined]
                folder, use_safetensors=True, local_files_only=True, output_loading_info=True, **options
            )
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} is not a {cls.__name__} folder that can be loaded: {error}") from error
    problems = []
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted({str(name) for name in info.get(kind, ())} - _TIED_NAMES)
        if names:
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            problems.append(f"{kind.split('_')[0]}: {shown}")
    if problems:
        raise ValueError(f"{folder} does not fit {cls.__name__}: {'; '.join(problems)}; give the matching folder")
    return model.eval()


@contextmanager
def quiet() -> Iterator[None]:
    """Within the block transformers shows no progress: it would print one bar for each small part."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _refuse_torn(folder: Path) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; give a local model folder (nothing is downloaded)")
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} lacks config.json: half-written, or not a model folder")
    for index in folder.glob("*.safetensors.index.json"):
        shards = set(read_json(index)["weight_map"].values())
        absent = sorted(name for name in shards if not (folder / name).is_file())
        if absent:
            raise FileNotFoundError(f"{folder} lacks {', '.join(absent)}: fetch or copy the missing weight files")
        return
    if not any(folder.glob("*.safetensors")):
        raise FileNotFoundError(f"{folder} holds no .safetensors file: half-written, or weights of another format")
