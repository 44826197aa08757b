"""A study on a data set of one's own: what is asked, how prompts are split, what is refused, and all of it."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from ablations.data import OwnData
from ablations.icons.render import DatasetConfig, sample_scenes
from ablations.icons.teacher import draw
from ablations.icons.world import world
from ablations.recipes import judged, prompts, trained
from ablations.run import main
from ablations.runner.plan import plan_cells
from ablations.runner.step import Folder, numbered
from ablations.settings import SETTINGS, Components
from ablations.steps import AskNamed, SplitPrompts, TakeSubset, Train
from ablations.steps.named import UNNAMED, askable, captioned, known_classes, named_together, split_of
from ablations.steps.subsets import copy_metrics
from ablations.studies import load_study
from geneval.prompts import official_prompts
from lightgen.data.config import ImportConfig
from lightgen.data.images import read_image
from lightgen.data.importing import import_images
from lightgen.disk.config import override
from reports.records.study import read_study

SWEEP = load_study("diversity_sweep")
DETECTOR = Components().weights("detector")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Pictures of 40 px with a caption beside each, and the data set that `import` makes of them: one umbrella, in no
    training set of seed 0, so that prompts of umbrellas are asked and left out."""
    root = tmp_path_factory.mktemp("own")
    drawn = list(sample_scenes(DatasetConfig(world="cpu", images=600, diversity="diverse")))
    umbrellas = [scene for scene in drawn if "umbrella" in scene.request["prompt"]]
    scenes = [scene for scene in drawn if scene not in umbrellas][:299]
    scenes = [*scenes, umbrellas[0]]
    (root / "photos").mkdir()
    for number, scene in enumerate(scenes):
        image = draw(scene, world("cpu")).image.resize((40, 44))
        image.save(root / "photos" / f"{number:03d}.jpg", quality=95)
        (root / "photos" / f"{number:03d}.txt").write_text(scene.request["prompt"])
    import_images(root / "photos", root / "dataset", ImportConfig(size=32, shard_size=100))
    return root


def setting_of(photos, **changes):
    own = {"data.folder": str(photos / "dataset"), "data.small": 40, "data.large": 80, "data.clusters": 12}
    return override(SETTINGS["smoke"], {**own, "data.captions_asked": 12, **changes})


def prompt(text):
    return next(found for found in official_prompts() if found.prompt == f"a photo of {text}")


def test_one_cache_and_a_subset_an_arm(photos):
    cells = {cell.variant: cell for cell in plan_cells(SWEEP, "smoke", setting_of(photos), [0, 1])}
    assert len({step.key for cell in cells.values() for step in cell.steps if step.name == "encode"}) == 1
    arms = {name: cells[name].step("train").subset.config for name in ("small-narrow", "large-narrow", "small-diverse")}
    assert {config.seed for config in arms.values()} == {1}, "each seed draws its sets anew"
    assert arms["small-narrow"].room == arms["large-narrow"].images == 80
    assert [config.diversity for config in arms.values()] == ["narrow", "narrow", "diverse"]
    found = numbered(cells["small-diverse"].steps)
    assert {"judge", "quality", "copies", "split_prompts", "hold_out", "generate_2"} <= set(found)
    assert len(found["split_prompts"].arms) == 4
    assert found["quality"].images.prompts == found["hold_out"]
    assert "teacher" not in cells


def test_preferences_are_learned_from_the_arm_s_own_pictures(photos):
    cells = {cell.variant: cell for cell in plan_cells(SWEEP, "smoke", setting_of(photos), [0])}
    taken = cells["small-narrow-dpo"].step("teacher_pairs").dataset
    assert isinstance(taken, TakeSubset) and taken.subset == cells["small-narrow"].step("train").subset
    assert isinstance(prompts(setting_of(photos)), AskNamed)


def test_what_is_clustered_is_a_setting_whose_default_changes_no_key(photos):
    def drawn(**changes):
        return trained(setting_of(photos, **changes), 0).subset

    assert drawn(**{"data.features": "captions"}).key == drawn().key
    images = drawn(**{"data.features": "images"})
    assert images.config.features == "images" and images.key != drawn().key


def test_a_model_alone_splits_its_prompts_by_its_own_captions(photos):
    setting = setting_of(photos)
    base = trained(setting, 0)
    assert isinstance(base, Train) and isinstance(judged(setting, base)[-1], SplitPrompts)
    assert judged(setting, base)[-1].arms == (base.subset,)


def test_keys_follow_the_contents_and_not_the_place(photos, tmp_path):
    def keys(folder):
        setting = override(setting_of(photos), {"data.folder": str(folder)})
        return {step.name: step.key for cell in plan_cells(SWEEP, "smoke", setting, [0]) for step in cell.steps}

    shutil.copytree(photos / "dataset", tmp_path / "copy")
    before = keys(photos / "dataset")
    assert keys(tmp_path / "copy") == before
    shutil.copytree(photos / "photos", tmp_path / "photos")
    (tmp_path / "photos" / "000.txt").write_text("something else")
    import_images(tmp_path / "photos", tmp_path / "other", ImportConfig(size=32, shard_size=100))
    after = keys(tmp_path / "other")
    assert not {before[name] for name in before if name != "initialize"} & set(after.values())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data.large": 5000}, "holds 300 images, about 270 beside the held-out share: give data.large=270 or fewer"),
        ({"data.small": 81}, "data.small is 81 and data.large 80"),
        ({"data.held_out": 0.01}, "data.held_out=0.01 of 300 images is about 3; .* give a larger share"),
        ({"components.vae": "nowhere"}, "nowhere is not there; give the folder of weights"),
        (
            {"model.position_grid": 4},
            "holds images of 32 px, the model generates 64 px: import them again with --size 64",
        ),
        ({"data.folder": "nowhere"}, "nowhere is no finished data set .* python -m lightgen import PICTURES"),
    ],
)
def test_what_cannot_be_made_is_told_before_anything_runs(changes, says, photos, tmp_path, capsys):
    chosen = {"data.folder": photos / "dataset", "data.small": 40, "data.large": 80, **changes}
    values = [f"{name}={value}" for name, value in chosen.items()]
    assert main(["diversity_sweep", "--scale", "smoke", "--out", str(tmp_path / "o"), "--plan", "--set", *values]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert __import__("re").search(says, error), error


def test_the_note_names_the_judge_and_what_it_knows(photos):
    note = SWEEP.note("cpu", setting_of(photos))
    assert "300 images, 10% held out" in note and DETECTOR.identity[:12] in note
    assert "It knows 8 classes only" in note
    assert SWEEP.note("cpu", SETTINGS["cpu"]) == ""


def test_the_plan_says_what_captions_name_and_how_narrow_sets_are_drawn(photos):
    found = captioned(photos / "dataset", DETECTOR)
    assert found["captions"] == found["of"] == 300 and len(found["known"]) == 8
    note = SWEEP.note("cpu", setting_of(photos, **{"data.large": 60}))
    assert f"Captions name {len(found['named'])} of GenEval's 80 classes, of which the judge knows 8 (car," in note
    assert f"{found['official_left_out']} of the 553 official prompts cannot be asked" in note
    assert "Each seed draws its narrow sets anew" in note
    wide = SWEEP.note("cpu", setting_of(photos, **{"data.large": 200}))
    assert "3 of 12 clusters, which hold about 67 images where they are even and must hold data.large=200" in wide


def test_captions_of_which_the_judge_knows_nothing_are_refused_before_anything_runs(photos, tmp_path, capsys):
    shutil.copytree(photos / "photos", tmp_path / "photos")
    for path in (tmp_path / "photos").glob("*.txt"):
        path.write_text("a dog beside a car")
    import_images(tmp_path / "photos", tmp_path / "dogs", ImportConfig(size=32))
    chosen = [f"data.folder={tmp_path / 'dogs'}", "data.small=40", "data.large=80"]
    assert main(["diversity_sweep", "--scale", "smoke", "--out", str(tmp_path / "o"), "--plan", "--set", *chosen]) == 2
    assert "name 2 of GenEval's classes, of which the judge knows 1 (car)" in capsys.readouterr().err
    chosen += ["components.detector=nowhere"]
    assert main(["diversity_sweep", "--scale", "smoke", "--out", str(tmp_path / "o"), "--plan", "--set", *chosen]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_the_claim_is_asked_of_held_out_captions_too(photos):
    names = {contrast.name: contrast for contrast in SWEEP.contrasts_of(setting_of(photos))}
    kid, clip = names["claim-held-out-kid"], names["claim-held-out-clip"]
    assert (kid.a, kid.b, kid.metric) == ("large-narrow", "small-diverse", "kid"), "a distance: less is better"
    assert (clip.a, clip.b, clip.metric) == ("small-diverse", "large-narrow", "clip_score")
    assert not any("held-out" in contrast.name for contrast in SWEEP.contrasts_of(SETTINGS["cpu"]))


def test_without_a_judge_held_out_captions_are_all_that_is_asked(photos):
    setting = setting_of(photos, **{"benchmark.prompts": "none"})
    cells = {cell.variant: cell for cell in plan_cells(SWEEP, "smoke", setting, [0])}
    assert not {"judge", "ask_named", "split_prompts"} & {step.name for cell in cells.values() for step in cell.steps}
    assert {"quality", "copies"} <= {step.name for step in cells["small-diverse"].steps}
    contrasts = SWEEP.contrasts_of(setting)
    assert {contrast.metric for contrast in contrasts} == {"kid", "clip_score", "copies/share"}
    assert [contrast.name for contrast in contrasts if contrast.primary] == ["claim-held-out-kid"]
    assert SWEEP.note("cpu", setting).endswith("held-out captions are all that is asked.")
    by_verdict = override(setting, {"preference.source": "verifier"})
    assert "small-narrow-dpo" not in {cell.variant for cell in plan_cells(SWEEP, "smoke", by_verdict, [0])}
    with pytest.raises(ValueError, match="verdicts are needed here"):
        plan_cells(load_study("dpo_sweep"), "smoke", by_verdict, [0])
    with pytest.raises(ValueError, match="one's own data"):
        SWEEP.note("cpu", override(SETTINGS["cpu"], {"benchmark.prompts": "none"}))


def test_prompts_whose_objects_no_arm_names_are_left_out():
    together = [{"a": True, "b": False, "c": False}, {"a": True, "b": True, "c": False}]
    alone = [{"a": True, "b": False, "c": False}, {"a": True, "b": True, "c": True}]
    assert split_of("abc", together, alone) == {"a": "shared", "b": "diverse", "c": "unseen"}
    alone[1]["c"] = False
    assert split_of("abc", together, alone)["c"] == UNNAMED
    nothing = [dict.fromkeys("abc", False)] * 2
    assert set(split_of("abc", nothing, nothing).values()) == {"unseen"}, "there would be nothing to score"


def test_only_objects_that_are_named_and_known_are_asked_for(tmp_path):
    assert askable(["a dog and two birds", "cars"], known_classes(DETECTOR)) == (["car", "bird"], 3)
    with pytest.raises(ValueError, match=r"name 2 of GenEval's classes, of which the judge knows 1 \(car\)"):
        askable(["a dog", "a car"], known_classes(DETECTOR))
    (tmp_path / "config.json").write_text("{}")
    assert len(known_classes(Folder(str(tmp_path)))) == 80


def test_prompts_are_split_by_what_captions_name_together():
    asked = [prompt(text) for text in ("a bench", "a bench and a sports ball", "two clocks", "a blue fire hydrant")]
    position = next(p for p in official_prompts() if p.tag == "position")
    text = position.prompt.removeprefix("a photo of ")

    def named(*captions):
        return [named_together([p], captions)[p.line()] for p in [*asked, position]]

    assert named("a bench in a park", "a sports ball", "one clock", "a fire hydrant, blue") == [
        True,
        False,
        False,
        False,
        False,
    ]
    assert named("a sports ball on a bench", "two clocks", "the blue fire hydrant", text) == [
        True,
        True,
        True,
        True,
        True,
    ]
    swapped = text.replace("left of", "right of") if "left of" in text else text.replace("right of", "left of")
    if swapped != text:
        assert named(swapped)[-1] is False


def test_copies_are_what_is_nearer_than_pictures_never_seen():
    expected = np.linspace(1, 2, 101)
    metrics = copy_metrics(np.array([0.0, 0.5, 1.5, 1.6]), expected)
    assert metrics["copies/share"]["value"] == 0.5 and metrics["copies/share"]["n"] == 4
    assert metrics["copies/distance"]["value"] == pytest.approx(1.0 / 1.5)


def test_own_data_keep_the_volumes_and_have_splits():
    data = override(SETTINGS["cpu"], {"data.folder": "photos"}).data
    assert data == OwnData(folder="photos", small=1000, large=8000)
    assert [split.name for split in data.splits] == ["shared", "diverse", "unseen"]
    with pytest.raises(ValueError, match="photos holds pictures"):
        data.drawn(None, 0)


@pytest.mark.slow
def test_from_pictures_to_a_report(photos, tmp_path):
    values = [f"data.folder={photos / 'dataset'}", "data.small=40", "data.large=80", "data.clusters=12"]
    command = [sys.executable, "-m", "ablations.run", "diversity_sweep", "--scale", "smoke", "--out", str(tmp_path)]
    only = ["--only", "small-narrow", "small-diverse", "large-narrow-dpo"]
    done = subprocess.run([*command, *only, "--set", *values, "data.captions_asked=12"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    records = {p.parent.name: json.loads(p.read_text()) for p in tmp_path.glob("cells/*/result.json")}
    assert {record["status"] for record in records.values()} == {"complete"} and len(records) == 3
    for record in records.values():
        names = set(record["metrics"])
        assert {"copies/share", "copies/distance", "geneval/overall", "prompts/official_left_out"} <= names
        assert {"prompts/left_out", "prompts/unnamed", "prompts/together"} <= names
        assert any(name.startswith("kid[icon-clip,n=12") for name in names) and "diversity/vendi" in names
        asked, rests_on = record["metrics"]["prompts/left_out"], record["rests_on"]
        assert 0 < asked["value"] < asked["n"] == rests_on["prompts"] + asked["value"], "the record rests on the others"
        assert rests_on["images"] == record["metrics"]["geneval/overall"]["n"]
    assert not read_study(tmp_path).incomplete()
    splits = json.loads((tmp_path / "cells" / "small-diverse-s0" / "prompts.json").read_text())
    assert {entry["split"] for entry in splits.values()} >= {"shared", "unseen"}
    narrow, diverse = (
        records[f"small-{name}-s0"]["metrics"]["diversity/effective_clusters"]["value"]
        for name in ("narrow", "diverse")
    )
    assert narrow < diverse
    assert "It knows 8 classes only" in (tmp_path / "report" / "index.html").read_text()
    sample = next((tmp_path / "store").glob("hold_out-*/images/00000/samples/00000.png"))
    assert read_image(sample).size == (32, 32)
    alone = ["--only", "small-narrow", "small-diverse", "--set", *values, "data.captions_asked=12"]
    (tmp_path / "unjudged").mkdir()
    (tmp_path / "unjudged" / "store").symlink_to(tmp_path / "store")
    command[-1] = str(tmp_path / "unjudged")
    done = subprocess.run([*command, *alone, "benchmark.prompts=none"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    unjudged = json.loads((tmp_path / "unjudged" / "cells" / "small-narrow-s0" / "result.json").read_text())
    metrics = unjudged["metrics"]
    assert not any(name.startswith(("geneval", "prompts")) for name in metrics)
    judged_too = records["small-narrow-s0"]["metrics"]
    assert metrics == {name: judged_too[name] for name in metrics}, "the same pictures of the same captions"
    page = (tmp_path / "unjudged" / "report" / "index.html").read_text()
    assert "held-out captions, KID: large and narrow minus small and diverse" not in page, "no cell of that arm"
    assert "judged right" not in page and '<figure class="tile">' in page
