import json
import shutil

import pytest

from benchmarks.quality import measurement
from benchmarks.quality.config import ExtractionConfig, MeasureConfig
from benchmarks.quality.extraction import extract
from benchmarks.quality.features import load_features


def measure(generated, reference, *, name=None, skip_corrupt=False, **config):
    extraction = ExtractionConfig(name=name, skip_corrupt=skip_corrupt)
    return measurement.measure(generated, reference, MeasureConfig(extraction=extraction, **config))


def test_measure_names_carry_extractor_and_count(geneval_folder, pictures, clip_folder, tmp_path):
    result = measure(geneval_folder, pictures, extractor=clip_folder, clip=clip_folder, name="icon-clip", out=tmp_path)
    metrics = result["metrics"]
    assert {name.split("[")[0] for name in metrics} == {
        *("fid", "fid_infinity", "kid", "cmmd", "precision", "recall", "density", "coverage", "vendi", "clip_score"),
        *("prompt_vendi", "detail/spectrum_gap", "detail/laplacian_gap"),
    }
    label = load_features(tmp_path / "reference.safetensors").meta["images"][:8]
    assert metrics[f"fid[icon-clip,n=24,ref={label}]"]["n"] == 24
    assert not metrics[f"fid[icon-clip,n=24,ref={label}]"]["higher_is_better"]
    assert metrics["detail/spectrum_gap[n=24]"]["n"] == 24
    assert [size for size, _ in result["fid_by_n"]][-1] == 24
    assert result["fid_infinity"]["value"] == metrics[f"fid_infinity[icon-clip,n=24,ref={label}]"]["value"]
    assert len(result["spectrum"]["generated"]) == len(result["spectrum"]["frequencies"])
    assert metrics["clip_score[icon-clip,w=100]"]["clusters"] == 12
    low, high = metrics["clip_score[icon-clip,w=100]"]["ci"]
    assert low <= metrics["clip_score[icon-clip,w=100]"]["value"] <= high
    assert any("N = 24" in line for line in result["warnings"])
    assert len(result["clip_scores"]) == 24
    assert json.loads((tmp_path / "quality.json").read_text()) == result


def test_images_of_one_prompt_are_left_out_together(geneval_folder, pictures, clip_folder):
    def kid(generated, reference):
        metrics = measure(generated, reference, extractor=clip_folder)["metrics"]
        return next(entry for name, entry in metrics.items() if name.startswith("kid["))

    by_prompt = kid(geneval_folder, pictures)
    assert by_prompt["clusters"] == 12 and "jackknife over prompts" in by_prompt["version"]
    assert "pairs of one prompt left out" in by_prompt["version"]
    by_image = kid(pictures, geneval_folder / "00000" / "samples")
    assert "clusters" not in by_image and "jackknife over images" in by_image["version"]


def test_prompts_are_paired_by_their_text(geneval_folder, clip_folder, tmp_path):
    """The same prompts in folders of other numbers give the same KID; a fit's interval is not passed off as one."""
    names = sorted(path.name for path in geneval_folder.iterdir() if path.name.isdigit())
    for name, other in zip(names, reversed(names)):
        shutil.copytree(geneval_folder / name, tmp_path / "turned" / other)
    results = [
        measure(geneval_folder, folder, extractor=clip_folder) for folder in (geneval_folder, tmp_path / "turned")
    ]
    entries = [{name.split("[")[0]: entry for name, entry in result["metrics"].items()} for result in results]
    assert entries[0]["kid"]["value"] == pytest.approx(entries[1]["kid"]["value"], rel=1e-9)
    assert entries[0]["kid"]["ci"] == pytest.approx(entries[1]["kid"]["ci"], rel=1e-6)
    for name in ("vendi", "prompt_vendi"):
        assert entries[0][name]["higher_is_better"] is None
        assert entries[0][name]["target"] == pytest.approx(entries[0][name]["value"], rel=1e-6)
    assert entries[0]["fid_infinity"]["ci"] is None and results[0]["fid_infinity"]["stderr"] is None


def diversity(generated, reference, **options):
    """The entry of prompt_vendi, or None, and the warnings about it."""
    result = measure(generated, reference, **options)
    found = [entry for name, entry in result["metrics"].items() if name.startswith("prompt_vendi[")]
    return (found[0] if found else None), [line for line in result["warnings"] if "prompt_vendi" in line]


def copy_samples(source, root, counts):
    """A GenEval folder of as many prompts as counts, each with its number of samples; past the second, repeats."""
    for index, count in enumerate(counts):
        shutil.copytree(source / f"{index:05d}", root / f"{index:05d}")
        samples = root / f"{index:05d}" / "samples"
        if count < 2:
            (samples / "00001.png").unlink()
        for copy in range(1, count - 1):
            shutil.copyfile(samples / "00000.png", samples / f"{copy:05d}b.png")


def test_diversity_of_one_prompts_samples(geneval_folder, pictures, clip_folder, tmp_path):
    entry, _ = diversity(geneval_folder, pictures, extractor=clip_folder)
    assert entry["clusters"] == 12 and entry["n"] == 24 and entry["higher_is_better"] is None
    assert 1 < entry["ci"][0] <= entry["value"] <= entry["ci"][1] <= 2
    assert "mean over prompts, 2 images each; cosine kernel around the reference's mean" in entry["version"]
    for index in range(12):
        samples = tmp_path / f"{index:05d}" / "samples"
        shutil.copytree(geneval_folder / f"{index:05d}", samples.parent)
        shutil.copyfile(samples / "00000.png", samples / "00001.png")
    assert diversity(tmp_path, pictures, extractor=clip_folder)[0]["value"] == pytest.approx(1)


def test_diversity_names_the_range_of_copies(geneval_folder, pictures, clip_folder, tmp_path):
    copy_samples(geneval_folder, tmp_path, [2, 4, 3])
    assert "2 to 4 images each" in diversity(tmp_path, pictures, extractor=clip_folder)[0]["version"]


def test_diversity_needs_two_images_of_every_prompt(geneval_folder, pictures, clip_folder, tmp_path):
    copy_samples(geneval_folder, tmp_path, [1, 2, 2])
    entry, warnings = diversity(tmp_path, pictures, extractor=clip_folder)
    assert entry is None and "1 of 3 prompts have one image" in warnings[0]


def test_diversity_needs_prompts(pictures, clip_folder, tmp_path, write_shard):
    assert diversity(pictures, pictures, extractor=clip_folder) == (None, [])
    write_shard(tmp_path / "bare.tar", [None] * 6)
    assert diversity(tmp_path / "bare.tar", pictures, extractor=clip_folder) == (None, [])
    write_shard(tmp_path / "single.tar", list("abcdef"))
    assert diversity(tmp_path / "single.tar", pictures, extractor=clip_folder) == (None, [])
    write_shard(tmp_path / "pairs.tar", list("aabbcc"))
    assert diversity(tmp_path / "pairs.tar", pictures, extractor=clip_folder)[0]["clusters"] == 3
    captions = tmp_path / "captions.txt"
    captions.write_text("".join(f"square {index // 2}\n" for index in range(40)))
    assert diversity(pictures, pictures, extractor=clip_folder, captions=captions)[0]["clusters"] == 20


def test_detail_needs_the_images_that_the_features_are_of(geneval_folder, pictures, clip_folder, tmp_path):
    def detail(reference):
        result = measure(pictures, reference, extractor=clip_folder)
        return {name for name in result["metrics"] if name.startswith("detail/")}, " ".join(result["warnings"])

    shutil.copytree(pictures, tmp_path / "images")
    features = extract(tmp_path / "images", clip_folder, tmp_path / "features.safetensors")
    assert detail(features)[0] == {"detail/spectrum_gap[n=40]", "detail/laplacian_gap[n=40]"}
    shutil.copyfile(tmp_path / "images" / "000.png", tmp_path / "images" / "001.png")
    found, warnings = detail(features)
    assert not found and "detail was not measured" in warnings


def test_detail_of_unequal_sizes_is_a_warning(pictures, clip_folder, tmp_path, picture):
    for index in range(8):
        picture(index, size=32 + index).save(tmp_path / f"{index}.png")
    result = measure(tmp_path, pictures, extractor=clip_folder)
    assert any("images of one size" in line for line in result["warnings"])


def test_a_set_against_itself_is_at_distance_zero(pictures, clip_folder, tmp_path):
    features = extract(pictures, clip_folder, tmp_path / "reference.safetensors", ExtractionConfig(name="icon-clip"))
    metrics = measure(pictures, features, extractor=clip_folder, name="icon-clip", reference_name="icons")["metrics"]
    assert abs(metrics["fid[icon-clip,n=40,ref=icons]"]["value"]) < 1e-4
    assert metrics["precision[icon-clip,n=40,ref=icons]"]["value"] == 1
    assert metrics["coverage[icon-clip,n=40,ref=icons]"]["value"] == 1


def test_features_of_another_extractor_are_refused(pictures, clip_folder, other_clip_folder, tmp_path):
    features = extract(pictures, other_clip_folder, tmp_path / "reference.safetensors")
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


def test_captions_that_do_not_match_are_refused_before_anything_is_computed(pictures, clip_folder, tmp_path):
    captions = tmp_path / "captions.txt"
    captions.write_text("one\ntwo\n")
    with pytest.raises(ValueError, match="2 captions for 40 images"):
        measure(pictures, pictures, extractor=clip_folder, captions=captions, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_mean_and_covariance_are_no_reference_for_every_metric(pictures, clip_folder, tmp_path):
    with pytest.raises(ValueError, match="of which only an FID can be made"):
        measure(pictures, tmp_path / "statistics.npz", extractor=clip_folder)
