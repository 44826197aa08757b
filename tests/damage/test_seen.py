"""What an attack found: each wrong number, hang or traceback of it, by its cause."""

import asyncio
import csv
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load, load_file, save, save_file

from benchmarks.quality.features import Features, save_features
from benchmarks.quality.moments import check_statistics, load_statistics
from geneval.completeness import IncompleteFolder
from geneval.convert import read_state
from geneval.detections import DetectionsError, ImageDetections, parse_line
from geneval.detector import detector_identity
from geneval.finite import refuse_not_finite as refuse_in_judge
from geneval.forms import read_form
from geneval.hashes import file_sha256 as hash_in_judge
from geneval.hashes import safetensors_sha256
from geneval.images import ImageError, read_image
from geneval.json_files import parse_json as parse_in_judge
from geneval.json_files import sealed_text
from geneval.pipelines import load_pipeline
from geneval.pipelines import try_tokenizer as try_tokenizer_in_judge
from geneval.preprocessing import Preprocessing, check_picture_sizes
from geneval.weight_files import check_sizes as check_sizes_in_judge
from lightgen.console import DIVERGED, finish
from lightgen.data.image_folders import ImageFolder
from lightgen.data.image_tables import SavedTables
from lightgen.data.latents import LatentDataset
from lightgen.data.painters import load_painter, try_tokenizer
from lightgen.data.shards import Sample, read_prompts, read_shards, write_shards
from lightgen.disk.atomic import atomic_file
from lightgen.disk.folders import file_sha256, temporary_folder
from lightgen.disk.json_files import parse_json, read_json, write_sealed
from lightgen.disk.regular import last_lines
from lightgen.disk.tar_files import tar_file
from lightgen.disk.weight_files import check_sizes, in_order
from lightgen.disk.zip_files import check_sums
from lightgen.model.config import MARConfig
from lightgen.model.encoders import TextEncoder, load_autoencoder, load_tokenizer, to_images
from lightgen.model.families import autoencoder_class, text_class
from lightgen.training.lock import alone
from lightgen.training.processes import make_accelerator
from reports.claims import build_claims
from reports.records.study import read_study, readable_study
from reports.tables.table import to_csv
from tests.geneval import tiny as judges
from tests.lightgen import squares
from tests.reports.conftest import write_study

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    return squares.build(tmp_path_factory.mktemp("latents")).latents


@pytest.fixture
def dataset(tmp_path):
    samples = [Sample(f"{i:03}", Image.new("RGB", (8, 8), (i, 0, 0)), {"prompt": f"p{i}"}) for i in range(6)]
    write_shards(samples, tmp_path / "set", shard_size=3)
    return tmp_path / "set"


def test_a_flipped_bit_in_a_tar_header_drops_no_sample(dataset):
    """tarfile stops at a damaged header without a word: with the manifest its hash differs, without it the end does."""
    path = dataset / "data_000000.tar"
    with tarfile.open(path) as archive:
        header = archive.getmembers()[2].offset
    data = bytearray(path.read_bytes())
    data[header + 3] ^= 1
    path.write_bytes(data)
    for read in (read_prompts, lambda folder: list(read_shards(folder))):
        with pytest.raises(ValueError, match=r"data_000000\.tar: sha256 differs"):
            read(dataset)
    (dataset / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"data_000000\.tar: torn or no tar archive \(a damaged header at byte"):
        read_prompts(dataset)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda shards: shards.append(shards[0]), "listed twice"),
        (lambda shards: shards[0].update(samples=2), "num_samples"),
        (lambda shards: shards[0].update(file="../x.tar"), "no file of this folder"),
        (lambda shards: shards[0].update(bytes="many"), "bytes: expected int"),
    ],
)
def test_a_manifest_that_is_not_its_shards_is_refused(dataset, change, said):
    manifest = json.loads((dataset / "manifest.json").read_text())
    change(manifest["shards"])
    (dataset / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=rf"manifest\.json.*{said}"):
        read_prompts(dataset)


def test_a_member_of_any_size_is_not_believed(tmp_path):
    """2^63 bytes, in the tar format's own binary numbers."""
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        member = tarfile.TarInfo("000.json")
        member.size = 2**62
        archive.addfile(member, None) if member.size == 0 else archive.fileobj.write(
            member.tobuf(format=tarfile.GNU_FORMAT)
        )
    with pytest.raises(ValueError, match=r"a\.tar: torn or no tar archive"):
        read_prompts(tmp_path)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_where_they_are_loaded(tmp_path, wrong):
    folder = squares.make_vae(tmp_path / "vae")
    weights = load_file(folder / "diffusion_pytorch_model.safetensors")
    name = sorted(weights)[0]
    weights[name].view(-1)[0] = wrong
    save_file(weights, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"vae: the weights hold NaN or infinite numbers \(in {name}\)"):
        load_autoencoder(folder)
    network = torch.nn.Linear(2, 2)
    network.weight.data[0, 0] = wrong
    with pytest.raises(ValueError, match=r"clip: the weights hold NaN .* \(in weight\)"):
        refuse_in_judge(network, "clip")


def test_pixels_that_are_no_numbers_are_no_picture():
    with pytest.raises(ValueError, match="NaN"):
        to_images(torch.full((1, 3, 2, 2), float("nan")))


@pytest.mark.parametrize("value", [0.999, 7.5])
def test_a_record_is_held_against_its_verdicts(tmp_path, value):
    root = write_study(tmp_path / "study")
    path = root / "cells/small-diverse-none-s0/result.json"
    record = json.loads(path.read_text())
    record["metrics"]["geneval/overall"]["value"] = value
    path.write_text(json.dumps(record))
    (broken,) = read_study(root).incomplete()
    assert broken.state == "unreadable" and "geneval/overall" in broken.reason


def test_rows_scored_on_an_incomplete_folder_are_no_score(tmp_path):
    root = write_study(tmp_path / "study")
    path = root / "cells/small-diverse-none-s0/results.jsonl"
    rows = [{**json.loads(line), "partial": True} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [cell.state for cell in read_study(root).incomplete()] == ["partial"]


@pytest.mark.parametrize(
    ("name", "value", "said"), [("caption", -1, "negative|names caption"), ("moments", 3e20, "beyond 1e")]
)
def test_latents_are_read_by_their_hash_and_must_be_plausible(latents, tmp_path, name, value, said):
    """With the hash in the index any change is one; one that was written so is looked at all the same."""
    import shutil

    from lightgen.data.cache_files import index_identity

    shutil.copytree(latents, tmp_path / "l")
    index = json.loads((tmp_path / "l/index.json").read_text())
    path = tmp_path / "l" / index["shards"][0]["file"]
    tensors = load_file(path)
    tensors[name].view(-1)[0] = value
    save_file(tensors, path)
    with pytest.raises(ValueError, match=rf"{path.name} is torn"):
        LatentDataset(tmp_path / "l")
    index["shards"][0] |= {"bytes": path.stat().st_size}
    del index["shards"][0]["sha256"], index["identity"]
    (tmp_path / "l/index.json").write_text(json.dumps({**index, "identity": index_identity(index)}))
    with pytest.raises(ValueError, match=said):
        LatentDataset(tmp_path / "l")


def test_an_index_with_another_scale_is_not_the_one_that_was_written(latents, tmp_path):
    index = json.loads((latents / "index.json").read_text())
    index["vae"]["scale"] = 0.0
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"index\.json was changed"):
        LatentDataset(tmp_path)


def test_a_diverged_training_says_so_and_fails(tmp_path, capsys):
    result = {"status": "diverged", "steps": 3, "samples": 12, "seconds": 1.0}
    with pytest.raises(SystemExit) as ended:
        finish(result, tmp_path, False)
    assert ended.value.code == DIVERGED and "diverged after 3 steps" in capsys.readouterr().err


GOOD = (np.zeros(2), np.eye(2), 10)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (1, -np.eye(2)),
        (1, np.array([[1.0, 0.5], [0.0, 1.0]])),
        (1, np.eye(2) * 1j),
        (1, np.eye(2) * 1e300),
        (1, np.eye(3)),
        (0, np.array([np.nan, 0.0])),
        (0, np.array([1e300, 0.0])),
        (2, -5),
        (2, 0),
        (2, 2.5),
    ],
)
def test_statistics_that_no_features_have_are_refused(place, value):
    given = list(GOOD)
    given[place] = value
    check_statistics(*GOOD, "file", {})
    with pytest.raises(ValueError, match="file: "):
        check_statistics(*given, "file", {})


def test_archives_of_statistics_that_are_none(tmp_path):
    path = tmp_path / "s.npz"
    np.savez(path, mu=np.zeros(2), sigma=np.eye(2) * 1j)
    with pytest.raises(ValueError, match=r"s\.npz"):
        load_statistics(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"s\.npz is not an npz"):
        load_statistics(path)


def test_a_changed_feature_is_seen(tmp_path):
    extractor = {"name": "x", "weights": "w", "resize": "r", "implementation": "i"}
    meta = {"extractor": extractor, "images": "a", "containers": [], "skipped": 0}
    path = save_features(
        Features(values=np.ones((3, 2), np.float32), ids=list("abc"), meta=meta), tmp_path / "f.safetensors"
    )
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"f\.safetensors was changed"):
        load_statistics(path)


LINE = ImageDetections("a.png", (8, 8), {"cat": [[0.0, 0.0, 4.0, 4.0, 0.5]]}, {}, {"weights": "w"})


@pytest.mark.parametrize("score", [2.0, -1.0, 1e6])
def test_a_score_is_a_probability(score):
    line = replace(LINE, detections={"cat": [[0.0, 0.0, 4.0, 4.0, score]]}).line()
    with pytest.raises(DetectionsError, match=r"d:1.* score outside"):
        parse_line(line, "d:1")


def test_a_changed_digit_of_a_detection_is_seen():
    assert parse_line(LINE.line(), "d:1") == LINE
    with pytest.raises(DetectionsError, match="d:1: changed since"):
        parse_line(LINE.line().replace("4.0,0.5", "4.0,0.6"), "d:1")


@pytest.mark.parametrize("parse", [parse_json, parse_in_judge])
@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 70 + "]" * 70, "NaN", "9" * 30, "1" * 5000, '"\\ud800"', "{"])
def test_json_is_bounded(parse, text):
    with pytest.raises(ValueError, match="file, line 3"):
        parse(text, "file, line 3")


def test_a_sealed_document_that_was_changed_is_refused(tmp_path):
    write_sealed(tmp_path / "a.json", {"fid": 12.5})
    assert read_json(tmp_path / "a.json") == {"fid": 12.5}
    (tmp_path / "a.json").write_text((tmp_path / "a.json").read_text().replace("12.5", "11.5"))
    with pytest.raises(ValueError, match=r"a\.json was changed"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_regular_file_is_not_read(tmp_path, kind):
    path = tmp_path / "a.png"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=r"a\.png: no regular file"):
        read_json(path)
    with pytest.raises(ImageError, match=r"a\.png: no regular file"):
        read_image(path)


def test_a_line_of_pixels_and_a_changed_chunk(tmp_path):
    assert Preprocessing().resized(20_000, 1) == (1333, 1)
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    data = bytearray(file.getvalue())
    data[-20] ^= 1
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ImageError, match=r"a\.png.*checksum"):
        read_image(tmp_path / "a.png")


def test_a_config_of_any_depth_is_not_built():
    with pytest.raises(ValueError, match="cross_depth is 1000000000"):
        MARConfig(**{**asdict(MARConfig()), "cross_depth": 10**9})


def test_an_empty_preprocessor_config_is_no_detector_s(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"preprocessor_config\.json: not usable"):
        Preprocessing.from_folder(tmp_path)


def test_a_label_is_short(tmp_path):
    root = write_study(tmp_path / "study")
    study = json.loads((root / "study.json").read_text())
    study["variants"][0]["label"] = "x" * 100_000
    (root / "study.json").write_text(json.dumps(study))
    with pytest.raises(ValueError, match=r"study\.json: variants\[0\]: label: 100,000 characters"):
        read_study(root)


def test_one_training_a_folder(tmp_path):
    accelerator = make_accelerator("fp32", "cpu")
    said = f"being trained in by process {os.getpid()}"
    with alone(tmp_path, accelerator), pytest.raises(ValueError, match=said), alone(tmp_path, accelerator):
        raise AssertionError("two at once")
    assert not list(tmp_path.iterdir())


KILLED = """
import os, signal, sys
from pathlib import Path
from lightgen.disk.atomic import atomic_file
from lightgen.disk.folders import temporary_folder
with temporary_folder(Path(sys.argv[1]) / "model") as folder, atomic_file(Path(sys.argv[1]) / "a.json") as file:
    (folder / "x").write_text("half")
    file.write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=Path(__file__).parents[2])
    assert len(list(tmp_path.glob(".*.part"))) == 2
    with temporary_folder(tmp_path / "model") as folder, atomic_file(tmp_path / "a.json") as file:
        (folder / "x").write_text("whole")
        file.write(b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "model"]


@pytest.mark.parametrize("beginning", ["=", "+", "-", "@", "\t"])
def test_a_cell_of_a_table_is_no_formula(beginning):
    text = f'{beginning}HYPERLINK("http://x")'
    (row,) = csv.DictReader(io.StringIO(to_csv([{"label": text, "value": -1.5}]), newline=""))
    assert row == {"label": f"'{text}", "value": "-1.5"}


# --- what the suite and a second attack of another style found ------------------------------------------------------


def sparse(path: Path, size: int = 2**37) -> Path:
    with open(path, "r+b" if path.exists() else "wb") as file:
        file.truncate(size)
    return path


@pytest.mark.parametrize("sha256", [file_sha256, hash_in_judge])
def test_weights_longer_than_their_header_says_are_not_hashed(tmp_path, sha256):
    save_file({"a": torch.ones(3)}, tmp_path / "a.safetensors")
    assert len(sha256(tmp_path / "a.safetensors")) == 64
    for path in (sparse(tmp_path / "a.safetensors"), sparse(tmp_path / "zeros.safetensors")):
        with pytest.raises(ValueError, match=rf"{path.name}: 137,438,953,472 bytes"):
            sha256(path)
    with pytest.raises(ValueError, match=r"config\.json: 137,438,953,472 bytes; the limit is"):
        sha256(sparse(tmp_path / "config.json"))


def test_shards_without_a_manifest_are_looked_through_before_they_are_hashed(dataset):
    (dataset / "manifest.json").unlink()
    sparse(dataset / "data_000000.tar")
    with pytest.raises(ValueError, match=r"data_000000\.tar: torn or no tar archive"):
        tar_file(dataset / "data_000000.tar")


@pytest.mark.parametrize("check", [check_sizes, check_sizes_in_judge])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("layers", 100_000),
        ("hidden_size", 300_000),
        ("relative_attention_num_buckets", 10**9),
        ("context_length", 100_000),
        ("depths", [1, 10**6]),
    ],
)
def test_a_network_asks_for_no_more_than_its_weights_can_fill(tmp_path, check, name, value):
    """A library builds 100,000 layers for as long as there is time and memory."""
    save_file({"a": torch.ones(3)}, tmp_path / "model.safetensors")
    for number in (3, value):
        (tmp_path / "config.json").write_text(json.dumps({"text": {name: number, "eos_token_id": 10**9}}))
        if number == 3:
            check(tmp_path)
    with pytest.raises(ValueError, match=rf"config\.json: {name} is"):
        check(tmp_path)


def test_a_flipped_bit_in_a_checkpoint_is_seen(tmp_path):
    """torch compares no checksum of the archive that it writes."""
    path = tmp_path / "c.pth"
    torch.save({"state_dict": {"panoptic_head.a": torch.ones(64)}}, path)
    data = bytearray(path.read_bytes())
    data[data.index(torch.ones(64).numpy().tobytes()) + 1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"c\.pth: torn or no PyTorch checkpoint \(the checksum of .* differs"):
        check_sums(path)
    with pytest.raises(ValueError, match=r"c\.pth: not a checkpoint .*the checksum of"):
        read_state(path)


def test_a_converted_detector_that_was_changed_is_seen(tmp_path):
    folder = judges.make_detector(tmp_path / "detector")
    settings = folder / "preprocessor_config.json"
    said = {"sha256": "a", "weights": safetensors_sha256(folder), "preprocessing": hash_in_judge(settings)}
    (folder / "conversion.json").write_text(sealed_text(said))
    assert detector_identity(folder)["converted_from"] == "a"
    settings.write_text(settings.read_text().replace("64", "96"))
    with pytest.raises(ValueError, match=r"conversion\.json: .* changed since"):
        detector_identity(folder)


def test_a_library_s_preprocessor_scales_to_no_giant(tmp_path):
    path = tmp_path / "preprocessor_config.json"
    path.write_text('{"size": {"shortest_edge": 800, "longest_edge": 1333}}')
    check_picture_sizes(path)
    path.write_text('{"size": {"shortest_edge": 300000}}')
    with pytest.raises(ValueError, match=r"preprocessor_config\.json: size: 300000 is not"):
        check_picture_sizes(path)


def test_a_teacher_s_folder_names_no_code(tmp_path):
    index = {"_class_name": "StableDiffusionPipeline", "transformer": ["evil_code", "X"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"model_index\.json: component 'transformer' is of 'evil_code'"):
        load_painter(tmp_path)


@pytest.mark.parametrize("attempt", [try_tokenizer, try_tokenizer_in_judge])
def test_a_tokenizer_that_cannot_be_used_is_told_when_it_is_loaded(tmp_path, attempt):
    tokenizer = load_tokenizer(squares.make_text_encoder(tmp_path / "text"))
    attempt(tokenizer, "text")
    tokenizer.model_max_length = []
    with pytest.raises(ValueError, match="text: its tokenizer cannot be used"):
        attempt(tokenizer, "text")


def test_a_form_that_was_cut_is_no_shorter_request():
    headers = {"content-type": "multipart/form-data; boundary=x"}
    body = b'--x\r\nContent-Disposition: form-data; name="only_strict"\r\n\r\ntrue\r\n--x--\r\n'
    pytest.importorskip("python_multipart")
    assert asyncio.run(read_form(headers, body, 4))["only_strict"]
    with pytest.raises(ValueError, match="the form is cut"):
        asyncio.run(read_form(headers, body[:-6], 4))


def test_a_link_into_its_own_folder_brings_no_picture_twice(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert ImageFolder(tmp_path).names == ["a.png"]


def test_a_saved_data_set_that_was_damaged_is_one_line(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "d")
    state = json.loads((tmp_path / "d/state.json").read_text())
    del state["_format_kwargs"]
    (tmp_path / "d/state.json").write_text(json.dumps(state))
    with pytest.raises(ValueError, match=r"state\.json.* torn or no saved data set"):
        SavedTables(tmp_path / "d")
    sparse(tmp_path / "d/state.json")
    with pytest.raises(ValueError, match=r"state\.json: 137,438,953,472 bytes"):
        SavedTables(tmp_path / "d")


def test_numbers_without_their_report_rest_on_no_unreadable_cell(tmp_path):
    root = write_study(tmp_path / "diversity_sweep", per_task=1, copies=1)
    cell = next(root.glob("cells/small-diverse-none-s*"))
    (cell / "results.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match=rf"{cell.name}: .*results\.jsonl"):
        readable_study(root)


@pytest.mark.parametrize("name", ["images", "prompts"])
def test_a_record_s_counts_are_those_of_its_verdicts(tmp_path, name):
    root = write_study(tmp_path / "study", per_task=1, copies=1)
    path = next(root.glob("cells/small-diverse-none-s0/result.json"))
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "rests_on": {name: 10_000}}))
    (broken,) = read_study(root).incomplete()
    assert broken.state == "unreadable" and f"{name}, the record's rests_on has 10000" in broken.reason


def test_a_list_of_claims_of_another_type_is_one_line(tmp_path):
    (tmp_path / "claims.toml").write_text('title = "a"\npaper = "b"\nclaim = [1]\n')
    with pytest.raises(ValueError, match=r"claims\.toml: claim \?: expected an object"):
        build_claims(tmp_path)
    with pytest.raises(ValueError, match=r"claims\.toml: 137,438,953,472 bytes"):
        build_claims(sparse(tmp_path / "claims.toml").parent)


def test_equal_features_have_equal_bytes():
    """The library writes a description's names in any order."""
    one, other = (
        in_order(save({"a": torch.ones(3)}, metadata=dict(names)))
        for names in ([("b", "1"), ("a", "2")], [("a", "2"), ("b", "1")])
    )
    assert one == other and load(one)["a"].sum() == 3


def test_a_log_of_any_length_is_read_at_its_end(tmp_path):
    assert last_lines(tmp_path / "log.txt", 3) == []
    (tmp_path / "log.txt").write_text("".join(f"{i}\n" for i in range(300_000)))
    assert last_lines(tmp_path / "log.txt", 2) == ["299998", "299999"]
    os.mkfifo(tmp_path / "pipe")
    assert last_lines(tmp_path / "pipe", 2) == []


def test_a_study_whose_head_is_a_pipe_is_not_a_study_that_was_not_run(tmp_path):
    (tmp_path / "claims.toml").write_text(
        'title = "a"\npaper = "b"\n[[claim]]\nid = "H1"\nclaim = "c"\nplace = "d"\nchange = "e"\n'
        'study = "volume_sweep"\ncontrasts = ["slope"]\n'
    )
    (tmp_path / "volume_sweep-cpu").mkdir()
    os.mkfifo(tmp_path / "volume_sweep-cpu" / "study.json")
    with pytest.raises((ValueError, OSError), match=r"volume_sweep-cpu.study\.json"):
        build_claims(tmp_path)


def test_a_token_that_the_text_model_does_not_have_is_one_line():
    encoder = TextEncoder.from_pretrained(ROOT / "ablations/icons/components/text", 16)
    encoder.tokenizer.add_tokens(["zebra"])
    with pytest.raises(ValueError, match=r"components.text: its tokenizer gives token \d+, its text model has \d+"):
        encoder(["a photo of a zebra"])


def test_an_autoencoder_of_a_list_is_one_line(tmp_path):
    (tmp_path / "config.json").write_text('{"_class_name": ["AutoencoderKL"]}')
    with pytest.raises(ValueError, match=r"holds a .*AutoencoderKL.*; valid: "):
        autoencoder_class(tmp_path)


def test_a_folder_that_lacks_prompts_says_whose_they_are(tmp_path):
    problem = str(IncompleteFolder(tmp_path / "images", ["prompt 00000 'a dog': no folder"], tmp_path / "asked.jsonl"))
    assert f"images: not complete by the prompts of {tmp_path}/asked.jsonl, 1 problem(s)" in problem


@pytest.mark.parametrize(
    "given", ['"size": {"shortest_edge": 4982, "longest_edge": 4982}', '"size": 800, "size_divisor": 999999']
)
def test_a_detector_that_enlarges_beyond_measure_is_refused(given, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(f"{{{given}}}")
    with pytest.raises(ValueError, match="must lie in 1 to 2560 px"):
        Preprocessing.from_folder(tmp_path)


def test_a_pipeline_s_index_that_is_a_number_is_one_line(tmp_path):
    (tmp_path / "model_index.json").write_text("3.5")
    with pytest.raises(ValueError, match=r"model_index\.json: must be a JSON object"):
        load_pipeline(str(tmp_path))


@pytest.mark.parametrize("try_tokenizer", [try_tokenizer, try_tokenizer_in_judge])
def test_a_tokenizer_whose_library_panics_is_one_line(try_tokenizer):
    class Panic(BaseException):
        """Of Rust: no Exception."""

    def tokenizer(texts):
        raise Panic("no entry found for key")

    with pytest.raises(ValueError, match=r"text: its tokenizer cannot be used \(Panic: no entry"):
        try_tokenizer(tokenizer, "text")


def test_an_autoencoder_that_can_be_built_and_not_run_is_one_line(tmp_path):
    shutil.copytree(ROOT / "ablations/icons/components/vae", tmp_path / "vae")
    config = json.loads((tmp_path / "vae/config.json").read_text())
    (tmp_path / "vae/config.json").write_text(json.dumps({**config, "norm_num_groups": -1}))
    with pytest.raises(ValueError, match="vae: its autoencoder cannot be used"):
        load_autoencoder(tmp_path / "vae")


def test_a_text_model_of_a_list_is_one_line(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": ["t5"]}')
    with pytest.raises(ValueError, match="holds a model of type"):
        text_class(tmp_path)
