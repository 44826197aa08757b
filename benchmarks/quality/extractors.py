"""The networks that turn images into features, each with the resize that belongs to it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.quality.weights import DINOV2, INCEPTION, KNOWN
from geneval.clip import Clip, is_clip_name, load_clip
from geneval.device import choose_device, without_tf32
from geneval.embedded import CLIPS
from geneval.finite import refuse_not_finite
from geneval.hashes import file_sha256, state_sha256
from geneval.preprocessing import check_picture_sizes
from geneval.weight_files import check_sizes
from geneval.weights import require


@dataclass(frozen=True, kw_only=True)
class Extractor:
    """`prepare` maps a PIL RGB image to a tensor (C, H, W); `forward` a batch of these to features (B, D).

    What can be done to a whole batch at once, as scaling pixels to floats, is done in `forward`.
    """

    name: str
    weights: str
    resize: str
    implementation: str
    prepare: Callable[[Any], Any]
    forward: Callable[[Any], Any]
    device: str

    @property
    def identity(self) -> dict[str, str]:
        """Everything that two sets of features must share to be compared."""
        fields = ("name", "weights", "resize", "implementation")
        return {name: getattr(self, name) for name in fields}

    def __call__(self, images: list):
        """Features (B, D) of prepared images; float32 NumPy. Images of unequal size go through one at a time."""
        import numpy as np
        import torch

        with torch.inference_mode(), without_tf32():
            if len({image.shape for image in images}) == 1:
                batches = [torch.stack(images)]
            else:
                batches = [image[None] for image in images]
            rows = [self.forward(batch.to(self.device)).float().cpu().numpy() for batch in batches]
        return np.concatenate(rows)


def load_extractor(
    source: str | Path, *, name: str | None = None, weights: Path | None = None, device: str = "auto"
) -> Extractor:
    """An extractor by name, or from a folder of open_clip or transformers.

    Names: inception-v3-compat (TensorFlow 1 resize inside the network), inception-v3-compat-clean (Pillow bicubic in
    float before it), clip-ARCHITECTURE[@TAG], dinov2-vitl14, icon-clip. `weights` is another file of the Inception.
    """
    device = choose_device(device)
    if str(source) in ("inception-v3-compat", "inception-v3-compat-clean"):
        return _inception(str(source), weights or require(str(source), INCEPTION), device)
    if is_clip_name(source):
        return clip_extractor(load_clip(source, label=name, device=device))
    if str(source) == "dinov2-vitl14":
        return _transformers(require("dinov2-vitl14", DINOV2).parent, "dinov2-vitl14", device)
    if (Path(source) / "config.json").is_file():
        return _transformers(Path(source), name or Path(source).resolve().name, device)
    raise ValueError(
        f"no extractor {source}; valid: {', '.join((*KNOWN, *CLIPS))}, clip-ARCHITECTURE@TAG, or a model folder"
    )


def clip_extractor(clip: Clip) -> Extractor:
    """The image tower; features are not scaled to unit length."""
    import torch

    # The last two make normalized floats of a picture: a hundred microseconds an image, next to nothing in a batch.
    *geometry, _, normalize = clip.preprocess.transforms
    size = clip.network.visual.preprocess_cfg["size"]
    height, width = (size, size) if isinstance(size, int) else size

    def prepare(image):
        # Resizing and cropping a picture of the right size returns it as it is, slowly.
        for transform in geometry if image.size != (width, height) else ():
            image = transform(image)
        return _pixels(image)

    def forward(pixels):
        floats = pixels.to(torch.float32, memory_format=torch.contiguous_format)
        # A number instead of the tensor would be multiplied by its rounded inverse on a GPU.
        return clip.network.encode_image(normalize(floats / floats.new_tensor(255)))

    return Extractor(
        name=clip.name,
        weights=clip.weights,
        resize=f"open_clip({clip.preprocess.transforms[0]})",
        implementation="open_clip",
        prepare=prepare,
        forward=forward,
        device=clip.device,
    )


def _inception(name: str, weights: Path, device: str) -> Extractor:
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    if not Path(weights).is_file():
        raise FileNotFoundError(f"no Inception weights at {weights}; `python -m benchmarks quality doctor` says where")
    try:
        # The library unpickles this file freely. Reading it in the restricted mode first refuses anything but tensors.
        torch.load(weights, weights_only=True, map_location="cpu")
        network = FeatureExtractorInceptionV3(name, ["2048"], feature_extractor_weights_path=str(weights))
    except Exception as error:
        raise ValueError(f"{weights} does not hold the FID Inception's weights ({error})") from error
    refuse_not_finite(network, weights)
    network.to(device)
    clean = name.endswith("-clean")
    return Extractor(
        name=name,
        weights=file_sha256(weights),
        resize="pillow-bicubic-float-299" if clean else "tensorflow1-bilinear-299",
        implementation="torch-fidelity",
        prepare=_bicubic_299 if clean else _pixels,
        forward=_InceptionFloats(network) if clean else lambda batch: network(batch)[0],
        device=device,
    )


class _InceptionFloats:
    """The Inception network fed with float pixels that are 299 x 299 already (its own resize is then the identity).

    torch-fidelity takes only uint8; clean-fid keeps the resized values unrounded. Splitting the unrounded image into
    what uint8 can carry would change it, so the network's first step is done here and the rest is called as it is.
    """

    def __init__(self, network) -> None:
        self.network = network

    def __call__(self, batch):
        from torch.nn.functional import adaptive_avg_pool2d

        x = (batch - 128) / 128
        for name, layer in self.network.named_children():
            if name == "AvgPool":
                break
            x = layer(x)
        return adaptive_avg_pool2d(x, 1).flatten(1)


def _pixels(image):
    import numpy as np
    import torch

    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _bicubic_299(image):
    """Each channel resized in float by Pillow's antialiased bicubic filter, clipped to 0..255, not rounded."""
    import numpy as np
    import torch
    from PIL import Image

    channels = [np.asarray(channel, dtype=np.float32) for channel in image.split()]
    resized = [Image.fromarray(channel).resize((299, 299), Image.Resampling.BICUBIC) for channel in channels]
    return torch.from_numpy(np.stack([np.asarray(channel) for channel in resized]).clip(0, 255))


def _transformers(folder: Path, name: str, device: str) -> Extractor:
    """A vision model of transformers: its pooled output (DINOv2: the normalized class token), or CLIP's projection."""
    try:
        return _loaded_transformers(folder, name, device)
    except (FileNotFoundError, ValueError):
        raise
    except Exception as error:  # damaged weights and settings raise anything from KeyError to SafetensorError
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ValueError(f"{folder}: transformers cannot load this ({reason})") from None


def _loaded_transformers(folder: Path, name: str, device: str) -> Extractor:
    from transformers import AutoConfig, AutoImageProcessor, AutoModel

    check_sizes(folder)
    check_picture_sizes(folder / "preprocessor_config.json")
    kind = AutoConfig.from_pretrained(folder).model_type
    valid = ("dinov2", "dinov2_with_registers", "vit", "clip_vision_model", "siglip_vision_model", "clip", "siglip")
    if kind not in valid:
        raise ValueError(f"{folder} holds a {kind} model; valid: {', '.join(valid)}")
    network, info = AutoModel.from_pretrained(folder, output_loading_info=True, use_safetensors=True)
    if info["missing_keys"] or info["mismatched_keys"]:
        raise ValueError(f"{folder} is not complete: {len(info['missing_keys'])} tensors are missing")
    refuse_not_finite(network, folder)
    network.to(device).float().eval().requires_grad_(False)
    single = folder / "model.safetensors"
    processor = AutoImageProcessor.from_pretrained(folder)
    return Extractor(
        name=name,
        weights=file_sha256(single) if single.is_file() else state_sha256(network),
        resize=f"{type(processor).__name__}({getattr(processor, 'size', None)})",
        implementation="transformers",
        prepare=lambda image: processor(images=image, return_tensors="pt")["pixel_values"][0],
        forward=_pooled(network, kind),
        device=device,
    )


def _pooled(network, kind: str) -> Callable[[Any], Any]:
    if kind in ("clip", "siglip"):
        return lambda batch: network.get_image_features(pixel_values=batch).pooler_output
    return lambda batch: network(pixel_values=batch).pooler_output
