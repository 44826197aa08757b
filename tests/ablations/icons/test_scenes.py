"""Captions, scenes and pictures agree with each other and with GenEval's position rule."""

import numpy as np
import pytest

from ablations.icons.compositions import LEVELS, SPLITS, color_split, colors_of, compositions, split_of
from ablations.icons.glyphs import COLORS, GLYPHS, glyph, silhouette
from ablations.icons.render import DatasetConfig, diversity_statistics, sample_captions, sample_scenes
from ablations.icons.scenes import arrange, parse
from ablations.icons.teacher import IconTeacher, draw
from ablations.icons.world import TASKS, WORLDS, World, world

CPU = WORLDS["cpu"]


@pytest.mark.parametrize("name", GLYPHS)
def test_every_glyph_is_a_visible_shape(name: str) -> None:
    cover = glyph(name, 28)
    assert cover.shape == (28, 28)
    assert 0.08 < cover.mean() < 0.95
    assert silhouette(name, 28).sum() >= (cover > 0.5).sum()


def test_no_two_classes_share_a_glyph() -> None:
    flat = np.stack([glyph(name, 28).ravel() for name in GLYPHS])
    distance = np.abs(flat[:, None] - flat[None]).mean(-1) + np.eye(len(flat))
    assert distance.min() > 0.05


def test_colors_are_far_apart_and_far_from_every_background() -> None:
    values = np.array(list(COLORS.values()), float)
    greys = np.array([[level] * 3 for level in range(140, 181)], float)
    between = np.linalg.norm(values[:, None] - values[None], axis=-1) + 1e3 * np.eye(len(values))
    assert between.min() > 60
    assert np.linalg.norm(values[:, None] - greys[None], axis=-1).min() > 60


@pytest.mark.parametrize("name", ["cpu", "smoke", "gpu"])
def test_every_caption_parses_to_the_request_that_made_it(name: str) -> None:
    here = world(name)
    for task in TASKS:
        for asked in compositions(here, "all")[task][:200] if name != "gpu" else ():
            assert parse(asked["prompt"], here) == asked
    assert parse("A photo of a red car", WORLDS["cpu"])["tag"] == "colors"


@pytest.mark.parametrize("caption", ["", "a photo of a zeppelin", "a photo of two car", "x" * 10_000])
def test_other_captions_are_refused_by_name_of_the_grammar(caption: str) -> None:
    with pytest.raises(ValueError, match="grammar"):
        parse(caption, CPU)


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_scenes_hold_what_the_caption_asks_for(name: str) -> None:
    here = world(name)
    caption = {"cpu": "a photo of a cup left of a tie", "gpu": "a photo of a bench above a dog"}[name]
    for seed in range(50):
        scene = arrange(parse(caption, here), here, seed)
        drawing = draw(scene, here)
        assert drawing.pixels.shape == (here.height, here.width, 3)
        assert (drawing.masks.sum((1, 2)) > 20).all()
        target, subject = drawing.boxes
        center = (subject[:2] + subject[2:] - target[:2] - target[2:]) / 2
        offset = center / np.linalg.norm(center)
        assert (offset[0] < -0.5) if name == "cpu" else (offset[1] < -0.5)


def test_the_same_seed_draws_the_same_picture_and_another_seed_another() -> None:
    teacher = IconTeacher(CPU)
    one, two, other = teacher(["a photo of a red car"] * 3, [1, 1, 2])
    assert one.tobytes() == two.tobytes() != other.tobytes()
    with pytest.raises(ValueError, match="seeds"):
        teacher(["a photo of a red car"], [])


def test_splits_nest_and_narrow_sets_show_no_other_colors() -> None:
    counts = {kind: sum(map(len, compositions(CPU, kind).values())) for kind in ("narrow", "diverse", "all")}
    assert 3 * counts["narrow"] < counts["diverse"] < counts["all"]
    for asked in compositions(CPU, "narrow")["position"]:
        assert split_of(asked, CPU) == "shared"
    for scene in sample_scenes(DatasetConfig(images=300, diversity="narrow")):
        assert split_of(scene.request, CPU) == "shared"
        assert all(color_split(CPU, item.name, item.color) == "shared" for item in scene.objects)
    assert {len(colors_of(CPU, "narrow", 0, name)) for name in CPU.classes} == {2}
    pairs = [color_split(CPU, name, color) for name in CPU.classes for color in CPU.colors]
    assert {split: pairs.count(split) for split in SPLITS} == {"shared": 16, "diverse": 24, "unseen": 8}


def test_measured_diversity_follows_the_declared_one() -> None:
    narrow, diverse = (
        diversity_statistics(DatasetConfig(images=600, diversity=kind)) for kind in ("narrow", "diverse")
    )
    assert narrow["distinct_captions"] < diverse["distinct_captions"]
    assert narrow["captions_by_split"]["diverse"] == 0 < diverse["captions_by_split"]["diverse"]
    assert diverse["captions_by_split"]["unseen"] == 0


def test_worlds_that_cannot_be_drawn_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown class"):
        World(classes=("unicorn",))
    with pytest.raises(ValueError, match="does not fit"):
        World(glyph=20)
    with pytest.raises(ValueError, match="unknown world"):
        world("mars")
    with pytest.raises(ValueError, match="unknown diversity"):
        DatasetConfig(diversity="broad")


def test_levels_nest_and_every_draw_has_its_own_narrow_set():
    found = {}
    for number in range(4):
        by_level = {
            name: {asked["prompt"] for t in compositions(CPU, name, number).values() for asked in t} for name in LEVELS
        }
        assert by_level["narrow"] < by_level["some"] < by_level["many"] < by_level["diverse"] < by_level["all"]
        found[number] = by_level
    assert len({frozenset(levels["narrow"]) for levels in found.values()}) == 4
    assert len({frozenset(levels["diverse"]) for levels in found.values()}) == 1  # what no set shows stays the same
    sizes = [len(levels["narrow"]) for levels in found.values()]
    assert max(sizes) <= 1.1 * min(sizes)


def test_a_draw_of_a_narrow_set_shows_no_other_draw_s_colors():
    for number in (1, 2):
        for scene in sample_scenes(DatasetConfig(diversity="narrow", draw=number, images=60)):
            assert split_of(scene.request, CPU, number) == "shared"
            assert all(color_split(CPU, item.name, item.color, number) == "shared" for item in scene.objects)


def test_dense_captions_are_true_of_their_scenes():
    config = DatasetConfig(images=60, captions="dense")
    for scene, caption in zip(sample_scenes(config), sample_captions(config), strict=True):
        for item in scene.objects:
            assert f"{item.color} {item.name}" in caption
        if len(scene.objects) == 2:  # judged by the teacher's own grammar
            again = parse(
                caption.replace(f" {scene.objects[0].color} ", " ").replace(f" {scene.objects[1].color} ", " "), CPU
            )
            assert again["tag"] == "position"


def test_mixed_captions_are_half_dense_in_every_task():
    short, dense, mixed = (
        list(sample_captions(DatasetConfig(images=48, captions=kind))) for kind in ("short", "dense", "mixed")
    )
    assert mixed[:6] == short[:6] and mixed[6:12] == dense[6:12] and mixed[12:18] == short[12:18]


def test_several_pictures_of_a_caption_follow_one_another():
    found = list(sample_captions(DatasetConfig(images=40, per_caption=4)))
    assert all(len(set(found[first : first + 4])) == 1 for first in range(0, 40, 4))
    assert len({scene.seed for scene in sample_scenes(DatasetConfig(images=40, per_caption=4))}) == 40


def test_a_world_in_larger_pictures_is_the_same_world():
    small, large = world("cpu"), world("cpu@1.5")
    assert (large.width, large.glyph, large.name) == (48, 21, "cpu@1.5")
    assert compositions(large, "narrow", 3) == compositions(small, "narrow", 3)
    for name in ("cpu@", "cpu@0.5", "cpu@nan", "cpu@99"):
        with pytest.raises(ValueError, match="1 to 16"):
            world(name)
    with pytest.raises(ValueError, match="unknown world"):
        world("moon@2")
