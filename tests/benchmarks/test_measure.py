import json

import pytest

from benchmarks.quality.features import extract, load_features
from benchmarks.quality.measure import measure


def test_measure_names_carry_extractor_and_count(geneval_folder, pictures, clip_folder, tmp_path):
    result = measure(geneval_folder, pictures, extractor=clip_folder, clip=clip_folder, name="icon-clip", out=tmp_path)
    metrics = result["metrics"]
    assert {name.split("[")[0] for name in metrics} == {
        *("fid", "fid_infinity", "kid", "cmmd", "precision", "recall", "density", "coverage", "vendi", "clip_score")
    }
    assert metrics["fid[icon-clip,n=24]"]["n"] == 24
    assert not metrics["fid[icon-clip,n=24]"]["higher_is_better"]
    assert metrics["clip_score[icon-clip,w=100]"]["clusters"] == 12
    low, high = metrics["clip_score[icon-clip,w=100]"]["ci"]
    assert low <= metrics["clip_score[icon-clip,w=100]"]["value"] <= high
    assert any("N = 24" in line for line in result["warnings"])
    assert len(result["clip_scores"]) == 24
    assert json.loads((tmp_path / "quality.json").read_text()) == result


def test_a_set_against_itself_is_at_distance_zero(pictures, clip_folder, tmp_path):
    features = extract(pictures, clip_folder, tmp_path / "reference.safetensors", name="icon-clip")
    metrics = measure(pictures, features, extractor=clip_folder, name="icon-clip", reference_name="icons")["metrics"]
    assert abs(metrics["fid[icon-clip,n=40,ref=icons]"]["value"]) < 1e-4
    assert metrics["precision[icon-clip,n=40,ref=icons]"]["value"] == 1
    assert metrics["coverage[icon-clip,n=40,ref=icons]"]["value"] == 1


def test_features_of_another_extractor_are_refused(pictures, clip_folder, other_clip_folder, tmp_path):
    features = extract(pictures, other_clip_folder, tmp_path / "reference.safetensors", name="icon-clip")
    with pytest.raises(ValueError, match="different extractors do not compare: weights"):
        measure(pictures, features, extractor=clip_folder, name="icon-clip")


def test_clip_score_without_prompts_is_refused(pictures, clip_folder):
    with pytest.raises(ValueError, match="no prompt"):
        measure(pictures, pictures, extractor=clip_folder, clip=clip_folder)


def test_captions_file_gives_the_prompts(pictures, clip_folder, tmp_path):
    captions = tmp_path / "captions.txt"
    captions.write_text("".join(f"square {index}\n" for index in range(40)))
    metrics = measure(pictures, pictures, extractor=clip_folder, clip=clip_folder, captions=captions)["metrics"]
    assert metrics["clip_score[icon-clip,w=100]"]["clusters"] == 40


def test_features_are_reused(pictures, clip_folder, tmp_path):
    first = extract(pictures, clip_folder, tmp_path / "f.safetensors")
    changed = first.stat().st_mtime_ns
    extract(pictures, clip_folder, tmp_path / "f.safetensors")
    assert first.stat().st_mtime_ns == changed
    assert load_features(first).values.shape == (40, 24)
