"""A folder to its detections and its score with real (tiny, random) networks: resume, shards, batches, damage."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from geneval.completeness import IncompleteFolder
from geneval.detect import detect_images
from geneval.detections import read_detections
from geneval.layout import sample_path, write_prompt_folder
from geneval.prompts import Clause, Prompt, prompt_suite
from geneval.scores import score_folder

PROMPTS = prompt_suite(["cat", "dog", "bus"], num_prompts=2)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two noise pictures a prompt, of two sizes."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for index, prompt in enumerate(PROMPTS):
        write_prompt_folder(root, index, prompt)
        for copy, size in enumerate(((32, 32), (40, 24))):
            noise = rng.integers(0, 256, (size[1] // 4, size[0] // 4, 3), dtype=np.uint8)
            Image.fromarray(noise).resize(size).save(sample_path(root, index, copy))
    return root


@pytest.fixture
def images(pictures, tmp_path):
    return shutil.copytree(pictures, tmp_path / "images")


@pytest.fixture(scope="module")
def detected(pictures, detector_folder, clip_folder, tmp_path_factory):
    """The same folder after a whole run."""
    root = shutil.copytree(pictures, tmp_path_factory.mktemp("detected") / "images")
    detect_images(root, detector_folder, clip_folder, device="cpu", batch_size=5)
    return root


def _text(root):
    return (root / "detections.jsonl").read_text()


def test_a_folder_is_detected_and_scored(detected, tmp_path):
    lines = read_detections(detected)
    assert len(lines) == 2 * len(PROMPTS)
    line = lines["00000/samples/00001.png"]
    assert line.size == (40, 24) and sum(map(len, line.detections.values())) == 6 * 3
    assert not line.detector["comparable"] and len(line.detector["weights"]) == 64
    assert any(answer for found in lines.values() for answers in found.colors.values() for answer in answers)
    rows = score_folder(detected, tmp_path / "results.jsonl", prompts=PROMPTS)
    assert len(rows) == 2 * len(PROMPTS)
    for threshold in (0.15, 0.5):  # what lies on disk serves other thresholds too
        score_folder(detected, options={"threshold": threshold, "counting_threshold": threshold}, prompts=PROMPTS)


def test_options_that_were_decided_by_detect_are_not_taken_by_score(detected):
    score_folder(detected, options={"crop": "1", "bgcolor": "#999"}, prompts=PROMPTS)
    for option in ({"crop": "0"}, {"bgcolor": "original"}, {"clip_model": "ViT-B-32-quickgelu"}):
        with pytest.raises(ValueError, match="belongs to `detect`"):
            score_folder(detected, options=option, prompts=PROMPTS)


def test_results_do_not_depend_on_the_batch(detected, images, detector_folder, clip_folder):
    detect_images(images, detector_folder, clip_folder, device="cpu", batch_size=1)
    one, five = read_detections(images), read_detections(detected)
    assert one.keys() == five.keys()
    for name in one:
        for kind, rows in one[name].detections.items():
            ours = sorted(row[4] for row in rows)
            theirs = sorted(row[4] for row in five[name].detections[kind])
            assert ours == pytest.approx(theirs, abs=1e-4)


def test_a_killed_run_goes_on(detected, images, detector_folder, clip_folder):
    """Half of the lines and a torn one are there; one picture has changed since."""
    lines = _text(detected).splitlines(keepends=True)
    (images / "detections.jsonl.partial").write_text("".join(lines[:9]) + lines[9][:40])
    Image.new("RGB", (32, 32), "red").save(images / "00000" / "samples" / "00000.png")
    seen = []
    detect_images(images, detector_folder, clip_folder, device="cpu", progress=lambda done, total: seen.append(done))
    assert seen[0] > 8 and seen[-1] == len(lines)
    found = _text(images).splitlines(keepends=True)
    assert found[1:9] == lines[1:9] and found[0] != lines[0] and len(found) == len(lines)
    assert not (images / "detections.jsonl.partial").exists()


def test_a_finished_folder_is_not_touched(detected, detector_folder, clip_folder):
    before = (detected / "detections.jsonl").stat().st_mtime_ns
    detect_images(detected, detector_folder, clip_folder, device="cpu")
    assert (detected / "detections.jsonl").stat().st_mtime_ns == before


@pytest.mark.parametrize("processes", [2, 3])
def test_the_judged_list_does_not_depend_on_the_number_of_processes(
    processes, detected, images, detector_folder, clip_folder
):
    for i in range(processes):
        detect_images(images, detector_folder, clip_folder, device="cpu", shard=(i, processes))
    assert read_detections(images).keys() == read_detections(detected).keys()
    ours, whole = score_folder(images, prompts=PROMPTS), score_folder(detected, prompts=PROMPTS)
    names = [[row["filename"].split("/images/")[1] for row in rows] for rows in (ours, whole)]
    assert names[0] == names[1] and len(ours) == 2 * len(PROMPTS)


def test_another_detectors_file_is_not_continued(detected, images, detector_folder, clip_folder, tmp_path):
    shutil.copy(detected / "detections.jsonl", images)
    other = shutil.copytree(detector_folder, tmp_path / "other")
    settings = json.loads((other / "preprocessor_config.json").read_text()) | {"pad_value": 0}
    (other / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="another detector or other settings"):
        detect_images(images, other, clip_folder, device="cpu")


def test_damaged_pictures_are_listed_and_the_rest_is_kept(images, detector_folder, clip_folder):
    sample_path(images, 0, 0).write_bytes(b"not a picture")
    torn = sample_path(images, 1, 0)
    torn.write_bytes(torn.read_bytes()[:60])
    with pytest.raises(IncompleteFolder) as caught:
        detect_images(images, detector_folder, clip_folder, device="cpu")
    assert len(caught.value.problems) == 2 and "00000/samples/00000.png" in str(caught.value)
    left_out = []
    detect_images(images, detector_folder, clip_folder, device="cpu", allow_partial=True, left_out=left_out.append)
    assert left_out == caught.value.problems
    with pytest.raises(IncompleteFolder, match=r"not in detections\.jsonl"):
        score_folder(images, prompts=PROMPTS)
    rows = score_folder(images, prompts=PROMPTS, allow_partial=True)
    assert len(rows) == 2 * len(PROMPTS) - 2 and rows[0]["partial"]


def test_what_would_score_zero_in_silence_is_refused(images, detector_folder, clip_folder):
    with pytest.raises(FileNotFoundError, match="ViT-L-14-quickgelu:openai needs open_clip_model"):
        detect_images(images, detector_folder, None)
    write_prompt_folder(images, 99, Prompt("single_object", "a photo of a cow", (Clause("cow", 1),)))
    Image.new("RGB", (32, 32)).save(sample_path(images, 99, 0))
    with pytest.raises(ValueError, match="does not know: cow"):
        detect_images(images, detector_folder, clip_folder, device="cpu")


def test_weights_of_another_shape_or_missing_ones_are_refused(images, detector_folder, clip_folder, tmp_path):
    folder = shutil.copytree(detector_folder, tmp_path / "broken")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_queries": 7, "decoder_layers": 3}))
    with pytest.raises(ValueError, match="not a Mask2Former folder"):
        detect_images(images, folder, clip_folder, device="cpu")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a Mask2Former folder"):
        detect_images(images, folder, clip_folder, device="cpu")
    (folder / "conversion.json").write_text("{}")
    with pytest.raises(ValueError, match=r"conversion\.json: not written by `convert`"):
        detect_images(images, folder, clip_folder, device="cpu")
    (folder / "conversion.json").unlink()
    clip = shutil.copytree(clip_folder, tmp_path / "clip")
    (clip / "open_clip_model.safetensors").write_bytes(b"torn")
    with pytest.raises(ValueError, match="open_clip cannot load this"):
        detect_images(images, detector_folder, clip, device="cpu")
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="safetensors"):
        detect_images(images, folder, clip_folder, device="cpu")
    with pytest.raises(FileNotFoundError, match="geneval convert"):
        detect_images(images, tmp_path / "nowhere", clip_folder)
