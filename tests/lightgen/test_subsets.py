"""Subsets: narrow against diverse at equal N and caption length, the same ids anywhere, what cannot be is told."""

import json
import subprocess
import sys

import numpy as np
import pytest

from lightgen.data.clusters import clusters
from lightgen.data.config import EncodeConfig, SubsetConfig
from lightgen.data.diversity import conditional_vendi, measures, rank_agreement, vendi
from lightgen.data.encoding import encode_dataset
from lightgen.data.matching import even_quotas, matched_draw
from lightgen.data.mentions import Vocabulary, plurals_of
from lightgen.data.pool import Pool, caption_features, image_features, is_held_out, read_pool
from lightgen.data.subsets import Grouped, draw, draw_subset, read_subset
from lightgen.model.encoders import ImageTokenizer, TextEncoder


def pool_of(count, captions, seed=0, dimensions=16, groups=20):
    """Captions whose features lie around centers, and whose length goes with their center."""
    rng = np.random.default_rng(seed)
    center = rng.integers(0, groups, captions)
    spread = rng.integers(-90, 90, (groups, dimensions))
    features = np.clip(spread[center] + rng.normal(0, 10, (captions, dimensions)), -127, 127).round().astype(np.int16)
    lengths = 20 + center + rng.integers(0, 30, captions)
    texts = [f"{'x' * (int(n) - 9)} {number:08d}" for number, n in enumerate(lengths)]
    caption = rng.integers(0, captions, count)
    numbers = {"score": rng.normal(5, 1, count) + 0.05 * center[caption]}
    return Pool("cache", texts, caption, [f"key{number}" for number in range(count)], numbers), features


def grouped(pool, features, by="clusters", count=20):
    own = clusters(features, count)
    cluster = own[pool.caption]
    return Grouped(pool, cluster if by == "clusters" else pool.caption, cluster, features, pool.caption)


@pytest.fixture(scope="module")
def data():
    return grouped(*pool_of(6000, 3000))


def lengths(data, found):
    return np.array([len(data.pool.captions[c]) for c in data.pool.caption[found["ids"]]])


def test_narrow_and_diverse_have_equal_numbers_and_lengths(data):
    pool = np.array([len(caption) for caption in data.pool.captions])[data.pool.caption]
    for seed in range(3):
        shared = {"images": 500, "seed": seed, "room": 1000}
        narrow = draw(data, SubsetConfig(diversity="narrow", narrow=0.25, **shared))
        diverse = draw(data, SubsetConfig(diversity="diverse", **shared))
        assert len(set(narrow["ids"])) == len(set(diverse["ids"])) == 500
        gap = abs(lengths(data, narrow).mean() - lengths(data, diverse).mean()) / pool.std()
        assert gap < 0.1
        assert (narrow["groups"]["taken"], diverse["groups"]["taken"]) == (5, 20)
        for name in ("effective_clusters", "vendi", "clusters"):
            assert narrow["diversity"][name] < 0.7 * diverse["diversity"][name], name
    counts = np.bincount(data.cluster[diverse["ids"]])
    assert counts.min() >= 20 and counts.max() <= 30, "evenly over all clusters"


def test_subsets_of_several_sizes_come_from_the_same_groups(data):
    small, large = (draw(data, SubsetConfig(images=n, diversity="4", room=800, seed=3)) for n in (200, 800))
    assert set(data.cluster[small["ids"]]) == set(data.cluster[large["ids"]])


def test_any_number_can_be_matched(data):
    found = draw(data, SubsetConfig(images=600, diversity="6", match=("score",)))
    rows = {row["column"]: row for row in found["balance"]}
    assert abs(rows["score"]["difference"]) < 0.05 and abs(rows["caption_length"]["difference"]) < 0.05
    assert {"caption_words"} <= set(rows)
    with pytest.raises(ValueError, match="no number beauty to match; there are caption_length, caption_words, score"):
        draw(data, SubsetConfig(match=("beauty",)))


def test_the_same_seed_gives_the_same_ids_and_others_give_others(data):
    """The hash is of one machine; whole numbers make it that of any."""
    again = grouped(*pool_of(6000, 3000))
    first, second = (draw(d, SubsetConfig(images=300, diversity="5", seed=1))["ids"] for d in (data, again))
    assert first == second != draw(data, SubsetConfig(images=300, diversity="5", seed=2))["ids"]


def test_few_captions_with_many_images_against_many():
    pool, features = pool_of(4000, 200)
    data = grouped(pool, features, by="captions")
    narrow, diverse = (
        draw(data, SubsetConfig(images=300, diversity=diversity, by="captions", narrow=0.15))
        for diversity in ("narrow", "diverse")
    )
    assert narrow["diversity"]["distinct_captions"] == 30 and diverse["diversity"]["distinct_captions"] == 200
    with pytest.raises(ValueError, match=r"2 of 200 captions hold \d\d images at most, not 300; take --images \d\d"):
        draw(data, SubsetConfig(images=300, diversity="2", by="captions"))


def test_held_out_samples_are_in_no_subset_and_stay_held_out(data):
    found = draw(data, SubsetConfig(images=500, held_out=0.2))
    held = {number for number, key in enumerate(data.pool.keys) if is_held_out(key, 0.2)}
    assert not held & set(found["ids"]) and 0.15 < len(held) / 6000 < 0.25
    assert all(is_held_out(key, 0.3) for key in data.pool.keys if is_held_out(key, 0.2))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"diversity": "21"}, "--diversity 21: there are 20 clusters; give 20 or fewer"),
        ({"images": 7000}, "20 of 20 clusters hold 6000 images at most, not 7,000; take --images 6000 or fewer"),
    ],
)
def test_what_cannot_be_drawn_says_what_can(data, config, says):
    with pytest.raises(ValueError, match=says):
        draw(data, SubsetConfig(**config))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"diversity": "wide"}, "valid: narrow, diverse, or a number of groups"),
        ({"diversity": "0"}, "valid: narrow"),
        ({"images": 0}, "at least 1"),
        ({"held_out": 1.0}, "held_out is 1.0"),
    ],
)
def test_settings_that_make_no_sense(config, says):
    with pytest.raises(ValueError, match=says):
        SubsetConfig(**config)


def test_groups_whose_captions_are_all_long_or_all_short_cannot_be_matched():
    captions, caption = ["short", "x" * 100], np.repeat([0, 1], 50)
    pool = Pool("cache", captions, caption, [str(n) for n in range(100)])
    data = Grouped(pool, caption, caption, np.eye(2, dtype=np.int16), caption)
    with pytest.raises(ValueError, match=r"20 images of 1 captions stay 1\.00 deviations .* in caption_length; take"):
        draw(data, SubsetConfig(images=20, diversity="1", by="captions"))


# --- the parts --------------------------------------------------------------------------------------------------------


def test_clusters_find_what_lies_together_exactly():
    _, features = pool_of(100, 2000)
    found = clusters(features, 20)
    assert np.array_equal(found, clusters(features.copy(), 20)) and len(np.unique(found)) == 20
    inside = np.mean([features[found == k].std(0).mean() for k in range(20)])
    assert inside < 0.5 * features.std(0).mean()
    with pytest.raises(ValueError, match="3 clusters of 2 different captions or images; ask for 2 or fewer"):
        clusters(np.repeat(np.eye(2, dtype=np.int16), 5, 0), 3)


def test_quotas_are_even_and_use_what_small_groups_cannot():
    assert even_quotas(np.array([5, 100, 100]), 60, np.array([2, 1, 0])).tolist() == [5, 27, 28]
    assert even_quotas(np.array([5, 0, 7]), 12, np.array([0, 2])).tolist() == [5, 0, 7]
    assert even_quotas(np.array([9, 9, 9]), 4, np.array([1, 0, 2])).tolist() == [1, 2, 1]


def test_a_matched_draw_takes_its_quotas_and_the_mean():
    rng = np.random.default_rng(0)
    group, columns = np.repeat([0, 1], 500), rng.normal(0.3, 1, (1000, 2))
    rows, left = matched_draw(group, np.array([50, 20]), columns, rng.gumbel(size=1000))
    assert np.bincount(group[rows]).tolist() == [50, 20] and np.abs(left).max() < 0.05
    np.testing.assert_allclose(columns[rows].mean(0), left)


def test_vendi_scores_against_closed_forms():
    assert vendi(np.eye(7)) == pytest.approx(7) and vendi(np.ones((7, 3))) == pytest.approx(1)
    pairs = np.array([[1.0, 0], [0, 1], [1, 0], [1, 0], [0, 1]])
    assert conditional_vendi(pairs, np.array([3, 3, 8, 8, 9])) == (pytest.approx(1.5), 2)
    assert conditional_vendi(pairs, np.arange(5)) is None
    found = measures(np.array([0, 0, 1, 2]), np.array([0, 0, 1, 1]), np.eye(4))
    assert found["effective_clusters"] == pytest.approx(2) and found["distinct_captions"] == 3
    probes = [{"a": n, "b": n**2, "c": -n} for n in range(5)]
    assert rank_agreement(probes, ("a", "b", "c")) == pytest.approx({"a, b": 1, "a, c": -1, "b, c": -1})


WORDS = Vocabulary(["dog", "fire hydrant", "bus", "knife", "person", "sheep", "hot dog"])


@pytest.mark.parametrize(
    ("caption", "composition"),
    [
        ("A photo of two Dogs and a red fire hydrant", ("2 dog", "dog", "fire hydrant", "red fire hydrant")),
        ("three buses left of a knife", ("3 bus", "bus", "bus left of knife", "knife")),
        ("a big black dog on top of a bus", ("black dog", "bus", "dog", "dog above bus")),
        ("a hot dog", ("hot dog",)),
        ("people with knives", ("knife", "person")),
        ("a dogma of buses?", ("bus",)),
        ("red sky; a very large and old dog", ("dog",)),
        ("nothing at all", ()),
    ],
)
def test_what_a_caption_names(caption, composition):
    assert WORDS.mentions(caption).composition == composition


def test_plurals():
    assert plurals_of("knife") == ["knifes", "knives"] and plurals_of("bus") == ["buss", "buses"]
    assert plurals_of("person") == ["persons", "people"]


# --- from a cache -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cache(tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("subsets") / "latents"
    parts = {"tokenizer": ImageTokenizer.from_pretrained(tiny.vae)}
    encode_dataset(tiny.dataset, out, EncodeConfig(), text=TextEncoder.from_pretrained(tiny.text_encoder, 12), **parts)
    return out


def test_a_pool_is_what_the_cache_holds(cache, tiny):
    pool, once = read_pool(cache), read_pool(tiny.latents)
    assert len(pool) == 40 and len(pool.captions) == 4 and pool.keys[39] == "00000039"
    for both in (pool, once):
        assert [both.captions[c] for c in both.caption[:2]] == ["a red square", "a big green square"]
    assert caption_features(cache, pool).shape == (4, 8) and image_features(cache, pool).shape == (40, 32)


def test_the_command_writes_ids_that_training_takes(cache, tiny, tmp_path):
    command = [sys.executable, "-m", "lightgen", "subset", cache, "--out", tmp_path / "s.json", "--clusters", "4"]
    done = subprocess.run([*command, "--images", "12", "--diversity", "4"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "12 images of 4 of 4 clusters" in done.stdout and "rank agreement of distinct_captions, vendi" in done.stdout
    assert "caption_length" in done.stdout and "conditional_vendi" in done.stdout
    found = json.loads((tmp_path / "s.json").read_text())
    identity = json.loads((cache / "index.json").read_text())["identity"]
    assert read_subset(tmp_path / "s.json", identity) == found["ids"] and len(found["ids"]) == 12
    with pytest.raises(ValueError, match="drawn from another cache"):
        read_subset(tmp_path / "s.json", "other")
    with pytest.raises(ValueError, match="compositions are of objects"):
        draw_subset(cache, tmp_path / "c.json", SubsetConfig(by="compositions", clusters=4))
    config = SubsetConfig(by="compositions", clusters=4, images=12)
    by_objects = draw_subset(cache, tmp_path / "c.json", config, objects=["square"])
    assert by_objects["groups"]["of"] == 4  # a square in four colors


@pytest.mark.slow
def test_a_million_ids_can_be_drawn_from():
    pool, features = pool_of(1_000_000, 1_000_000, dimensions=64, groups=64)
    data = grouped(pool, features, count=64)
    found = draw(data, SubsetConfig(images=100_000, diversity="16", held_out=0.05))
    assert len(found["ids"]) == 100_000
