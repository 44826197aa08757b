"""Tiny real parts for tests: a VAE, a T5 encoder with its tokenizer, and a data set of colored squares."""

from pathlib import Path
from types import SimpleNamespace

import torch
from PIL import Image

from lightgen.model.config import MARConfig, SamplingConfig

COLORS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (30, 60, 220), "white": (240, 240, 240)}
MODEL = MARConfig(
    width=16,
    encoder_depth=1,
    decoder_depth=1,
    cross_depth=1,
    heads=2,
    text_depth=1,
    text_channels=8,
    max_text_length=12,
    vae_channels=2,
    vae_stride=4,
    patch_size=2,
    position_grid=2,
    head_depth=1,
    head_width=16,
    diffusion_steps=100,
    attend_to_padding=False,
)


def build(root: Path) -> SimpleNamespace:
    """Folders vae, text_encoder, dataset (40 images of 16 px, 4 captions) and latents; configs of a small model."""
    from lightgen.data.config import EncodeConfig
    from lightgen.data.encoding import encode_dataset
    from lightgen.model.encoders import ImageTokenizer, TextEncoder

    vae, text = make_vae(root / "vae"), make_text_encoder(root / "text")
    dataset = make_dataset(root / "dataset")
    encoders = {"tokenizer": ImageTokenizer.from_pretrained(vae), "text": TextEncoder.from_pretrained(text, 12)}
    encode_dataset(dataset, root / "latents", EncodeConfig(dtype="float32", once=True), **encoders)
    return SimpleNamespace(
        vae=vae,
        text_encoder=text,
        dataset=dataset,
        latents=root / "latents",
        model=MODEL,
        sampling=SamplingConfig(num_steps=2, num_head_steps=2),
    )


def make_vae(folder: Path) -> Path:
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(4, 4, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=2,
        norm_num_groups=2,
        mid_block_add_attention=False,
        scaling_factor=1.3,
        shift_factor=0.1,
    )
    vae.save_pretrained(folder)
    return folder


def make_text_encoder(folder: Path) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    words = ["<pad>", "</s>", "<unk>", "a", "big", "square", *COLORS]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    marks = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks).save_pretrained(folder)
    torch.manual_seed(1)
    sizes = {"vocab_size": len(words), "d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    T5EncoderModel(T5Config(**sizes, feed_forward_proj="gated-gelu")).save_pretrained(folder)
    return folder


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
