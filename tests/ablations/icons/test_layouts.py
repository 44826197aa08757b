from itertools import islice

import pytest

from ablations.icons.__main__ import main
from ablations.icons.layouts import render_wrong_layouts, wrong_layout
from ablations.icons.render import DatasetConfig, render_dataset, sample_scenes
from ablations.icons.scenes import arrange, request
from ablations.icons.teacher import draw
from ablations.icons.world import WORLDS
from geneval.rules import check


def detections(scene, here):
    """What a perfect detector and color classifier would see."""
    drawing = draw(scene, here)
    boxes, colors = {}, {}
    for item, box in zip(scene.objects, drawing.boxes):
        boxes.setdefault(item.name, []).append([*box.tolist(), 0.99])
        colors.setdefault(item.name, []).append(item.color)
    return boxes, colors


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_a_wrong_layout_is_wrong_and_the_same_objects(name):
    here = WORLDS[name]
    seen, right = {}, []
    for scene in islice(sample_scenes(DatasetConfig(world=name, diversity="all", images=400)), 400):
        wrong = wrong_layout(scene, here)
        tag = scene.request["tag"]
        assert (wrong is not None) == (tag in ("counting", "position"))
        if wrong is None:
            continue
        right.append(check(scene.request, *detections(scene, here)).correct)
        assert not check(scene.request, *detections(wrong, here)).correct
        assert wrong.request == scene.request
        kinds = [[(item.name, item.color, item.size) for item in one.objects] for one in (scene, wrong)]
        if tag == "position":
            assert kinds[0] == kinds[1]
        else:
            assert abs(len(kinds[0]) - len(kinds[1])) == 1 and set(kinds[1]) <= set(kinds[0])
        seen[tag, len(wrong.objects) - len(scene.objects)] = True
    assert sum(right) >= 0.97 * len(right)  # a narrow glyph at a diagonal place can leave the cone of its relation
    assert set(seen) == {("position", 0), ("counting", 1), ("counting", -1)}


def test_a_full_world_loses_an_object():
    here = WORLDS["cpu"]
    scene = arrange(request("counting", {"class": "car", "count": 4}), here, 5)
    wrong = wrong_layout(scene, here)
    assert wrong is not None and len(wrong.objects) == 3
    assert wrong == wrong_layout(scene, here)


def test_wrong_layouts_carry_the_keys_and_captions_of_the_right_ones(tmp_path):
    from lightgen.preference.pair_sources import layout_pairs
    from lightgen.preference.pairs import pair_images, read_pairs

    config = DatasetConfig(world="smoke", images=24, seed=3)
    render_dataset(config, tmp_path / "right")
    words = ["--world", "smoke", "--images", "24", "--seed", "3", "--out", str(tmp_path / "wrong"), "--wrong-layout"]
    assert main(["render", *words]) == 0
    assert render_wrong_layouts(config, tmp_path / "again")["shards"][0]["sha256"]
    pairs = read_pairs(layout_pairs(tmp_path / "right", tmp_path / "wrong", tmp_path / "pairs"))
    assert len(pairs) == 8  # counting and position, two of six tasks in turn
    assert len(list(pair_images(pairs))) == 8
