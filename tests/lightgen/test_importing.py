"""Captioned pictures of any size become a data set of squares; what cannot is refused, counted and named."""

import csv
import hashlib
import io
import json
import multiprocessing
import random
import subprocess
import sys
import tarfile
import time

import pytest
from PIL import Image

from lightgen.data import importing
from lightgen.data.config import ImportConfig
from lightgen.data.importing import import_images
from lightgen.data.shards import read_shards, shard_paths, verify

SMALL = ImportConfig(size=16, shard_size=4)


def picture(number, size=(24, 20)):
    return Image.new("RGB", size, (number * 7 % 256, number * 31 % 256, 90))


def file_of(image, kind="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def folder_of(root, count=10, captions=True):
    for number in range(count):
        path = root / f"part{number % 2}" / f"{number:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file_of(picture(number, (20 + number, 30))))
        if captions:
            path.with_suffix(".txt").write_text(f"picture {number}\n")
    return root


def tar_of(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def samples_of(count, start=0):
    """Members as text-to-image-2M has them."""
    for number in range(start, start + count):
        yield f"{number:09d}.jpg", file_of(picture(number, (24 + number % 3, 24)))
        yield f"{number:09d}.json", json.dumps({"prompt": f"picture {number}", "aesthetic": number / 2}).encode()


def prompts(out):
    return [sample.prompt for sample in read_shards(out)]


def test_a_nested_folder_with_text_files(tmp_path):
    manifest = import_images(folder_of(tmp_path / "in"), tmp_path / "out", SMALL)
    assert sorted(prompts(tmp_path / "out")) == [f"picture {number}" for number in range(10)]
    assert {sample.image.size for sample in read_shards(tmp_path / "out")} == {(16, 16)}
    assert [shard["samples"] for shard in manifest["shards"]] == [4, 4, 2]
    assert verify(tmp_path / "out") == manifest and manifest["rejected"] == 0
    assert "lanczos, antialiased" in manifest["imported"]["resize"]
    assert (tmp_path / "out" / "rejected.jsonl").read_text() == ""
    record = next(iter(read_shards(tmp_path / "out"))).record
    original = (tmp_path / "in" / record["source"]["name"]).read_bytes()
    assert record["source"]["sha256"] == hashlib.sha256(original).hexdigest()
    assert record["source"]["bytes"] == len(original) and record["source"]["size"] == [20, 30]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_a_table_of_file_names_and_its_numbers(tmp_path, kind):
    root = folder_of(tmp_path / "in", captions=False)
    rows = [{"file_name": f"part{n % 2}/{n:03d}.jpg", "caption": f"thing {n}", "score": n + 0.5} for n in range(10)]
    path = root / f"metadata.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        table = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(table.Table.from_pylist(rows), path)
    manifest = import_images(root, tmp_path / "out", SMALL)
    assert prompts(tmp_path / "out") == [f"thing {number}" for number in range(10)]
    assert manifest["numbers"] == ["score"]
    assert [sample.record["numbers"] for sample in read_shards(tmp_path / "out")][3] == {"score": 3.5}


@pytest.mark.parametrize("struct", [True, False])
def test_parquet_with_pictures(tmp_path, struct):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    files = [file_of(picture(number)) for number in range(10)]
    images = [{"bytes": data, "path": None} if struct else data for data in files]
    rows = [{"image": image, "text": f"row {number}"} for number, image in enumerate(images)]
    (tmp_path / "in" / "data").mkdir(parents=True)
    table = pyarrow.Table.from_pylist(rows)
    parquet.write_table(table.slice(0, 7), tmp_path / "in" / "data" / "train-0.parquet", row_group_size=3)
    parquet.write_table(table.slice(7), tmp_path / "in" / "data" / "train-1.parquet")
    manifest = import_images(tmp_path / "in", tmp_path / "out", SMALL)
    assert prompts(tmp_path / "out") == [f"row {number}" for number in range(10)]
    assert [shard["samples"] for shard in manifest["shards"]] == [4, 3, 3]


def test_what_the_datasets_library_saved(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    rows = {"image": [picture(n) for n in range(6)], "caption": [f"saved {n}" for n in range(6)]}
    saved = datasets.Dataset.from_dict(rows, features=features)
    saved.save_to_disk(tmp_path / "in")
    import_images(tmp_path / "in", tmp_path / "out", SMALL)
    assert prompts(tmp_path / "out") == [f"saved {number}" for number in range(6)]
    datasets.DatasetDict({"train": saved, "test": saved}).save_to_disk(tmp_path / "both")
    with pytest.raises(ValueError, match=r"several splits \(test, train\)"):
        import_images(tmp_path / "both", tmp_path / "other", SMALL)


def test_tars_as_text_to_image_2m_has_them(tmp_path):
    tar_of(tmp_path / "in" / "data_000000.tar", samples_of(10))
    tar_of(tmp_path / "in" / "data_000001.tar", samples_of(5))  # keys begin anew in each archive
    manifest = import_images(tmp_path / "in", tmp_path / "out", SMALL)
    assert prompts(tmp_path / "out") == [f"picture {number}" for number in [*range(10), *range(5)]]
    assert manifest["numbers"] == ["aesthetic"]
    again = import_images(tmp_path / "out", tmp_path / "half", ImportConfig(size=8, caption=("prompt",)))
    assert prompts(tmp_path / "half") == prompts(tmp_path / "out") and again["numbers"] == ["aesthetic"]


def test_img2dataset_tars_with_text_members_and_long_names(tmp_path):
    members = [(f"{'deep/' * 30}{n}.{kind}", data) for n in range(6)
               for kind, data in (("webp", file_of(picture(n), "WEBP")), ("txt", f"text {n}".encode()))]  # fmt: skip
    tar_of(tmp_path / "in.tar", members)
    import_images(tmp_path / "in.tar", tmp_path / "out", ImportConfig(size=16, shard_size=2))
    assert prompts(tmp_path / "out") == [f"text {number}" for number in range(6)]


def test_resizing_is_the_centered_square_antialiased(tmp_path):
    wide = Image.effect_noise((64, 32), 80).convert("RGB")
    (tmp_path / "in").mkdir()
    wide.save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "a.txt").write_text("noise")
    for method in ("lanczos", "bicubic"):
        import_images(tmp_path / "in", tmp_path / method, ImportConfig(size=16, filter=method))
        (sample,) = read_shards(tmp_path / method)
        middle = wide.crop((16, 0, 48, 32)).resize((16, 16), getattr(Image.Resampling, method.upper()))
        differences = [abs(a - b) for a, b in zip(sample.image.tobytes(), middle.tobytes())]
        assert sum(differences) / len(differences) < 6  # the crop before cuts the filter off at its border
        inner = zip(sample.image.crop((4, 4, 12, 12)).tobytes(), middle.crop((4, 4, 12, 12)).tobytes())
        assert max(abs(a - b) for a, b in inner) <= 1


def test_jpeg_stays_jpeg_where_nothing_changes_and_exif_is_turned(tmp_path):
    root = tmp_path / "in"
    root.mkdir()
    exact = file_of(Image.effect_noise((16, 16), 60).convert("RGB"), quality=90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    turned = Image.new("RGB", (16, 16), "red")
    turned.paste("blue", (0, 0, 16, 8))
    files = {"exact": exact, "turned": file_of(turned, quality=95, exif=exif), "grey": file_of(turned.convert("L"))}
    for name, data in files.items():
        (root / f"{name}.jpg").write_bytes(data)
        (root / f"{name}.txt").write_text(name)
    import_images(root, tmp_path / "out", SMALL)
    with tarfile.open(tmp_path / "out" / "data_000000.tar") as archive:
        kept = {member.name.split("-")[0]: member for member in archive if not member.name.endswith("json")}
        assert archive.extractfile(kept["exact"]).read() == exact and kept["exact"].name.endswith(".jpg")
        assert kept["turned"].name.endswith(".png") and kept["grey"].name.endswith(".png")
    red = {sample.prompt: sample.image.getpixel((1, 8))[0] for sample in read_shards(tmp_path / "out")}
    assert red["turned"] > 200  # what lay below is left now


def test_several_captions_are_kept_and_one_of_them_is_drawn(tmp_path):
    root = folder_of(tmp_path / "in", captions=False)
    rows = [{"file_name": f"part{n % 2}/{n:03d}.jpg", "short": f"s{n}", "long": [f"l{n}", f"m{n}"]} for n in range(10)]
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(
        ValueError, match=r"no caption in prompt, caption, captions, text \(its fields: file_name, long"
    ):
        import_images(root, tmp_path / "none", SMALL)
    import_images(root, tmp_path / "out", ImportConfig(size=16, caption=("short", "long")))
    records = [sample.record for sample in read_shards(tmp_path / "out")]
    assert records[2]["captions"] == ["s2", "l2", "m2"] and records[2]["prompt"] in records[2]["captions"]
    assert len({record["prompt"][0] for record in records}) > 1


def test_processes_share_the_work_and_the_last_writes_the_manifest(tmp_path):
    root = folder_of(tmp_path / "in")
    assert import_images(root, tmp_path / "out", SMALL, shard=(1, 2)) is None
    with pytest.raises(ValueError, match="unfinished data set"):
        shard_paths(tmp_path / "out")
    manifest = import_images(root, tmp_path / "out", SMALL, shard=(0, 2))
    assert manifest == import_images(root, tmp_path / "alone", SMALL)
    assert manifest == import_images(root, tmp_path / "out", SMALL)


def test_a_kill_costs_one_shard(tmp_path, monkeypatch):
    root = folder_of(tmp_path / "in")
    seen = []

    def counted(data, config):
        seen.append(data)
        if len(seen) == 7:
            raise KeyboardInterrupt
        return importing_square(data, config)

    importing_square = importing.square
    monkeypatch.setattr(importing, "square", counted)
    with pytest.raises(KeyboardInterrupt):
        import_images(root, tmp_path / "out", SMALL)
    manifest = import_images(root, tmp_path / "out", SMALL)
    assert len(seen) == 7 + 6  # the second shard begun anew, the first not
    assert manifest == import_images(root, tmp_path / "other", SMALL)


def test_sigkills_at_any_moment_cost_at_most_a_shard_and_change_nothing(tmp_path):
    root, out = folder_of(tmp_path / "in", 40), tmp_path / "out"
    wanted = import_images(root, tmp_path / "whole", SMALL)
    draw = random.Random(0)
    for _ in range(8):
        process = multiprocessing.get_context("fork").Process(target=import_images, args=(root, out, SMALL))
        process.start()
        time.sleep(draw.uniform(0, 0.1))
        process.kill()
        process.join()
        finished = [out / f"data_{int(entry.stem):06d}.tar" for entry in out.glob("progress/*.json")]
        before = {path: path.stat().st_mtime_ns for path in finished}
        assert len(list(out.glob("*.tar"))) <= len(finished) + 1 or (out / "manifest.json").is_file()
    assert import_images(root, out, SMALL) == wanted
    assert all(path.stat().st_mtime_ns == moment for path, moment in before.items()), "a finished shard was made again"
    for path in (tmp_path / "whole").iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes() or path.name.startswith(".")
    assert {path.name for path in out.glob("*")} == {path.name for path in (tmp_path / "whole").glob("*")}


def test_a_changed_source_and_other_settings_are_refused(tmp_path):
    root = folder_of(tmp_path / "in")
    import_images(root, tmp_path / "out", SMALL)
    with pytest.raises(ValueError, match="other settings"):
        import_images(root, tmp_path / "out", ImportConfig(size=8, shard_size=4))
    (root / "part0" / "000.txt").write_text("something else")
    with pytest.raises(ValueError, match="have changed"):
        import_images(root, tmp_path / "out", SMALL)


def test_rejects_are_counted_listed_and_refused_above_a_share(tmp_path):
    root = folder_of(tmp_path / "in")
    (root / "part0" / "000.jpg").write_bytes(b"no picture")
    (root / "part1" / "001.jpg").write_bytes(file_of(picture(1, (15, 40))))
    (root / "part0" / "002.txt").write_text("  \n")
    (root / "part1" / "003.txt").write_text("word" * 2500)
    with pytest.raises(ValueError, match=r"2 of 10 originals cannot be taken.*part0/000.jpg.*--max-rejected 0.2"):
        import_images(root, tmp_path / "out", SMALL)  # certain after the first shard
    manifest = import_images(root, tmp_path / "out", ImportConfig(size=16, shard_size=4, max_rejected=0.4))
    assert (manifest["originals"], manifest["rejected"], manifest["num_samples"]) == (10, 4, 6)
    rows = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()]
    reasons = {row["name"]: row["reason"] for row in rows}
    assert "not a readable PNG, JPEG, WEBP" in reasons["part0/000.jpg"]
    assert "15x40 px; the shortest side taken is 16" in reasons["part1/001.jpg"]
    assert "no caption" in reasons["part0/002.jpg"] and "10,000 characters" in reasons["part1/003.jpg"]


def test_a_table_that_names_missing_files(tmp_path):
    root = folder_of(tmp_path / "in", count=4, captions=False)
    rows = [{"file_name": f"part{n % 2}/{n:03d}.jpg", "caption": "x"} for n in range(6)]
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match="2 of 6 originals cannot be taken: 2 x named in the table, and not there"):
        import_images(root, tmp_path / "out", SMALL)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"file_name": "part0/000.jpg", "caption": "a"}] * 2, "two captions for part0/000.jpg"),
        ([{"file_name": "../other.jpg", "caption": "a"}], "lies outside of"),
        ([{"file_name": "/etc/passwd", "caption": "a"}], "lies outside of"),
        ([{"caption": "a"}], "names no picture; give a column file_name"),
    ],
)
def test_tables_that_are_refused_at_once(tmp_path, rows, says):
    root = folder_of(tmp_path / "in", count=2, captions=False)
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=says):
        import_images(root, tmp_path / "out", SMALL)
    assert not (tmp_path / "out").exists()


def test_folders_that_are_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match=r"holds 3 pictures and no captions: put NAME\.txt beside each"):
        import_images(folder_of(tmp_path / "bare", 3, captions=False), tmp_path / "out", SMALL)
    twice = folder_of(tmp_path / "twice", 2)
    (twice / "part0" / "000.png").write_bytes(file_of(picture(0), "PNG"))
    with pytest.raises(ValueError, match=r"two pictures are named part0/000, and one part0/000\.txt"):
        import_images(twice, tmp_path / "out", SMALL)
    both = folder_of(tmp_path / "both", 2)
    (both / "metadata.csv").write_text("file_name,caption\npart0/000.jpg,x\n")
    with pytest.raises(ValueError, match=r"a row of the table and a \.txt beside it"):
        import_images(both, tmp_path / "out", SMALL)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no pictures"):
        import_images(tmp_path / "empty", tmp_path / "out", SMALL)
    with pytest.raises(FileNotFoundError, match="is not there"):
        import_images(tmp_path / "absent", tmp_path / "out", SMALL)
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(ValueError, match="torn or no parquet file"):
        import_images(tmp_path / "torn.parquet", tmp_path / "out", SMALL)


def test_other_formats_are_named_and_the_source_is_no_place_to_write(tmp_path):
    root = folder_of(tmp_path / "in", 4)
    (root / "scan.gif").write_bytes(file_of(picture(1), "GIF"))
    (root / "scan.txt").write_text("a scan")
    with pytest.raises(ValueError, match=r"1 of 5 originals cannot be taken: 1 x a \.gif file; \.jpeg, \.jpg, \.png"):
        import_images(root, tmp_path / "out", SMALL)
    before = sorted(root.rglob("*"))
    with pytest.raises(ValueError, match="is where the pictures are"):
        import_images(root, root, SMALL)
    assert sorted(root.rglob("*")) == before


def test_names_in_capitals_and_none_that_can_be_taken(tmp_path):
    root = tmp_path / "in"
    root.mkdir()
    (root / "A.JPG").write_bytes(file_of(picture(1)))
    (root / "A.TXT").write_text("a picture")
    assert import_images(root, tmp_path / "out", SMALL)["num_samples"] == 1
    with pytest.raises(ValueError, match=r"1 of 1 originals cannot be taken: .*\. Mend them$"):
        import_images(root, tmp_path / "large", ImportConfig(size=100))


def test_hostile_and_torn_archives(tmp_path):
    outside = [(f"../../evil{n}.{kind}", data) for n in range(2)
               for kind, data in (("jpg", file_of(picture(n))), ("json", b'{"prompt": "x"}'))]  # fmt: skip
    path = tar_of(tmp_path / "in.tar", outside)
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("a.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    import_images(path, tmp_path / "out", SMALL)
    assert prompts(tmp_path / "out") == ["x", "x"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.tar", "out"]
    data = path.read_bytes()
    (tmp_path / "torn.tar").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"torn\.tar: torn"):
        import_images(tmp_path / "torn.tar", tmp_path / "t", SMALL)
    double = [*samples_of(2), *samples_of(2)]
    with pytest.raises(ValueError, match="two samples are named 000000000"):
        import_images(tar_of(tmp_path / "double.tar", double), tmp_path / "d", SMALL)
    alone = [("a.jpg", file_of(picture(1))), ("b.jpg", file_of(picture(2))), ("b.json", b"[1]"), *samples_of(1)]
    with pytest.raises(ValueError, match="2 of 3 originals cannot be taken"):
        import_images(tar_of(tmp_path / "alone.tar", alone), tmp_path / "e", SMALL)


def test_the_command_says_what_it_did(tmp_path):
    command = [sys.executable, "-m", "lightgen", "import", folder_of(tmp_path / "in"), "--out", tmp_path / "out"]
    done = subprocess.run([*command, "--size", "16", "--json"], capture_output=True, text=True)
    assert json.loads(done.stdout) == {"complete": True, "images": 10, "rejected": 0, "out": str(tmp_path / "out")}
    wrong = subprocess.run([*command, "--size", "16", "--shard", "2/2"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "0 <= I < N" in wrong.stderr
