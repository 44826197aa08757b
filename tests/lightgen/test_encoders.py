import shutil

import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import T5EncoderModel

from lightgen.disk.folders import folder_sha256
from lightgen.model.encoders import ImageTokenizer, TextEncoder, load_complete


def picture(seed, size=(32, 16)):
    values = torch.randint(0, 256, (size[1], size[0], 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(values.byte().numpy())


def test_moments_are_what_the_vae_gives(vae_folder):
    tokenizer = ImageTokenizer.from_pretrained(vae_folder)
    assert (tokenizer.channels, tokenizer.stride) == (16, 8)
    images = [picture(0), picture(1)]
    moments = tokenizer.moments(images)
    assert moments.shape == (2, 32, 2, 4) and moments.dtype == torch.float32
    torch.testing.assert_close(tokenizer.moments(images[1:])[0], moments[1])
    distribution = tokenizer.vae.encode(torch.zeros(1, 3, 16, 32)).latent_dist
    gray = tokenizer.latents(distribution.parameters, None)
    torch.testing.assert_close(gray, (distribution.mode() - 0.0609) * 1.5305)


def test_sampled_latents_follow_mean_and_variance(vae_folder):
    tokenizer = ImageTokenizer.from_pretrained(vae_folder)
    mean, log_variance = torch.full((1, 16, 2, 2), 0.5), torch.full((1, 16, 2, 2), -2.0)
    moments = torch.cat([mean, log_variance], 1)
    sample = tokenizer.latents(moments, torch.ones_like(mean))
    torch.testing.assert_close(sample, (mean + torch.exp(log_variance / 2) - tokenizer.shift) * tokenizer.scale)


def test_decoding_undoes_scale_and_shift(vae_folder):
    tokenizer = ImageTokenizer.from_pretrained(vae_folder)
    moments = tokenizer.moments([picture(0)])
    with torch.no_grad():
        expected = tokenizer.vae.decode(moments[:, :16]).sample
    found = tokenizer.decode_tensor(tokenizer.latents(moments, None))
    torch.testing.assert_close(found, (expected / 2 + 0.5).clamp(0, 1), rtol=1e-4, atol=1e-5)
    (image,) = tokenizer.decode(tokenizer.latents(moments, None))
    assert image.size == (32, 16) and image.mode == "RGB"


def test_identities_follow_the_folder(vae_folder, text_folder):
    assert ImageTokenizer.from_pretrained(vae_folder).identity == folder_sha256(vae_folder)
    assert TextEncoder.from_pretrained(text_folder, 8).identity == folder_sha256(text_folder)


def test_images_that_do_not_fit_are_refused(vae_folder):
    tokenizer = ImageTokenizer.from_pretrained(vae_folder)
    with pytest.raises(ValueError, match="30x16 pixels do not divide by the VAE's stride 8"):
        tokenizer.moments([picture(0, (30, 16))])
    with pytest.raises(ValueError, match="one size at a time"):
        tokenizer.moments([picture(0), picture(0, (16, 16))])
    with pytest.raises(ValueError, match="no images"):
        tokenizer.moments([])


def test_captions_have_their_true_length_and_do_not_see_each_other(text_folder):
    encoder = TextEncoder.from_pretrained(text_folder, 8)
    captions = ["a photo of a red bench", "", "two dogs"]
    features, lengths = encoder(captions)
    assert features.shape == (3, 7, 16) and lengths.tolist() == [7, 1, 3]
    assert not features[1, 1:].any() and features[1, 0].any(), "an empty caption is its end mark"
    alone, _ = encoder(captions[2:])
    torch.testing.assert_close(features[2, :3], alone[0], rtol=1e-4, atol=1e-5)


def test_padded_features_fill_the_whole_length(text_folder):
    encoder = TextEncoder.from_pretrained(text_folder, 8)
    features, lengths = encoder(["two dogs"], pad=True)
    assert features.shape == (1, 8, 16) and lengths.tolist() == [3]
    assert features[0, 3:].any(), "as the release caches them, T5's outputs at padded positions are kept"


def test_long_captions_are_cut_and_counted(text_folder):
    encoder = TextEncoder.from_pretrained(text_folder, 5)
    features, lengths = encoder(["a red bench on the left", "two dogs"])
    assert features.shape[1] == 5 and lengths.tolist() == [5, 3]
    assert encoder.num_truncated == 1
    ids = encoder.tokenizer("a red bench on the left", truncation=True, max_length=5)["input_ids"]
    assert ids[-1] == encoder.tokenizer.eos_token_id
    with pytest.raises(ValueError, match="no captions"):
        encoder([])


def test_incomplete_and_foreign_folders_are_refused(tmp_path, vae_folder, text_folder):
    with pytest.raises(FileNotFoundError, match="nothing is downloaded"):
        load_complete(AutoencoderKL, "some/model-name")
    copy = tmp_path / "vae"
    shutil.copytree(vae_folder, copy)
    weights = copy / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors.pop("decoder.conv_out.bias")
    save_file(tensors, weights)
    with pytest.raises(ValueError, match=r"decoder\.conv_out\.bias"):
        load_complete(AutoencoderKL, copy)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"no \.safetensors file"):
        load_complete(AutoencoderKL, copy)
    (copy / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks config\.json"):
        load_complete(AutoencoderKL, copy)
    with pytest.raises(ValueError, match="vae"):
        foreign = tmp_path / "foreign-vae"
        shutil.copytree(vae_folder, foreign)
        load_complete(T5EncoderModel, foreign)
