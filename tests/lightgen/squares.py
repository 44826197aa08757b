"""A data set of colored squares for tests, and the VAE and T5 encoder of the regression check to encode it with."""

from pathlib import Path
from types import SimpleNamespace

from PIL import Image

from benchmarks.regression.components import TEXT_CHANNELS, VAE_STRIDE, write_text_encoder, write_vae
from lightgen.model.config import MARConfig, SamplingConfig

COLORS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (30, 60, 220), "yellow": (230, 220, 30)}
MODEL = MARConfig(
    width=16,
    encoder_depth=1,
    decoder_depth=1,
    cross_depth=1,
    heads=2,
    text_depth=1,
    text_channels=TEXT_CHANNELS,
    max_text_length=12,
    vae_channels=3,
    vae_stride=VAE_STRIDE,
    patch_size=2,
    position_grid=2,
    head_depth=1,
    head_width=16,
    diffusion_steps=100,
    attend_to_padding=False,
)


def build(root: Path) -> SimpleNamespace:
    """Folders vae, text_encoder, dataset (40 images of 16 px, 4 captions) and latents; configs of a small model."""
    from lightgen.data.latents import encode_dataset
    from lightgen.disk.json_files import read_json, write_json
    from lightgen.model.encoders import ImageTokenizer, TextEncoder

    vae, text = write_vae(root / "vae"), write_text_encoder(root / "text")
    # That VAE has no shift; a wrong one must show here.
    write_json(vae / "config.json", read_json(vae / "config.json") | {"shift_factor": 0.1})
    dataset = make_dataset(root / "dataset")
    encoders = {"tokenizer": ImageTokenizer.from_pretrained(vae), "text": TextEncoder.from_pretrained(text, 12)}
    encode_dataset(dataset, root / "latents", **encoders)
    return SimpleNamespace(
        vae=vae,
        text_encoder=text,
        dataset=dataset,
        latents=root / "latents",
        model=MODEL,
        sampling=SamplingConfig(num_steps=2, num_head_steps=2),
    )


def make_dataset(folder: Path, count: int = 40, shard_size: int = 16) -> Path:
    from lightgen.data.shards import Sample, write_shards

    def squares():
        for index in range(count):
            name = list(COLORS)[index % 4]
            image = Image.new("RGB", (16, 16), (90, 90, 90))
            image.paste(COLORS[name], (2 + index % 3, 2, 10, 10))
            yield Sample(f"{index:08d}", image, {"prompt": f"a {'big ' * (index % 2)}{name} square"})

    write_shards(squares(), folder, shard_size=shard_size)
    return folder
