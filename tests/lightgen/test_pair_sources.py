import json

import numpy as np
import pytest
from PIL import Image

from lightgen.data.shards import Sample, read_shards, write_shards
from lightgen.preference.pair_sources import (
    detail_pairs,
    layout_pairs,
    ranked_pairs,
    read_groups,
    shuffled_pairs,
    teacher_pairs,
)
from lightgen.preference.pairs import Pair, pair_images, read_pairs
from tests.lightgen import squares


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return squares.build(tmp_path_factory.mktemp("tiny"))


def test_ranking_pairs_best_with_worst_and_drops_ties(tmp_path):
    groups = {
        "a": [(tmp_path / "1", 0.2), (tmp_path / "2", 1.0), (tmp_path / "3", 0.0), (tmp_path / "4", 0.5)],
        "b": [(tmp_path / "5", 0.5), (tmp_path / "6", 0.5)],
        "c": [(tmp_path / "7", 0.5)],
    }
    (pair,) = ranked_pairs(groups)
    assert (pair.chosen.name, pair.rejected.name, pair.scores) == ("2", "3", (1.0, 0.0))
    assert [(p.chosen.name, p.rejected.name) for p in ranked_pairs(groups, per_prompt=3)] == [("2", "3"), ("4", "1")]
    assert ranked_pairs(groups, per_prompt=3, min_gap=0.9) == [pair]
    with pytest.raises(ValueError, match="equal scores prefer nothing"):
        ranked_pairs(groups, min_gap=0.0)


def test_ranking_can_balance_tasks(tmp_path):
    groups = {str(i): [(tmp_path / f"{i}a", 1.0), (tmp_path / f"{i}b", 0.0)] for i in range(10)}
    tasks = {str(i): "counting" if i < 8 else "position" for i in range(10)}
    kept = ranked_pairs(groups, categories=tasks, per_category=3)
    assert sorted(tasks[pair.prompt] for pair in kept) == ["counting"] * 3 + ["position"] * 2


def test_groups_are_read_from_a_results_file(tmp_path):
    rows = [
        {"filename": "0/a.png", "prompt": "x", "correct": True, "tag": "colors"},
        {"filename": "0/b.png", "prompt": "x", "correct": False, "tag": "colors", "score": 0.25},
    ]
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    groups, tasks = read_groups(tmp_path / "results.jsonl", tmp_path)
    assert groups == {"x": [(tmp_path / "0/a.png", 1.0), (tmp_path / "0/b.png", 0.25)]} and tasks == {"x": "colors"}


def test_teacher_pairs_set_the_data_set_s_image_against_the_model_s_own(tiny, tmp_path):
    asked = []

    class Model:
        name = "gray"

        def __call__(self, captions, seeds):
            asked.extend(captions)
            return [Image.new("RGB", (16, 16), (seed % 256, 9, 9)) for seed in seeds]

    path = teacher_pairs(tiny.dataset, Model(), tmp_path, limit=6, batch_size=4)
    listed = read_pairs(path)
    assert len(listed) == 6 and {pair.source for pair in listed} == {"teacher"}
    images = list(pair_images(listed))
    first = next(read_shards(tiny.dataset))
    assert images[0][0].tobytes() == first.image.tobytes() and listed[0].prompt == first.prompt
    (tmp_path / "images/000004-rejected.png").unlink()
    asked.clear()
    teacher_pairs(tiny.dataset, Model(), tmp_path, limit=6)
    assert asked == [listed[4].prompt]
    with pytest.raises(ValueError, match="other settings"):
        teacher_pairs(tiny.dataset, Model(), tmp_path, limit=6, seed=1)
    asked.clear()
    for place in (1, 0):
        assert not teacher_pairs(
            tiny.dataset, Model(), tmp_path / "b", limit=6, batch_size=2, shard=(place, 2)
        ).exists()
        assert len(asked) == (2 if place else 6)
    shared = read_pairs(teacher_pairs(tiny.dataset, Model(), tmp_path / "b", limit=6, batch_size=2))
    assert len(asked) == 6 and [pair.prompt for pair in shared] == [pair.prompt for pair in listed]
    assert [pair.rejected.read_bytes() for pair in shared] == [pair.rejected.read_bytes() for pair in listed]


def laplacian(image):
    pixels = np.asarray(image.convert("L"), float)
    return (np.diff(pixels, 2, axis=0)[:, 1:-1] + np.diff(pixels, 2, axis=1)[1:-1]).var()


def test_detail_pairs_set_an_image_against_itself_with_its_detail_damaged(tiny, tmp_path):
    from lightgen.model.encoders import ImageTokenizer

    tokenizer = ImageTokenizer.from_pretrained(tiny.vae)
    damages = ("blur", "noise", "vae")
    path = detail_pairs(tiny.dataset, tmp_path / "a", damages=damages, tokenizer=tokenizer, limit=6, batch_size=4)
    images = list(pair_images(read_pairs(path)))
    originals = [sample.image for sample, _ in zip(read_shards(tiny.dataset), range(6))]
    for number, (chosen, rejected) in enumerate(images):
        assert chosen.tobytes() == originals[number].tobytes()
        if damages[number % 3] == "blur":
            assert laplacian(rejected) < laplacian(chosen)
        if damages[number % 3] == "noise":
            difference = np.asarray(rejected, float) - np.asarray(chosen, float)
            assert 3 < difference.std() < 8.5 and abs(difference.mean()) < 4  # some of it is cut at black and white
    again = detail_pairs(tiny.dataset, tmp_path / "b", damages=damages, tokenizer=tokenizer, limit=6, batch_size=6)
    assert all(
        one.rejected.read_bytes() == other.rejected.read_bytes()
        for one, other in zip(read_pairs(path), read_pairs(again))
    )
    with pytest.raises(ValueError, match="valid: blur, noise, vae"):
        detail_pairs(tiny.dataset, tmp_path / "c", damages=("rust",))
    with pytest.raises(ValueError, match="needs an image tokenizer"):
        detail_pairs(tiny.dataset, tmp_path / "c", damages=("vae",))
    with pytest.raises(ValueError, match="other settings"):
        detail_pairs(tiny.dataset, tmp_path / "a", damages=("blur",), limit=6)


def test_layout_pairs_match_keys_and_refuse_other_captions(tmp_path):
    def samples(color, keys, prompt="p"):
        return [
            Sample(key, Image.new("RGB", (8, 8), (color, i, 0)), {"prompt": f"{prompt}{key}"})
            for i, key in enumerate(keys)
        ]

    write_shards(samples(10, "abcd"), tmp_path / "right")
    write_shards(samples(200, "bd"), tmp_path / "wrong")
    listed = read_pairs(layout_pairs(tmp_path / "right", tmp_path / "wrong", tmp_path / "pairs"))
    assert [pair.prompt for pair in listed] == ["pb", "pd"] and {pair.source for pair in listed} == {"layout"}
    colors = [(a.getpixel((0, 0)), b.getpixel((0, 0))) for a, b in pair_images(listed)]
    assert colors == [((10, 1, 0), (200, 0, 0)), ((10, 3, 0), (200, 1, 0))]
    write_shards(samples(200, "b", prompt="q"), tmp_path / "other")
    with pytest.raises(ValueError, match="sample b is 'pb' in"):
        layout_pairs(tmp_path / "right", tmp_path / "other", tmp_path / "x")
    write_shards(samples(200, "be"), tmp_path / "more")
    with pytest.raises(ValueError, match=r"1 samples that .* lacks, the first e"):
        layout_pairs(tmp_path / "right", tmp_path / "more", tmp_path / "y")


def test_shuffled_pairs_turn_exactly_half_around(tmp_path):
    listed = [
        Pair(prompt=str(i), chosen=tmp_path / f"{i}w", rejected=tmp_path / f"{i}l", scores=(1.0, 0.0))
        for i in range(21)
    ]
    shuffled = shuffled_pairs(listed, seed=3)
    turned = [pair for pair in shuffled if pair.chosen.name.endswith("l")]
    assert len(turned) == 10 and all(pair.scores == (0.0, 1.0) for pair in turned)
    assert {pair.source for pair in shuffled} == {"random"}
    assert shuffled == shuffled_pairs(listed, seed=3) != shuffled_pairs(listed, seed=4)
