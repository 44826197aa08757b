"""One grammar of CLIP names, each spelling of a model the same source; missing weights are named."""

import pytest

from geneval.clip import find_clip, is_clip_name, load_clip
from geneval.embedded import CLIPS
from geneval.weights import WeightFile


@pytest.fixture
def cached(monkeypatch, tmp_path):
    """A cache that holds every repository's file."""
    weights = tmp_path / "open_clip_model.safetensors"
    weights.write_bytes(b"0")
    monkeypatch.setattr(WeightFile, "path", lambda self: weights)
    return weights


@pytest.mark.parametrize(
    "name", ["ViT-L-14", "ViT-L-14-quickgelu", "ViT-L-14:openai", "clip-ViT-L-14", "clip-ViT-L-14@openai"]
)
def test_openais_weights_are_never_run_with_plain_gelu(name, cached):
    source = find_clip(name)
    assert (source.architecture, source.tag, source.file) == ("ViT-L-14-quickgelu", "openai", cached)
    assert source.identity["name"] == "ViT-L-14-quickgelu:openai" and source.label == name


def test_other_tags_and_files_keep_their_architecture(cached):
    for name in ("ViT-B-32:laion2b_s34b_b79k", "clip-ViT-B-32@laion2b_s34b_b79k"):
        assert find_clip(name).identity["name"] == "ViT-B-32:laion2b_s34b_b79k"
    source = find_clip(f"ViT-B-32:{cached}")
    assert source.identity["name"] == source.label == "ViT-B-32" and not source.tag


def test_a_folder_and_an_embedded_name_are_the_same_network(clip_folder):
    named, folder = load_clip("icon-clip"), load_clip(CLIPS["icon-clip"], label="icon-clip")
    assert (named.name, named.weights, named.source.identity) == (folder.name, folder.weights, folder.source.identity)
    assert find_clip(clip_folder).label == clip_folder.name
    assert is_clip_name(clip_folder) and is_clip_name("icon-clip") and is_clip_name("clip-ViT-B-32")
    assert not is_clip_name("dinov2-vitl14")


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"open_clip_model\.safetensors .*1711 MB.* or give ViT-L-14-"):
        find_clip("ViT-L-14-quickgelu")
    with pytest.raises(FileNotFoundError, match="open_clip_config"):
        find_clip(tmp_path)
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="safetensors"):
        find_clip(tmp_path)
    with pytest.raises(ValueError, match="neither a folder nor an open_clip model"):
        find_clip("ViT-Z-1-quickgelu")
    with pytest.raises(ValueError, match=r"valid: .*laion2b_s34b_b79k"):
        find_clip("ViT-B-32:no-such-tag")
