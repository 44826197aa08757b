"""One sample's way through all eight stages: drawn, encoded, learned from, preferred, generated, judged, reported."""

import json
import subprocess
import sys

import pytest

CELL = "small-diverse-dpo-s0"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A smoke run of a base and of the DPO model on top of it."""
    out = tmp_path_factory.mktemp("path") / "study"
    command = [sys.executable, "-m", "ablations.run", "diversity_sweep", "--scale", "smoke", "--out", str(out)]
    done = subprocess.run([*command, "--only", "small-diverse", "small-diverse-dpo"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return out


def step(study, name):
    """The folder of a step that the cell went through."""
    key = json.loads((study / "cells" / CELL / "result.json").read_text())["inputs"][name].removeprefix("sha256:")
    return study / "store" / f"{name}-{key[:16]}"


def test_one_sample_goes_through_all_stages(study) -> None:
    from ablations.icons.compositions import split_of
    from ablations.icons.scenes import parse
    from ablations.icons.world import WORLDS
    from geneval.detections import read_detections
    from geneval.rules import check
    from geneval.scores import read_results
    from lightgen.data.latents import LatentDataset
    from lightgen.data.shards import read_shards
    from lightgen.model.folder import load_transformer
    from lightgen.preference.pairs import read_pairs
    from reports import read_record

    # 1 teach: a picture with its caption, which the world's grammar reads back
    first = next(iter(read_shards(step(study, "draw_icons") / "dataset")))
    assert first.image.size == (32, 32)
    assert split_of(parse(first.prompt, WORLDS["smoke"]), WORLDS["smoke"]) in ("shared", "diverse")
    # 2 encode: the same number of latents, on the VAE's grid
    latents = LatentDataset(step(study, "encode") / "latents")
    assert len(latents) == 64
    # 3 train and 4 prefer: two models that differ, the second made from pairs
    base, model = (load_transformer(step(study, name) / "model") for name in ("train", "prefer"))
    assert max((a - b).abs().max() for a, b in zip(base.parameters(), model.parameters())) > 0
    assert read_pairs(next(step(study, "teacher_pairs").rglob("pairs.jsonl")))
    # 5 generate: a picture for every prompt
    images = step(study, "judge") / "images"
    name = "00000/samples/00000.png"
    assert (images / name).is_file()
    # 6 judge: the verdict on it follows from its detections by the rules alone
    seen = read_detections(images)[name]
    row = next(row for row in read_results(study / "cells" / CELL / "results.jsonl") if row["filename"].endswith(name))
    metadata = json.loads((images / "00000" / "metadata.jsonl").read_text())
    assert check(metadata, seen.detections, seen.colors).correct == row["correct"]
    # 7 record: complete, with the judge's and the metrics' protocol
    record = json.loads((study / "cells" / CELL / "result.json").read_text())
    assert record["status"] == "complete"
    made = record["protocol"]
    assert made["size"] == [32, 32] and made["seeding"] == "image" and made["processes"] == 1 and made["steps"] > 0
    assert {"guidance", "solver", "dtype", "seed", "prompts_rewritten"} <= set(made)
    assert any(name.startswith("fid[icon-clip") for name in record["metrics"])
    assert read_record(study / "cells" / CELL / "result.json").status == "complete"
    # 8 report: the picture's prompt is in the page
    assert row["prompt"] in (study / "report" / "index.html").read_text()
