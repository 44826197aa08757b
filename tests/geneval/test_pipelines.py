"""Pipeline folders of every family, tiny and random: loaded, generated from, resumed as a user would do it."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from geneval.__main__ import generate
from geneval.layout import read_layout, sample_path
from geneval.prompts import prompt_suite, write_prompts

pytestmark = pytest.mark.slow
ICONS = Path(__file__).parents[2] / "ablations" / "icons" / "components"
PROMPTS = prompt_suite(["cat", "dog"], num_prompts=1)[:2]
NUM_TOKENS = 96


def _clip(folder):
    """A CLIP tokenizer of single characters and its text configuration."""
    from transformers import CLIPTextConfig, CLIPTokenizer

    vocabulary = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *vocabulary, *(f"{c}</w>" for c in vocabulary)]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)
    config = CLIPTextConfig(
        vocab_size=len(tokens), hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        projection_dim=32, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    return tokenizer, config


def _t5():
    from transformers import AutoTokenizer, T5Config, T5EncoderModel

    tokenizer = AutoTokenizer.from_pretrained(ICONS / "text")
    config = T5Config(vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    return tokenizer, T5EncoderModel(config)


def _vae(channels):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=[32, 64], down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2, latent_channels=channels, sample_size=16,
        shift_factor=0.0, use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip


def _unet(**given):
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        block_out_channels=(32, 64), layers_per_block=1, sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **given,
    )  # fmt: skip


def stable_diffusion(folder):
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    from transformers import CLIPTextModel

    tokenizer, config = _clip(folder)
    return StableDiffusionPipeline(
        vae=_vae(4), text_encoder=CLIPTextModel(config), tokenizer=tokenizer, unet=_unet(cross_attention_dim=32),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False), safety_checker=None, feature_extractor=None,
    )  # fmt: skip


def stable_diffusion_xl(folder):
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    tokenizer, config = _clip(folder)
    unet = _unet(
        cross_attention_dim=64, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 32,
    )  # fmt: skip
    return StableDiffusionXLPipeline(
        vae=_vae(4), text_encoder=CLIPTextModel(config), text_encoder_2=CLIPTextModelWithProjection(config),
        tokenizer=tokenizer, tokenizer_2=tokenizer, unet=unet, scheduler=EulerDiscreteScheduler(),
        add_watermarker=False,
    )  # fmt: skip


def stable_diffusion_3(folder):
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
    from transformers import CLIPTextModelWithProjection

    tokenizer, config = _clip(folder)
    t5_tokenizer, t5 = _t5()
    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=1, in_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=64, caption_projection_dim=32, pooled_projection_dim=64, out_channels=4,
    )  # fmt: skip
    t5_wide = type(t5)(type(t5.config)(**t5.config.to_dict() | {"d_model": 64}))
    return StableDiffusion3Pipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(), vae=_vae(4),
        text_encoder=CLIPTextModelWithProjection(config), tokenizer=tokenizer,
        text_encoder_2=CLIPTextModelWithProjection(config), tokenizer_2=tokenizer,
        text_encoder_3=t5_wide, tokenizer_3=t5_tokenizer,
    )  # fmt: skip


def flux(folder):
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextModel

    tokenizer, config = _clip(folder)
    t5_tokenizer, t5 = _t5()
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 4, 8), guidance_embeds=True,
    )  # fmt: skip
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(), vae=_vae(4), text_encoder=CLIPTextModel(config),
        tokenizer=tokenizer, text_encoder_2=t5, tokenizer_2=t5_tokenizer, transformer=transformer,
    )  # fmt: skip


def lightgen(folder):
    from diffusers import AutoencoderKL
    from transformers import AutoTokenizer, T5EncoderModel

    from lightgen.model.config import MARConfig, SamplingConfig
    from lightgen.model.mar import MAR
    from lightgen.model.pipeline import LightGenPipeline

    vae = AutoencoderKL.from_pretrained(ICONS / "vae", use_safetensors=True)
    text = T5EncoderModel.from_pretrained(ICONS / "text", use_safetensors=True)
    config = MARConfig(
        width=16, encoder_depth=1, decoder_depth=1, cross_depth=1, heads=2, text_depth=1,
        text_channels=text.config.d_model, vae_channels=vae.config.latent_channels, position_grid=2, head_depth=1,
        head_width=16, head_objective="flow",
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(ICONS / "text")
    sampling = SamplingConfig(num_steps=2, num_head_steps=2, solver="euler")
    return LightGenPipeline(vae, text, tokenizer, MAR(config), sampling)


class _ModelFolder:
    """A LightGen model that names its components instead of holding them."""

    def __init__(self, pipeline):
        self.pipeline = pipeline

    def save_pretrained(self, folder):
        from lightgen.model.folder import write_model

        parts = {"vae": ICONS / "vae", "text_encoder": ICONS / "text", "sampling": self.pipeline.sampling}
        write_model(self.pipeline.transformer, folder, **parts)


def lightgen_model(folder):
    return _ModelFolder(lightgen(folder))


FAMILIES = (stable_diffusion, stable_diffusion_xl, stable_diffusion_3, flux, lightgen, lightgen_model)


@pytest.fixture(params=FAMILIES, ids=lambda family: family.__name__)
def folder(request, tmp_path):
    torch.manual_seed(0)
    request.param(tmp_path).save_pretrained(tmp_path / "pipeline")
    return tmp_path / "pipeline"


def _pixels(root):
    return {str(path.relative_to(root)): np.asarray(Image.open(path)).astype(int) for path in root.rglob("*.png")}


def _largest_difference(a, b):
    assert a.keys() == b.keys()
    return max(np.abs(a[name] - b[name]).max() for name in a)


def test_a_folder_is_generated_from_and_resumed(folder, tmp_path, request):
    write_prompts(PROMPTS, tmp_path / "prompts")
    size = {} if request.node.callspec.id.startswith("lightgen") else {"size": 16}
    call = {"prompts": tmp_path / "prompts", "copies": 2, "steps": 2, "guidance": 3.0, "device": "cpu", **size}
    with warnings.catch_warnings():
        for kind in (FutureWarning, DeprecationWarning):  # the libraries' own
            warnings.simplefilter("ignore", kind)
        for name, more in (
            ("original", {}),
            ("alone", {"seeding": "image"}),
            ("together", {"seeding": "image", "batch_size": 3}),
        ):
            generate(str(folder), tmp_path / name, **call, **more)
        whole = _pixels(tmp_path / "original")
        assert len(whole) == 4 and {image.shape for image in whole.values()} <= {(16, 16, 3), (32, 32, 3)}
        assert _largest_difference(_pixels(tmp_path / "alone"), _pixels(tmp_path / "together")) <= 1
        sample_path(tmp_path / "original", 1, 1).unlink()
        kept = sample_path(tmp_path / "original", 0, 0).stat().st_mtime_ns
        generate(str(folder), tmp_path / "original", **call)
    assert _largest_difference(_pixels(tmp_path / "original"), whole) == 0
    assert sample_path(tmp_path / "original", 0, 0).stat().st_mtime_ns == kept
    folders, problems = read_layout(tmp_path / "original")
    assert not problems and [f.metadata for f in folders] == [prompt.metadata() for prompt in PROMPTS]
