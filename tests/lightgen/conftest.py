"""Recorded outputs of LightGen, and the model they belong to; a small trained pipeline and pairs for it.

`LIGHTGEN_GOLDEN` names a folder with outputs of the released program; without it the small set under
`tests/golden/lightgen_reference` of the same form is read.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import ImageOps
from safetensors.torch import load_file
from torch import Tensor

from lightgen.data.shards import read_shards
from lightgen.model.convert import build_model, infer_config
from lightgen.model.mar import MAR
from lightgen.model.masking import Draws
from lightgen.preference.pairs import Pair, write_pairs
from lightgen.training.config import TrainConfig
from lightgen.training.train import train
from tests.lightgen import squares

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


@pytest.fixture(scope="session")
def vae_folder(tmp_path_factory) -> Path:
    """A randomly initialized VAE in Stable Diffusion 3.5's format: 16 channels, stride 8, a shift, no quant conv."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=4,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    folder = tmp_path_factory.mktemp("parts") / "vae"
    vae.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory) -> Path:
    """A randomly initialized T5 encoder in flan-t5's format with a small word tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    words = ["<pad>", "</s>", "<unk>", "a", "photo", "of", "the", "red", "bench", "dog", "two", "dogs", "on", "left"]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=128
    )
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(words),
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )
    folder = tmp_path_factory.mktemp("parts") / "text_encoder"
    T5EncoderModel(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return squares.build(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def base(tiny, tmp_path_factory):
    """A model folder after a little training."""
    out = tmp_path_factory.mktemp("base")
    config = TrainConfig(samples_seen=3200, batch_size=32, learning_rate=5e-3, warmup_steps=5, ema_decay=0.9)
    components = {"vae": tiny.vae, "text_encoder": tiny.text_encoder, "sampling": tiny.sampling}
    train(config, tiny.model, tiny.latents, out, **components)
    return out / "model"


@pytest.fixture(scope="session")
def pairs(tiny, tmp_path_factory):
    """A square against its negative."""
    out = tmp_path_factory.mktemp("pairs")
    images = {}
    for sample in read_shards(tiny.dataset):
        images.setdefault(sample.prompt, sample.image)
    prompts = list(images)
    listed = []
    for number, prompt in enumerate(prompts * 4):
        chosen, rejected = images[prompt].copy(), ImageOps.invert(images[prompt])
        for image, name in ((chosen, "w"), (rejected, "l")):
            image.putpixel((0, 0), (number, 0, 0))
            image.save(out / f"{number}{name}.png")
        names = {"chosen": out / f"{number}w.png", "rejected": out / f"{number}l.png"}
        listed.append(Pair(prompt=prompt, **names, scores=(1.0, 0.0)))
    return write_pairs(listed, out / "pairs.jsonl")
