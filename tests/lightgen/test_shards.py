import io
import json
import resource
import subprocess
import sys
import tarfile
import zlib

import pytest
from PIL import Image

from lightgen.data.images import read_image
from lightgen.data.shards import Sample, read_prompts, read_shard, read_shards, shard_paths, verify, write_shards


def draw(index):
    return Image.new("RGB", (8, 8), (index * 7 % 256, index % 256, 40))


def samples(count, start=0):
    return [Sample(f"{i:08d}", draw(i), {"prompt": f"picture {i}", "seed": i}) for i in range(start, count)]


def write_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def test_samples_come_back_in_order_with_their_pixels(tmp_path):
    manifest = write_shards(samples(25), tmp_path / "set", shard_size=10, manifest={"world": "tiny"})
    assert manifest["num_samples"] == 25 and manifest["world"] == "tiny"
    assert [shard["samples"] for shard in manifest["shards"]] == [10, 10, 5]
    read = list(read_shards(tmp_path / "set"))
    assert [sample.prompt for sample in read] == [f"picture {i}" for i in range(25)]
    assert all(sample.image.tobytes() == draw(i).tobytes() for i, sample in enumerate(read))
    assert read_prompts(tmp_path / "set") == [sample.prompt for sample in read]
    assert verify(tmp_path / "set") == manifest


def test_the_webdataset_library_reads_the_shards(tmp_path):
    from webdataset.tariterators import group_by_keys, tar_file_iterator

    write_shards(samples(3), tmp_path)
    with open(tmp_path / "data_000000.tar", "rb") as file:
        read = list(group_by_keys({"__url__": "", **item} for item in tar_file_iterator(file)))
    assert [json.loads(item["json"])["prompt"] for item in read] == ["picture 0", "picture 1", "picture 2"]


def test_the_same_samples_give_the_same_bytes(tmp_path):
    first, second = (write_shards(samples(5), tmp_path / name)["shards"] for name in "ab")
    assert first == second


def test_an_interrupted_write_goes_on_after_its_finished_shards(tmp_path):
    asked = []

    def until(limit):
        def source(start):
            asked.append(start)
            for sample in samples(30, start):
                if int(sample.key) == limit:
                    raise KeyboardInterrupt
                yield sample

        return source

    with pytest.raises(KeyboardInterrupt):
        write_shards(until(25), tmp_path / "set", shard_size=10)
    with pytest.raises(ValueError, match="unfinished"):
        shard_paths(tmp_path / "set")
    manifest = write_shards(until(None), tmp_path / "set", shard_size=10)
    assert asked == [0, 20]
    assert manifest == write_shards(samples(30), tmp_path / "other", shard_size=10)
    assert write_shards(until(0), tmp_path / "set", shard_size=10) == manifest
    assert asked == [0, 20]


def test_a_folder_begun_with_other_settings_is_refused(tmp_path):
    write_shards(samples(3), tmp_path, manifest={"seed": 0})
    with pytest.raises(ValueError, match="other settings"):
        write_shards(samples(3), tmp_path, manifest={"seed": 1})


@pytest.mark.parametrize("cut", [-1000, -10_240, 700, 0])
def test_a_torn_shard_is_named(tmp_path, cut):
    write_tar(tmp_path / "a.tar", [(f"{i}.{kind}", b'{"prompt": "x"}' * 200) for i in range(5) for kind in ("json",)])
    data = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(data[:cut])
    with pytest.raises(ValueError, match=r"a\.tar"):
        list(read_shard(tmp_path / "a.tar"))


def test_a_shard_that_shrank_or_changed_after_the_manifest_is_named(tmp_path):
    write_shards(samples(3), tmp_path)
    path = tmp_path / "data_000000.tar"
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="sha256"):
        verify(tmp_path)
    path.write_bytes(data[:-512])
    with pytest.raises(ValueError, match="bytes instead of"):
        list(read_shards(tmp_path))
    path.unlink()
    with pytest.raises(FileNotFoundError, match="missing"):
        list(read_shards(tmp_path))


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("a.png", png(draw(1))), ("a.json", b'{"prompt": "x')], "torn"),
        ([("a.png", png(draw(1))), ("a.json", b'{"text": "x"}')], "prompt"),
        ([("a.png", png(draw(1)))], "needs one image"),
        ([("a.png", b"no image"), ("a.json", b'{"prompt": "x"}')], "not a readable"),
    ],
)
def test_bad_samples_are_errors_or_are_counted(tmp_path, members, reason):
    good = [("b.png", png(draw(2))), ("b.json", b'{"prompt": "fine"}')]
    write_tar(tmp_path / "a.tar", members + good)
    with pytest.raises(ValueError, match=reason):
        list(read_shard(tmp_path / "a.tar"))
    rejected = []
    assert [sample.prompt for sample in read_shard(tmp_path / "a.tar", rejected=rejected)] == ["fine"]
    assert len(rejected) == 1 and reason in rejected[0]


def test_transparency_is_laid_over_white(tmp_path):
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    image.putpixel((0, 0), (0, 0, 255, 255))
    read = read_image(png(image))
    assert read.mode == "RGB" and read.getpixel((0, 0)) == (0, 0, 255) and read.getpixel((1, 1)) == (255, 255, 255)


@pytest.mark.parametrize("size", [(100_000, 100_000), (100_000, 1_000), (100_000, 700)])
def test_an_image_that_claims_a_huge_size_is_not_decoded(size):
    header = png(Image.new("L", (1, 1)))
    ihdr = b"IHDR" + size[0].to_bytes(4, "big") + size[1].to_bytes(4, "big") + header[24:29]
    fake = header[:12] + ihdr + zlib.crc32(ihdr).to_bytes(4, "big") + header[33:]
    with pytest.raises(ValueError, match="more than 64,000,000 pixels"):
        read_image(fake)


def test_other_image_kinds_are_refused():
    buffer = io.BytesIO()
    draw(1).save(buffer, format="GIF")
    with pytest.raises(ValueError, match="not a readable PNG, JPEG, WEBP"):
        read_image(buffer.getvalue())
    with pytest.raises(ValueError, match="pixel mode I;16"):
        read_image(png(Image.new("I;16", (2, 2))))


def test_a_full_disk_is_one_error_and_finished_shards_stay(tmp_path):
    """A file size limit stands in for the full disk: write(2) fails in the middle of the second shard."""
    program = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({100_000}, {100_000}))
from PIL import Image
from lightgen.data.shards import Sample, write_shards
sizes = [8] * 3 + [400] * 3
pictures = [Sample(str(i), Image.effect_noise((n, n), 80), {{"prompt": "x"}}) for i, n in enumerate(sizes)]
try:
    write_shards(pictures, {str(tmp_path)!r}, shard_size=3)
except OSError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "data_000001.tar" in done.stdout and "kept" in done.stdout, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data_000000.tar", "progress.json"]
    assert len(list(read_shard(tmp_path / "data_000000.tar"))) == 3
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100_000
