"""Reading images from every layout, and the refusals."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from benchmarks.quality.captions import prompts_of
from benchmarks.quality.images import ImageError, decode_image, list_images


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_shards_give_images_and_prompts_by_offset(tmp_path, picture, write_shard):
    write_shard(tmp_path / "data_000000.tar", [f"caption {index}" for index in range(3)])
    write_shard(tmp_path / "data_000001.tar", [f"caption {index}" for index in range(2)])
    entries = list_images(tmp_path)
    assert [entry.id for entry in entries][-1] == "data_000001.tar/000001.png"
    assert entries[1].prompt == "caption 1"
    np.testing.assert_array_equal(decode_image(entries[1].read()), picture(1))


def test_geneval_folder_gives_samples_with_prompts(geneval_folder, picture):
    (geneval_folder / "00000" / "grid.png").write_bytes(encoded(picture(0)))
    entries = list_images(geneval_folder)
    assert len(entries) == 24 and entries[0].id == "00000/samples/00000.png"
    assert prompts_of(geneval_folder, entries)["00003/samples/00001.png"] == "a photo of 3 squares"


def test_a_limit_is_spread_over_the_set(geneval_folder):
    folders = [entry.id.split("/")[0] for entry in list_images(geneval_folder, limit=12)]
    assert folders == [f"{index:05d}" for index in range(12)]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "CMYK", "I;16", "1"])
def test_every_mode_becomes_rgb(mode):
    if mode == "I;16":
        image = Image.fromarray(np.full((4, 4), 257 * 100, dtype=np.uint16))
    else:
        image = Image.new("RGB", (4, 4), (100, 100, 100)).convert(mode)
    data = encoded(image, "JPEG", quality=95) if mode == "CMYK" else encoded(image)
    result = decode_image(data)
    assert result.mode == "RGB"
    if mode != "1":
        assert np.abs(np.asarray(result).astype(int) - 100).max() <= 2


def test_transparency_is_laid_over_white():
    image = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert decode_image(encoded(image)).getpixel((0, 0)) == (255, 255, 255)
    assert decode_image(encoded(Image.new("RGBA", (2, 2), (255, 0, 0, 128)))).getpixel((0, 0)) == (255, 127, 127)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_other_containers_are_read(kind, picture):
    assert decode_image(encoded(picture(0), kind)).size == (32, 32)


def test_unreadable_images_are_named(picture):
    for data in (b"", b"GIF89a" + bytes(20), encoded(picture(0))[:80], encoded(picture(0), "BMP")):
        with pytest.raises(ImageError, match=r"x\.png"):
            decode_image(data, "x.png")


@pytest.mark.parametrize("side", [9_000, 100_000])
def test_a_picture_that_claims_to_be_huge_is_refused_before_it_is_decoded(side):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(ImageError, match="huge"):
        decode_image(data, "huge.png")


def test_empty_missing_and_torn_sources_are_refused(tmp_path, picture, write_shard):
    with pytest.raises(ImageError, match="no images in"):
        list_images(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        list_images(tmp_path / "missing")
    write_shard(tmp_path / "data_000000.tar", [f"caption {index}" for index in range(3)])
    shard = tmp_path / "data_000000.tar"
    shard.write_bytes(shard.read_bytes()[:2000])
    with pytest.raises(ImageError, match=r"data_000000\.tar: torn or no tar archive"):
        list_images(tmp_path)


def test_a_torn_metadata_line_is_refused(tmp_path):
    (tmp_path / "00000" / "samples").mkdir(parents=True)
    (tmp_path / "00000" / "metadata.jsonl").write_text('{"tag": "col')
    with pytest.raises(ValueError, match=r"metadata\.jsonl: torn .*a GenEval metadata line"):
        list_images(tmp_path)


def test_captions_must_match_the_images(pictures, tmp_path):
    entries = list_images(pictures)
    short = tmp_path / "captions.txt"
    short.write_text("one\ntwo\n")
    with pytest.raises(ValueError, match="2 captions for 40 images"):
        prompts_of(pictures, entries, short)
    rows = tmp_path / "captions.jsonl"
    rows.write_text('{"file": "000.png", "prompt": "a"}\n')
    with pytest.raises(ValueError, match=r"no caption for 39 of 40 images, first '001\.png'"):
        prompts_of(pictures, entries, rows)
    rows.write_text("{torn\n")
    with pytest.raises(ValueError, match="line 1"):
        prompts_of(pictures, entries, rows)
