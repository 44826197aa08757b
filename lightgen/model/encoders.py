"""The frozen parts around the model: the image tokenizer (an autoencoder of diffusers) and the text encoder."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from lightgen.disk.folders import folder_sha256
from lightgen.disk.json_files import read_object
from lightgen.model.families import HEADS, autoencoder_class, family_of, text_class, text_options

# T5's own state dict names one embedding twice; the encoder keeps both names or one of them.
MAX_POSITIONS = 2**16  # of a caption
_TIED_NAMES = {"encoder.embed_tokens.weight", "shared.weight"}


class ImageTokenizer:
    """Images to latents and back, scaled and shifted by the numbers in the autoencoder's own config."""

    def __init__(self, vae: Any, folder: Path | None = None):
        self.vae = vae
        self.family = family_of(vae)
        self.folder = folder  # where it was loaded from

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """The tokenizer of a folder with an autoencoder of diffusers."""
        return cls(load_autoencoder(folder), Path(folder))

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
        return 2 ** (len(self.vae.config[self.family.levels]) - 1)

    def to(self, device: torch.device) -> Self:
        """Move the VAE."""
        self.vae.to(device)
        return self

    @torch.no_grad()
    def moments(self, images: Sequence[Image.Image]) -> Tensor:
        """Mean and log variance (B, 2C, h, w), or the latent (B, C, h, w) of an autoencoder without variance; as it
        gives them but float32, of images of one size."""
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
        return self.family.encode(self.vae, x.to(self.vae.device, self.vae.dtype)).float()

    def latents(self, moments: Tensor, noise: Tensor | None) -> Tensor:
        """Model latents (B, C, h, w) from moments: their mode, or a sample made with standard normal `noise`."""
        return scaled_latents(moments, noise, channels=self.channels, shift=self.shift, scale=self.scale)

    @property
    def shift(self) -> float:
        """Subtracted from a VAE latent before scaling."""
        return self.vae.config.get("shift_factor") or 0.0

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


def scaled_latents(moments: Tensor, noise: Tensor | None, *, channels: int, shift: float, scale: float) -> Tensor:
    """`ImageTokenizer.latents` from its numbers alone, for cached moments."""
    latents, log_variance = moments.float().split_with_sizes([channels, moments.shape[1] - channels], dim=1)
    if noise is not None and log_variance.shape[1]:
        # The same bounds as diffusers' DiagonalGaussianDistribution.
        latents = latents + torch.exp(0.5 * log_variance.clamp(-30, 20)) * noise
    return (latents - shift) * scale


def to_images(pixels: Tensor) -> list[Image.Image]:
    """PIL images of pixels (B, 3, H, W) in [0, 1]."""
    pixels = pixels.cpu()
    if not pixels.isfinite().all():
        raise ValueError("the decoded pixels hold NaN; look for broken weights or an overflow of half precision")
    array = (pixels * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(image) for image in array]


class TextEncoder:
    """Captions to features at their true length: the last hidden state of a text model (see families.py)."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, max_length: int, folder: Path | None = None):
        if not 1 <= max_length <= MAX_POSITIONS:
            raise ValueError(f"{max_length} text positions; give 1 to {MAX_POSITIONS:,}")
        positions = model.config.to_dict().get("max_position_embeddings", max_length)
        if max_length > positions:
            raise ValueError(f"the text encoder reads {positions} positions, not {max_length}; take fewer")
        self.model = model
        self.tokenizer = tokenizer
        self.max_length = max_length  # positions; longer captions are cut, their last position kept for the end mark
        self.folder = folder  # where it was loaded from
        self.num_truncated = 0  # captions cut since this encoder was made

    @classmethod
    def from_pretrained(cls, folder: str | Path, max_length: int) -> Self:
        """The encoder of a folder with a text model of transformers and its tokenizer."""
        tokenizer = load_tokenizer(folder)
        return cls(load_text_model(folder), tokenizer, max_length, Path(folder))

    @cached_property
    def identity(self) -> str:
        """The SHA-256 of the folder's weights, settings and tokenizer; "" where it came from no folder."""
        return "" if self.folder is None else folder_sha256(self.folder)

    def to(self, device: torch.device) -> Self:
        """Move the encoder."""
        self.model.to(device)
        return self

    @property
    def channels(self) -> int:
        """Width of the features."""
        return self.model.config.hidden_size

    @torch.no_grad()
    def __call__(self, captions: Sequence[str], *, pad: bool = False) -> tuple[Tensor, Tensor]:
        """Features (B, L, D) float32 and true lengths (B,) with the end mark counted.

        L is the longest length in the batch and positions past a caption's length are zero; with `pad`, L is
        `max_length` and they hold what the model computes there, as the release caches it.
        """
        if not captions:
            raise ValueError("no captions to encode; give at least one")
        tokens = self.tokenizer(list(captions), truncation=False, verbose=False)["input_ids"]  # counted, not warned of
        if not all(tokens):  # a decoder's tokenizer marks no end: an empty caption is its end mark all the same
            captions = [caption if row else self.tokenizer.eos_token for caption, row in zip(captions, tokens)]
        self.num_truncated += sum(len(row) > self.max_length for row in tokens)
        batch = self.tokenizer(
            list(captions),
            truncation=True,
            max_length=self.max_length,
            padding="max_length" if pad else "longest",
            return_tensors="pt",
        )
        rows = self.model.get_input_embeddings().num_embeddings
        if (largest := int(batch["input_ids"].max())) >= rows:
            where = self.folder or self.tokenizer.name_or_path
            raise ValueError(f"{where}: its tokenizer gives token {largest}, its text model has {rows}; copy it again")
        ids, mask = batch["input_ids"].to(self.model.device), batch["attention_mask"].to(self.model.device)
        features = self.model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        if not pad:
            features = features * mask[..., None]
        return features, mask.sum(1)


def load_autoencoder(folder: str | Path, **options: Any) -> Any:
    """The autoencoder in `folder`, of the class that its config names."""
    _refuse_torn(Path(folder))
    vae = load_complete(autoencoder_class(Path(folder)), folder, **options)
    _try_autoencoder(ImageTokenizer(vae), folder)
    return vae


@torch.no_grad()
def _try_autoencoder(tokenizer: ImageTokenizer, folder: str | Path) -> None:
    """ValueError for one that can be built and not run: some settings are looked at only then. Two positions a side."""
    vae, side = tokenizer.vae, 2 * tokenizer.stride
    if vae.device.type == "meta" or vae.dtype.itemsize == 1:  # nothing to run, or stored narrower than it computes
        return
    try:
        options = {"device": vae.device, "dtype": vae.dtype}
        tokenizer.family.encode(vae, torch.zeros(1, 3, side, side, **options))
        vae.decode(torch.zeros(1, tokenizer.channels, 2, 2, **options))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # anything from TypeError to RuntimeError
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ValueError(f"{folder}: its autoencoder cannot be used ({reason}); copy it again") from None


def load_text_model(folder: str | Path, **options: Any) -> Any:
    """The text model in `folder`, of the class that its config asks for; weights of its head are left out."""
    _refuse_torn(Path(folder))
    cls = text_class(Path(folder))
    return load_complete(cls, folder, ignored=HEADS, **text_options(cls), **options)


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """The fast tokenizer in `folder`, or beside it as a pipeline's text encoder has it; nothing is fetched."""
    folder = Path(folder)
    beside = folder.parent / folder.name.replace("text_encoder", "tokenizer")
    places = [place for place in (folder, beside, folder.parent / "tokenizer") if _has_tokenizer(place)]
    if not places:
        raise FileNotFoundError(f"{folder} holds neither tokenizer.json nor spiece.model; give a complete T5 folder")
    try:
        tokenizer = AutoTokenizer.from_pretrained(places[0], local_files_only=True)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a damaged tokenizer raises anything, the panic of the Rust library too
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ValueError(f"{places[0]} holds no tokenizer that can be loaded ({reason}); copy it again") from None
    tokenizer.padding_side = "right"  # true lengths count from the left
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _has_tokenizer(folder: Path) -> bool:
    names = ("tokenizer.json", "spiece.model", "tokenizer.model", "vocab.json", "vocab.txt")
    return any((folder / name).is_file() for name in names)


def load_complete(cls: type, folder: str | Path, *, ignored: tuple[str, ...] = (), **options: Any) -> Any:
    """A diffusers or transformers model of class `cls` from `folder`, in evaluation mode.

    Every parameter must come from the folder and every tensor in it must be used, but those whose names begin with one
    of `ignored`: otherwise a wrong or torn folder would give a partly random model without an error.
    """
    folder = Path(folder)
    _refuse_torn(folder)
    try:
        with quiet():
            model, info = cls.from_pretrained(  # type: ignore[attr-defined]
                folder, use_safetensors=True, local_files_only=True, output_loading_info=True, **options
            )
    except Exception as error:  # damaged weights and settings raise anything from KeyError to SafetensorError
        reason = f"{type(error).__name__}: {str(error).strip()}".partition("\n")[0]
        raise ValueError(f"{folder} is not a {cls.__name__} folder that can be loaded ({reason})") from None
    problems = []
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted({str(name) for name in info.get(kind, ())} - _TIED_NAMES)
        if kind == "unexpected_keys":
            names = [name for name in names if not name.startswith(ignored)]
        if names:
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            problems.append(f"{kind.split('_')[0]}: {shown}")
    if problems:
        raise ValueError(f"{folder} does not fit {cls.__name__}: {'; '.join(problems)}; give the matching folder")
    refuse_not_finite(model, folder)
    return model.eval()


def refuse_not_finite(model: Any, where: object) -> None:
    """ValueError, which names `where` it came from and the tensor, for a model with a number that is not finite."""
    for name, tensor in model.state_dict().items():
        if tensor.numel() and tensor.is_floating_point() and tensor.device.type != "meta":
            low, high = torch.aminmax(tensor)
            if not (math.isfinite(low.item()) and math.isfinite(high.item())):
                raise ValueError(f"{where}: the weights hold NaN or infinite numbers (in {name}); copy them again")


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
        names = read_object(index, weight_map=dict)["weight_map"].values()
        if not all(isinstance(name, str) for name in names):
            raise ValueError(f"{index}: weight_map: expected names of files")
        absent = sorted(name for name in set(names) if not (folder / name).is_file())
        if absent:
            raise FileNotFoundError(f"{folder} lacks {', '.join(absent)}: fetch or copy the missing weight files")
        return
    if not any(folder.glob("*.safetensors")) and (pickles := [*folder.glob("*.bin"), *folder.glob("*.pt*")]):
        raise ValueError(
            f"{folder} holds its weights as a pickle ({pickles[0].name}), which is not read, as it can run anything: "
            "save them again with safe_serialization=True"
        )
    if not any(folder.glob("*.safetensors")):
        raise FileNotFoundError(f"{folder} holds no .safetensors file: half-written, or weights of another format")
