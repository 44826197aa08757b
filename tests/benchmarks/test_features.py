"""Features through every kind of extractor, in real file formats with random weights."""

import numpy as np
import pytest

from benchmarks.quality.clip_score import score_images
from benchmarks.quality.config import ExtractionConfig, MeasureConfig
from benchmarks.quality.extraction import extract, extract_statistics
from benchmarks.quality.extractors import load_extractor
from benchmarks.quality.features import load_features, load_moments
from benchmarks.quality.frechet import fid
from benchmarks.quality.measurement import measure
from benchmarks.quality.spectrum import compare_detail
from benchmarks.quality.weights import DINOV2, findings
from benchmarks.speed.quality import write_random_inception
from geneval.clip import load_clip
from geneval.embedded import CLIPS
from geneval.weights import MissingWeights, WeightFile, require


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory):
    return write_random_inception(tmp_path_factory.mktemp("weights") / "inception.pth")


def test_inception_features_and_fid_equal_torch_fidelity(inception_weights, pictures, tmp_path, picture):
    import torch_fidelity

    second = tmp_path / "second"
    second.mkdir()
    for index in range(6):
        picture(500 + index, size=48).save(second / f"{index}.png")
    first = tmp_path / "first"
    first.mkdir()
    for index in range(6):
        picture(index, size=48).save(first / f"{index}.png")
    config = ExtractionConfig(weights=inception_weights)
    ours = [
        load_features(extract(folder, "inception-v3-compat", tmp_path / f"{folder.name}.st", config))
        for folder in (first, second)
    ]
    theirs = torch_fidelity.calculate_metrics(
        input1=str(first),
        input2=str(second),
        fid=True,
        cuda=False,
        save_cpu_ram=True,
        verbose=False,
        cache=False,
        feature_extractor_weights_path=str(inception_weights),
    )
    with pytest.warns(UserWarning, match="N = 6 images for 2048"):
        value = fid(ours[0].values, ours[1].values)
    assert value == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)
    assert ours[0].meta["extractor"]["resize"] == "tensorflow1-bilinear-299"


def test_clean_inception_feeds_unrounded_pixels_through_the_same_network(inception_weights, picture):
    """At 299 px no resize is left, so both ways must agree; below they differ by the resize alone."""
    clean = load_extractor("inception-v3-compat-clean", weights=inception_weights)
    plain = load_extractor("inception-v3-compat", weights=inception_weights)
    large, small = picture(1, size=299), picture(1, size=64)
    np.testing.assert_allclose(clean([clean.prepare(large)]), plain([plain.prepare(large)]), rtol=1e-3, atol=1e-4)
    assert not np.allclose(clean([clean.prepare(small)]), plain([plain.prepare(small)]), rtol=1e-2, atol=1e-2)


def test_clip_features_do_not_depend_on_the_batch(pictures, clip_folder, tmp_path):
    one = load_features(extract(pictures, clip_folder, tmp_path / "a.safetensors", ExtractionConfig(batch_size=7)))
    other = load_features(extract(pictures, clip_folder, tmp_path / "b.safetensors", ExtractionConfig(batch_size=40)))
    np.testing.assert_allclose(one.values, other.values, atol=1e-5)
    assert one.ids == [f"{index:03d}.png" for index in range(40)]
    assert one.values.dtype == np.float32


@pytest.mark.parametrize("size", [32, 48])
def test_clip_features_are_those_of_open_clips_own_transform(size, clip_folder, picture):
    """To the bit, though pictures are scaled a batch at a time, and not resized where they fit."""
    import torch

    clip, network = load_clip(clip_folder), load_extractor(clip_folder)
    images = [picture(index, size=size) for index in range(5)]
    with torch.inference_mode():
        expected = clip.network.encode_image(torch.stack([clip.preprocess(image) for image in images]))
    np.testing.assert_array_equal(network([network.prepare(image) for image in images]), expected.numpy())


def test_dinov2_folder_gives_the_class_token(pictures, tmp_path):
    import torch
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    folder = tmp_path / "dinov2"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Dinov2Model(Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28))
    model.save_pretrained(folder)
    BitImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}).save_pretrained(folder)
    features = load_features(extract(pictures, folder, tmp_path / "f.safetensors", ExtractionConfig(limit=5)))
    assert features.values.shape == (5, 16)
    assert features.meta["extractor"]["implementation"] == "transformers"


def test_streamed_statistics_equal_those_of_the_features(pictures, clip_folder, tmp_path):
    streamed = extract_statistics(pictures, clip_folder)
    kept = load_moments(extract(pictures, clip_folder, tmp_path / "f.safetensors"))
    np.testing.assert_allclose(streamed.covariance, kept.covariance, atol=1e-12)
    assert streamed.meta["images"] == kept.meta["images"]


def test_processes_share_the_work_and_a_killed_run_continues(pictures, clip_folder, tmp_path, monkeypatch):
    from benchmarks.quality import extraction

    monkeypatch.setattr(extraction, "_PART", 8)
    out = tmp_path / "shared.safetensors"
    extract(pictures, clip_folder, out, shard=(0, 2))
    assert not out.exists()
    extract(pictures, clip_folder, out, shard=(1, 2))
    monkeypatch.undo()
    alone = load_features(extract(pictures, clip_folder, tmp_path / "alone.safetensors"))
    shared = load_features(out)
    assert shared.ids == alone.ids and shared.meta["images"] == alone.meta["images"]
    np.testing.assert_allclose(shared.values, alone.values, atol=1e-5)
    assert not list(tmp_path.glob(".*parts"))


def test_corrupt_images_are_counted_refused_and_skipped_on_request(clip_folder, tmp_path, picture):
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(10):
        picture(index).save(folder / f"{index}.png")
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:60])
    (folder / "7.png").write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"2 of 10 images .* cannot be read \(3\.png"):
        extract(folder, clip_folder, tmp_path / "f.safetensors")
    features = load_features(
        extract(folder, clip_folder, tmp_path / "f.safetensors", ExtractionConfig(skip_corrupt=True))
    )
    assert len(features.ids) == 8 and features.meta["skipped"] == 2


def test_every_number_of_a_set_with_corrupt_images_says_so(clip_folder, tmp_path, picture):
    folder, captions = tmp_path / "images", tmp_path / "captions.txt"
    folder.mkdir()
    for index in range(10):
        picture(index).save(folder / f"{index}.png")
    (folder / "4.png").write_bytes((folder / "4.png").read_bytes()[:100])
    captions.write_text("".join(f"square {index}\n" for index in range(10)))
    for measured in (
        lambda **options: score_images(folder, clip_folder, captions=captions, **options)[0],
        lambda **options: compare_detail(folder, folder, **options)["metrics"],
        lambda **options: measure(
            folder,
            folder,
            MeasureConfig(
                extractor=clip_folder, clip=clip_folder, captions=captions, extraction=ExtractionConfig(**options)
            ),
        )["metrics"],
    ):
        with pytest.raises(ValueError, match=r"1 of 10 images .* cannot be read \(4\.png"):
            measured()
        assert all("skipped=" in name for name in measured(skip_corrupt=True))


def test_the_embedded_clip_has_a_name():
    named, folder = load_extractor("icon-clip"), load_extractor(CLIPS["icon-clip"], name="icon-clip")
    assert named.identity == folder.identity


def test_missing_weights_say_which_file_and_where(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(MissingWeights, match=r"weights-inception-2015-12-05-6726825d\.pth .* 96 MB"):
        load_extractor("inception-v3-compat")
    found = {finding.subject: finding for finding in findings()}["inception-v3-compat"]
    assert not found.is_here and str(tmp_path) in found.text and "sha256 6726825d..." in found.text


def test_missing_hub_weights_say_which_cache_folder_to_copy(monkeypatch):
    monkeypatch.setattr(WeightFile, "path", lambda self: None)
    with pytest.raises(MissingWeights, match=r"1218 MB.* copy .*models--facebook--dinov2-large from .* `hf download"):
        load_extractor("dinov2-vitl14")


def test_broken_weights_are_noticed(pictures, clip_folder, tmp_path):
    from dataclasses import replace

    network = load_extractor(clip_folder)
    broken = replace(network, forward=lambda batch: network.forward(batch) * float("nan"))
    with pytest.raises(ValueError, match="gave NaN or infinite features"):
        extract(pictures, broken, tmp_path / "f.safetensors")
    assert not (tmp_path / "f.safetensors").exists()


def test_a_wrong_file_under_the_official_name_is_noticed(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    assert findings()[0].is_here
    found = findings(verify=True)[0]
    assert not found.is_here and "wrong file" in found.text
    with pytest.raises(ValueError, match="does not hold the FID Inception"):
        load_extractor("inception-v3-compat")


def test_incomplete_folders_are_refused(clip_folder, tmp_path):
    import shutil

    shutil.copy(clip_folder / "open_clip_config.json", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"open_clip_model\.safetensors"):
        load_extractor(tmp_path)
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"torn")
    with pytest.raises(ValueError, match="open_clip cannot load this"):
        load_extractor(tmp_path)
    with pytest.raises(ValueError, match="no extractor nonsense"):
        load_extractor("nonsense")


def test_damaged_feature_files_are_refused(tmp_path):
    path = tmp_path / "f.safetensors"
    path.write_bytes(b"torn")
    with pytest.raises(ValueError, match="damaged"):
        load_features(path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_features(tmp_path / "missing.safetensors")


def test_weights_without_their_configuration_are_missing(monkeypatch, tmp_path):
    model = tmp_path / "model.safetensors"
    model.write_bytes(b"0" * 8)
    monkeypatch.setattr(WeightFile, "path", lambda self: model if self.repository.startswith("facebook") else None)
    with pytest.raises(MissingWeights, match=r"config\.json, preprocessor_config\.json of facebook"):
        require("dinov2-vitl14", DINOV2)
    (found,) = findings(["dinov2-vitl14"])
    assert not found.is_here and "without config.json, preprocessor_config.json" in found.text
    (tmp_path / "config.json").touch()
    (tmp_path / "preprocessor_config.json").touch()
    assert require("dinov2-vitl14", DINOV2) == model
    assert findings(["dinov2-vitl14"])[0].is_here
