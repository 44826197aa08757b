import json
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from lightgen.data.config import EncodeConfig
from lightgen.data.encoding import encode_dataset
from lightgen.data.latents import LatentDataset, _Joined
from lightgen.data.shards import Sample, read_shards, write_shards
from lightgen.model.encoders import ImageTokenizer, TextEncoder
from tests.lightgen import squares

EXACT = {"dtype": "float32", "once": True}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return squares.build(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def tokenizer(tiny):
    return ImageTokenizer.from_pretrained(tiny.vae)


@pytest.fixture
def text(tiny):
    return TextEncoder.from_pretrained(tiny.text_encoder, 12)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_batch_is_what_the_encoders_give(tiny, tokenizer, text):
    data = LatentDataset(tiny.latents)
    samples = list(read_shards(tiny.dataset))
    ids = torch.tensor([3, 39, 0, 17])
    batch = data.batch(ids, generator())
    noise = torch.randn(4, 2, 4, 4, generator=generator())
    expected = tokenizer.latents(tokenizer.moments([samples[i].image for i in ids]), noise)
    features, lengths = text([samples[i].prompt for i in ids])
    assert len(data) == 40 and data.grid == (4, 4)
    torch.testing.assert_close(batch.latents, expected)
    torch.testing.assert_close(batch.text, features)
    assert torch.equal(batch.text_lengths, lengths)


def test_captions_are_stored_once(tiny):
    data = LatentDataset(tiny.latents)
    assert data.index["num_captions"] == 4
    assert sum(len(json.loads((tiny.latents / f["captions"]).read_text())) for f in data.index["shards"]) == 4


def test_a_mapped_cache_gives_the_same_batches(tiny):
    ids = torch.randint(40, (64,), generator=generator())
    first, second = (LatentDataset(tiny.latents, ram_limit=limit).batch(ids, generator()) for limit in (2**30, 0))
    assert torch.equal(first.latents, second.latents)
    assert torch.equal(first.text, second.text)


def test_rows_of_many_tensors_are_those_of_one_in_any_order():
    tensors = [torch.arange(n * 2).view(n, 2) + 100 * n for n in (3, 1, 0, 5)]
    index = torch.tensor([8, 0, 3, 3, 2, 7, 0])
    assert torch.equal(_Joined(tensors).take(index), torch.cat(tensors)[index])
    assert _Joined(tensors).take(index[:0]).shape == (0, 2)


def test_flips_show_both_mirror_images(tiny, tokenizer, text, tmp_path):
    encode_dataset(tiny.dataset, tmp_path, EncodeConfig(flips=True, **EXACT), tokenizer=tokenizer, text=text)
    data = LatentDataset(tmp_path)
    batch = data.batch(torch.zeros(200, dtype=torch.long), generator())
    images = [next(read_shards(tiny.dataset)).image]
    images.append(images[0].transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    modes = tokenizer.latents(tokenizer.moments(images), None)
    mirrored = torch.rand(200, generator=generator()) < 0.5
    assert 60 < mirrored.sum() < 140
    for flag, mode in zip((False, True), modes):
        torch.testing.assert_close(batch.latents[mirrored == flag].mean(0), mode, atol=0.5, rtol=0)


def test_padding_is_kept_where_the_model_attends_to_it(tiny, tokenizer, text, tmp_path):
    encode_dataset(tiny.dataset, tmp_path, EncodeConfig(keep_padding=True, **EXACT), tokenizer=tokenizer, text=text)
    batch = LatentDataset(tmp_path).batch(torch.tensor([0, 1]), generator())
    features, lengths = text(["a red square", "a big green square"], pad=True)
    assert batch.text.shape == (2, 12, 8)
    torch.testing.assert_close(batch.text, features)
    assert torch.equal(batch.text_lengths, lengths)


def test_an_interrupted_encoding_goes_on_and_ends_the_same(tiny, tokenizer, text, tmp_path):
    def interrupt(done, total):
        if done == 2:
            raise KeyboardInterrupt

    options = {"tokenizer": tokenizer, "text": text}
    with pytest.raises(KeyboardInterrupt):
        encode_dataset(tiny.dataset, tmp_path / "a", **options, progress=interrupt)
    with pytest.raises(FileNotFoundError, match="prepare"):
        LatentDataset(tmp_path / "a")
    seen = []
    index = encode_dataset(tiny.dataset, tmp_path / "a", **options, progress=lambda done, total: seen.append(done))
    assert seen == [3]
    assert index == encode_dataset(tiny.dataset, tmp_path / "b", **options)
    assert index == encode_dataset(tiny.dataset, tmp_path / "a", **options)


def test_a_cache_of_other_weights_is_refused(tiny, tokenizer, text, tmp_path):
    exact = EncodeConfig(**EXACT)
    encode_dataset(tiny.dataset, tmp_path, exact, tokenizer=tokenizer, text=text)
    with pytest.raises(ValueError, match="another vae"):
        encode_dataset(tiny.dataset, tmp_path, exact, tokenizer=ImageTokenizer(tokenizer.vae), text=text)
    for other in ({"flips": True}, {"keep_padding": True}, {"dtype": "bfloat16"}, {"once": False}):
        with pytest.raises(ValueError, match=f"another {next(iter(other))}"):
            encode_dataset(tiny.dataset, tmp_path, EncodeConfig(**{**EXACT, **other}), tokenizer=tokenizer, text=text)
    with pytest.raises(ValueError, match="another text"):
        shorter = TextEncoder.from_pretrained(tiny.text_encoder, 6)
        encode_dataset(tiny.dataset, tmp_path, exact, tokenizer=tokenizer, text=shorter)
    with pytest.raises(ValueError, match="another source"):
        other_set = squares.make_dataset(tmp_path / "other", count=8)
        encode_dataset(other_set, tmp_path, exact, tokenizer=tokenizer, text=text)


def test_flips_and_padding_are_stored_only_where_they_are_on(tiny, tokenizer, text, tmp_path):
    plain = load_file(tiny.latents / "latents_000000.safetensors")
    assert "mirrored" not in plain and len(plain["features"]) == plain["lengths"].sum()
    options = {"tokenizer": tokenizer, "text": text}
    encode_dataset(tiny.dataset, tmp_path, EncodeConfig(flips=True, keep_padding=True, **EXACT), **options)
    both = load_file(tmp_path / "latents_000000.safetensors")
    assert both["mirrored"].shape == both["moments"].shape
    assert len(both["features"]) == 12 * len(both["lengths"])


def test_half_the_space_is_the_same_latents_rounded(tiny, tokenizer, text, tmp_path):
    encode_dataset(tiny.dataset, tmp_path, EncodeConfig(dtype="bfloat16"), tokenizer=tokenizer, text=text)
    ids = torch.arange(40)
    whole, half = (LatentDataset(folder).batch(ids, generator()) for folder in (tiny.latents, tmp_path))
    assert half.latents.dtype == half.text.dtype == torch.float32
    torch.testing.assert_close(half.latents, whole.latents, rtol=0.02, atol=0.02)
    torch.testing.assert_close(half.text, whole.text, rtol=0.01, atol=0.01)
    assert torch.equal(half.text_lengths, whole.text_lengths)


def test_a_torn_or_missing_cache_file_is_named(tiny, tmp_path):
    folder = tmp_path / "cache"
    shutil.copytree(tiny.latents, folder)
    path = folder / "latents_000001.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-10])
    with pytest.raises(ValueError, match=r"latents_000001.safetensors is torn"):
        LatentDataset(folder)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="missing"):
        LatentDataset(folder)
    (folder / "index.json").write_text('{"sch')
    with pytest.raises(ValueError, match="torn"):
        LatentDataset(folder)


def test_an_empty_and_a_very_long_caption_are_encoded(tokenizer, text, tmp_path):
    image = Image.new("RGB", (16, 16))
    samples = [Sample(str(i), image, {"prompt": prompt}) for i, prompt in enumerate(["", "red " * 2500])]
    write_shards(samples, tmp_path / "set")
    index = encode_dataset(tmp_path / "set", tmp_path / "cache", tokenizer=tokenizer, text=text)
    assert index["truncated"] == 1
    batch = LatentDataset(tmp_path / "cache").batch(torch.tensor([0, 1]), generator())
    assert batch.text_lengths.tolist() == [1, 12]


def test_images_of_another_size_are_named(tokenizer, text, tmp_path):
    samples = [Sample(str(i), Image.new("RGB", (16 * (1 + i), 16)), {"prompt": "a"}) for i in range(2)]
    write_shards(samples, tmp_path / "a")
    with pytest.raises(ValueError, match="sizes"):
        encode_dataset(tmp_path / "a", tmp_path / "x", tokenizer=tokenizer, text=text)
    write_shards(samples, tmp_path / "b", shard_size=1)
    with pytest.raises(ValueError, match="shards before"):
        encode_dataset(tmp_path / "b", tmp_path / "y", tokenizer=tokenizer, text=text)
