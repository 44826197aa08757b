"""Encoding shared by processes, identities that follow contents, and every family of encoders through one adapter."""

import json
import shutil
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image

from lightgen.data.config import EncodeConfig, ImportConfig
from lightgen.data.encoding import encode_dataset, text_record, tokenizer_record
from lightgen.data.importing import import_images
from lightgen.data.latents import LatentDataset
from lightgen.data.shards import Sample, read_shards, write_shards
from lightgen.model.encoders import ImageTokenizer, TextEncoder
from tests.lightgen import squares


@pytest.fixture
def parts(tiny):
    return {
        "tokenizer": ImageTokenizer.from_pretrained(tiny.vae),
        "text": TextEncoder.from_pretrained(tiny.text_encoder, 12),
    }


def generator():
    return torch.Generator().manual_seed(0)


def noise_picture(seed, size=32):
    values = torch.randint(0, 256, (size, size, 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(values.byte().numpy())


def test_processes_share_the_work_and_the_last_writes_the_index(tiny, parts, tmp_path):
    assert encode_dataset(tiny.dataset, tmp_path / "a", shard=(2, 3), **parts) is None
    assert encode_dataset(tiny.dataset, tmp_path / "a", shard=(0, 3), **parts) is None
    index = encode_dataset(tiny.dataset, tmp_path / "a", shard=(1, 3), **parts)
    assert index == encode_dataset(tiny.dataset, tmp_path / "b", **parts)
    assert index["num_samples"] == 40 and index["num_captions"] == 12  # four captions in each of three shards


def test_captions_encoded_once_in_the_whole_set_are_numbered_the_same_by_any_number_of_processes(tiny, parts, tmp_path):
    once = EncodeConfig(once=True)
    index = encode_dataset(tiny.dataset, tmp_path / "one", once, **parts)
    for place in (2, 1, 0):  # the last shard first: it must know what the shards before it bring
        encode_dataset(tiny.dataset, tmp_path / "three", once, shard=(place, 3), **parts)
    names = [path.name for path in (tmp_path / "one").iterdir() if path.is_file()]
    assert encode_dataset(tiny.dataset, tmp_path / "three", once, **parts) == index and index["num_captions"] == 4
    for name in names:
        assert (tmp_path / "three" / name).read_bytes() == (tmp_path / "one" / name).read_bytes(), name
    with pytest.raises(ValueError, match="leave out one of --once, --skip-bad and --shard"):
        encode_dataset(tiny.dataset, tmp_path / "c", EncodeConfig(once=True, skip_bad=True), shard=(0, 2), **parts)


def test_a_process_goes_on_where_another_was_killed(tiny, parts, tmp_path):
    once = EncodeConfig(once=True)
    encode_dataset(tiny.dataset, tmp_path / "one", once, **parts)
    assert encode_dataset(tiny.dataset, tmp_path / "two", once, shard=(1, 2), **parts) is None
    encode_dataset(tiny.dataset, tmp_path / "two", once, **parts)  # one process: the shards 0 and 2 are left
    for path in (tmp_path / "one").glob("*.safetensors"):
        assert (tmp_path / "two" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_a_sigkill_costs_the_shard_under_way(tiny, parts, tmp_path):
    encode_dataset(tiny.dataset, tmp_path / "whole", **parts)
    command = [sys.executable, "-m", "lightgen", "prepare", tiny.dataset, "--out", tmp_path / "out"]
    options = ["--vae", tiny.vae, "--text-encoder", tiny.text_encoder, "--max-length", "12", "--batch-size", "1"]
    process = subprocess.Popen([*map(str, command), *map(str, options)], stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(tmp_path.glob("out/progress/000000.json")):
        time.sleep(0.001)
    process.kill()
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/latents_000000.safetensors")}
    assert encode_dataset(tiny.dataset, tmp_path / "out", **parts) == encode_dataset(
        tiny.dataset, tmp_path / "whole", **parts
    )
    assert done and all(path.stat().st_mtime_ns == moment for path, moment in done.items())
    for path in (tmp_path / "whole").glob("*.*"):
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes(), path.name


def test_captions_numbered_by_shard_are_the_same_captions(tiny, parts, tmp_path):
    encode_dataset(tiny.dataset, tmp_path, EncodeConfig(dtype="float32"), **parts)
    ids = torch.tensor([3, 39, 0, 17, 20])
    ours, theirs = (LatentDataset(folder).batch(ids, generator()) for folder in (tmp_path, tiny.latents))
    assert torch.equal(ours.latents, theirs.latents) and torch.equal(ours.text_lengths, theirs.text_lengths)
    torch.testing.assert_close(ours.text, theirs.text)


def test_a_shard_that_changed_behind_its_manifest_is_named(tiny, parts, tmp_path):
    shutil.copytree(tiny.dataset, tmp_path / "set")
    path = tmp_path / "set" / "data_000001.tar"
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"data_000001\.tar: sha256 differs from the manifest's"):
        encode_dataset(tmp_path / "set", tmp_path / "cache", **parts)


def test_a_cache_s_identity_holds_contents_with_and_without_a_manifest(tiny, parts, tmp_path):
    for name in ("a", "b", "c"):
        shutil.copytree(tiny.dataset, tmp_path / name)
        (tmp_path / name / "manifest.json").unlink()
    first = encode_dataset(tmp_path / "a", tmp_path / "cache", **parts)
    assert encode_dataset(tmp_path / "b", tmp_path / "cache", **parts) == first  # another folder of the same bytes
    path = tmp_path / "c" / "data_000000.tar"
    path.write_bytes(path.read_bytes().replace(b'"a red square"', b'"a tan square"'))  # another caption, as long
    with pytest.raises(ValueError, match="another source"):
        encode_dataset(tmp_path / "c", tmp_path / "cache", **parts)


def test_keys_and_the_numbers_that_all_samples_have_are_kept(parts, tmp_path):
    image = Image.new("RGB", (16, 16), (50, 50, 50))
    numbers = [{"score": 1.5, "odd": 1}, {"score": 2.5}]
    samples = [Sample(f"k{n}", image, {"prompt": "a", "numbers": given}) for n, given in enumerate(numbers)]
    write_shards(samples, tmp_path / "set")
    index = encode_dataset(tmp_path / "set", tmp_path / "cache", **parts)
    found = json.loads((tmp_path / "cache" / index["shards"][0]["samples_file"]).read_text())
    assert found == {
        "keys": ["k0", "k1"],
        "numbers": {"brightness": [50.0, 50.0], "contrast": [0.0, 0.0], "score": [1.5, 2.5]},
    }


def test_several_sizes_are_refused_with_the_command_that_mends_it(parts, tmp_path):
    samples = [Sample(str(i), Image.new("RGB", (16 * (1 + i), 16)), {"prompt": "a"}) for i in range(2)]
    write_shards(samples, tmp_path / "set", shard_size=1)
    command = rf"python -m lightgen import {tmp_path / 'set'} --out NEW --size N"
    with pytest.raises(ValueError, match=command):
        encode_dataset(tmp_path / "set", tmp_path / "cache", **parts)
    import_images(tmp_path / "set", tmp_path / "new", ImportConfig(size=16))
    assert encode_dataset(tmp_path / "new", tmp_path / "other", **parts)["grid"] == [4, 4]


# --- autoencoders -----------------------------------------------------------------------------------------------------


def autoencoder(kind, folder):
    import diffusers

    torch.manual_seed(0)
    if kind == "AutoencoderKL":
        return squares.make_vae(folder)
    if kind == "AutoencoderTiny":
        channels = {"encoder_block_out_channels": (8, 8, 8), "decoder_block_out_channels": (8, 8, 8)}
        blocks = {"num_encoder_blocks": (1, 1, 1), "num_decoder_blocks": (1, 1, 1)}
        model = diffusers.AutoencoderTiny(**channels, **blocks, latent_channels=3)
    else:
        widths, blocks = (8, 16, 16), {"encoder_layers_per_block": (1, 1, 1), "decoder_layers_per_block": (1, 1, 1)}
        scales = {"encoder_qkv_multiscales": ((), (), ()), "decoder_qkv_multiscales": ((), (), ())}
        channels = {"encoder_block_out_channels": widths, "decoder_block_out_channels": widths, "latent_channels": 8}
        model = diffusers.AutoencoderDC(**channels, **blocks, **scales, attention_head_dim=8, scaling_factor=0.4)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["AutoencoderKL", "AutoencoderTiny", "AutoencoderDC"])
def test_every_family_of_autoencoders(kind, parts, tmp_path):
    tokenizer = ImageTokenizer.from_pretrained(autoencoder(kind, tmp_path / "vae"))
    assert tokenizer.stride == 4
    images = [noise_picture(seed) for seed in range(3)]
    moments = tokenizer.moments(images)
    assert moments.shape == (3, tokenizer.channels * (2 if kind == "AutoencoderKL" else 1), 8, 8)
    assert tokenizer.decode(tokenizer.latents(moments, None))[0].size == (32, 32)
    write_shards([Sample(str(n), i, {"prompt": "a"}) for n, i in enumerate(images)], tmp_path / "set")
    exact = EncodeConfig(dtype="float32")
    encode_dataset(tmp_path / "set", tmp_path / "cache", exact, tokenizer=tokenizer, text=parts["text"])
    data = LatentDataset(tmp_path / "cache")
    modes = tokenizer.latents(moments, None)
    torch.testing.assert_close(data.modes(torch.arange(3)), modes)
    batch = data.batch(torch.arange(3), generator())
    assert torch.equal(batch.latents, modes) != (kind == "AutoencoderKL")  # only it has a variance to draw from
    assert tokenizer_record(tokenizer).get("class", "AutoencoderKL") == kind


def test_other_autoencoders_are_refused(tmp_path):
    folder = squares.make_vae(tmp_path / "vae")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "_class_name": "VQModel"}))
    with pytest.raises(ValueError, match="holds a VQModel; valid: AutoencoderKL, AutoencoderTiny, AutoencoderDC"):
        ImageTokenizer.from_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({**config, "latents_mean": [0.0, 0.0], "latents_std": [1.0, 1.0]}))
    with pytest.raises(ValueError, match="channel by channel"):
        ImageTokenizer.from_pretrained(folder)


# --- text encoders ----------------------------------------------------------------------------------------------------

WORDS = ["<pad>", "</s>", "<unk>", "a", "big", "red", "square"]


def word_tokenizer(folder, ends=True):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = {"eos_token": "</s>", "unk_token": "<unk>"}
    if ends:
        tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
        marks["pad_token"] = "<pad>"
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side="left", **marks).save_pretrained(folder)


def text_model(kind, folder):
    import transformers

    torch.manual_seed(0)
    sizes = {"vocab_size": len(WORDS), "hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2}
    marks = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1}
    if kind == "CLIPTextModel":
        config = transformers.CLIPTextConfig(**sizes, **marks, num_hidden_layers=1, max_position_embeddings=20)
        model = transformers.CLIPTextModel(config)
    elif kind == "ModernBertModel":
        config = transformers.ModernBertConfig(
            **sizes, **marks, num_hidden_layers=2, cls_token_id=1, sep_token_id=1, attn_implementation="eager"
        )
        model = transformers.ModernBertForMaskedLM(config)
    else:
        config = transformers.LlamaConfig(
            **sizes, **marks, num_hidden_layers=1, num_key_value_heads=2, tie_word_embeddings=False
        )
        model = transformers.LlamaForCausalLM(config)
    model.save_pretrained(folder)
    word_tokenizer(folder, ends=kind != "LlamaModel")
    return folder


@pytest.mark.parametrize("kind", ["CLIPTextModel", "ModernBertModel", "LlamaModel"])
def test_every_kind_of_text_encoder(kind, tmp_path):
    encoder = TextEncoder.from_pretrained(text_model(kind, tmp_path), 12)
    assert type(encoder.model).__name__ == kind and encoder.channels == 8
    features, lengths = encoder(["a big red square", "", "red"])
    end = 0 if kind == "LlamaModel" else 1
    assert lengths.tolist() == [4 + end, 1, 1 + end] and features.shape == (3, 4 + end, 8)
    assert not features[1, 1:].any() and features[1, 0].any(), "an empty caption is its end mark"
    alone, _ = encoder(["red"])
    torch.testing.assert_close(features[2, : 1 + end], alone[0], rtol=1e-4, atol=1e-5)
    assert text_record(encoder) == {
        "identity": encoder.identity, "channels": 8, "max_length": 12, "class": kind, "features": "last hidden state",
    }  # fmt: skip


def test_a_window_that_the_text_encoder_does_not_have_is_refused(tmp_path):
    with pytest.raises(ValueError, match="reads 20 positions, not 32; take fewer"):
        TextEncoder.from_pretrained(text_model("CLIPTextModel", tmp_path), 32)


# --- reading a part ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ram_limit", [2**30, 0])
@pytest.mark.parametrize("flips", [True, False])
def test_a_part_of_a_cache_is_those_samples_of_it(flips, ram_limit, tiny, parts, tmp_path):
    encode_dataset(tiny.dataset, tmp_path, EncodeConfig(flips=flips), **parts)
    chosen = [5, 0, 39, 17, 22, 8]
    whole, part = LatentDataset(tmp_path), LatentDataset(tmp_path, ids=chosen, ram_limit=ram_limit)
    assert len(part) == 6 and part.is_mapped == (ram_limit == 0)
    ids = torch.tensor([2, 2, 0, 5])
    part.prefetch(ids)
    found, expected = (data.batch(i, generator()) for data, i in ((part, ids), (whole, torch.tensor(chosen)[ids])))
    for name in ("latents", "text", "text_lengths"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert torch.equal(part.modes(ids), whole.modes(torch.tensor(chosen)[ids]))
    other = torch.tensor([1])  # another batch than was prefetched
    assert torch.equal(part.batch(other, generator()).latents, whole.batch(torch.tensor([0]), generator()).latents)


@pytest.mark.parametrize(
    ("ids", "says"),
    [([0, 40], "samples 0 to 39"), ([-1], "samples 0 to 39"), ([], "are none"), ([1, 1], "named twice")],
)
def test_ids_that_a_cache_does_not_have(ids, says, tiny):
    with pytest.raises(ValueError, match=says):
        LatentDataset(tiny.latents, ids=ids)


def test_reading_back_what_was_encoded(tiny):
    assert len(list(read_shards(tiny.dataset))) == len(LatentDataset(tiny.latents))
