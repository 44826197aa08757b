"""A VAE and a T5 whose weights follow from this file: exact pooling, and seeded random features."""

from pathlib import Path
from typing import Any

TEXT_CHANNELS = 32
VAE_STRIDE = 4
WORDS = ("a", "photo", "of", "two", "three", "red", "green", "blue", "yellow", "square", "squares")

# A constant that dominates the variance which group normalization divides by: the division is then by a constant.
_ANCHOR = 1000.0
_OFFSET = 20.0  # where SiLU is the identity to float32


def write_vae(folder: Path) -> Path:
    """A diffusers AutoencoderKL that averages 4 x 4 px (encoder) and repeats them (decoder), exactly.

    Eight channels carry red, green, blue, their negatives, and plus and minus the anchor, so the mean that group
    normalization subtracts is zero and the variance is the anchor's. Residual branches are zero.
    """
    import torch
    from diffusers import AutoencoderKL

    vae: Any = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 8),
        layers_per_block=1,
        norm_num_groups=1,
        latent_channels=3,
        mid_block_add_attention=False,
        scaling_factor=1.5,
    )
    with torch.no_grad():
        for tensor in vae.parameters():
            tensor.zero_()
        for module in vae.modules():
            if isinstance(module, torch.nn.GroupNorm):
                module.weight.fill_(1)
        for part in (vae.encoder, vae.decoder):
            _signed_copy(part.conv_in)
            part.conv_norm_out.weight.fill_(_ANCHOR / 2)
            part.conv_norm_out.bias.fill_(_OFFSET)
            _first_three(part.conv_out)
        for block in vae.encoder.down_blocks[:-1]:
            _average(block.downsamplers[0].conv)
        for block in vae.decoder.up_blocks[:-1]:
            _identity(block.upsamplers[0].conv)
        _identity(vae.quant_conv)
        _identity(vae.post_quant_conv)
        # Log variance: a sample is the mean with a tiny, fixed spread.
        vae.encoder.conv_out.bias[3:] = -8
    vae.save_pretrained(folder)
    return folder


def write_text_encoder(folder: Path, seed: int = 0) -> Path:
    """A transformers T5EncoderModel with seeded random weights, and a word-level tokenizer of the captions' words."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # one for each of these small files would be noise
    vocabulary = {word: index for index, word in enumerate(("<pad>", "</s>", "<unk>", *WORDS))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=32
    )
    config = T5Config(
        vocab_size=len(vocabulary),
        d_model=TEXT_CHANNELS,
        d_kv=16,
        d_ff=64,
        num_layers=1,
        num_heads=2,
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=1,
    )
    model = T5EncoderModel(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in sorted(model.named_parameters()):
            if tensor.ndim > 1:  # layer norms stay at one
                scale = 1.0 if "shared" in name or "embed_tokens" in name else tensor.shape[-1] ** -0.5
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * scale)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def _signed_copy(conv) -> None:
    """Inputs in channels 0-2, their negatives in 3-5, the anchor and its negative in 6 and 7."""
    for channel in range(3):
        conv.weight[channel, channel, 1, 1] = 1
        conv.weight[channel + 3, channel, 1, 1] = -1
    conv.bias[6], conv.bias[7] = _ANCHOR, -_ANCHOR


def _average(conv) -> None:
    for channel in range(8):
        conv.weight[channel, channel, :2, :2] = 0.25


def _identity(conv) -> None:
    center = conv.kernel_size[0] // 2
    for channel in range(conv.out_channels):
        conv.weight[channel, channel, center, center] = 1


def _first_three(conv) -> None:
    for channel in range(3):
        conv.weight[channel, channel, 1, 1] = 1
        conv.bias[channel] = -_OFFSET
