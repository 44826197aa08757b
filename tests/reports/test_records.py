"""The strict reader: what it accepts, and that each refusal names the file and the field."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from lightgen.disk.json_files import read_rows
from reports.pack import pack
from reports.page.report import build_report
from reports.records.record import read_record
from reports.records.study import read_study
from reports.verdict import verdicts

CELL = "cells/small-diverse-none-s0"


def alter(path: Path, **changes: object) -> None:
    data = json.loads(path.read_text())
    data.update(changes)
    path.write_text(json.dumps(data))


def test_a_finished_study_is_read_whole(finished):
    study = read_study(finished)
    assert len(study.variants) == 10 and len(study.cells) == 10 and not study.incomplete()
    cell = study.complete("small-diverse-none")[0]
    assert len(cell.rows) == 72 and {row["split"] for row in cell.rows} == {"shared", "diverse", "unseen"}
    assert cell.training[0]["samples"] == 1280 and cell.samples and not cell.preference
    assert cell.record.metrics["fid[icon-clip,n=1000]"].clusters is None


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"schema": 2}, "schema: 2 is not known"),
        ({"seed": "0"}, "seed: expected int, found str"),
        ({"seed": True}, "seed: expected int, found bool"),
        ({"status": "fine"}, "status: 'fine' is not one of"),
        ({"metrics": {"fid": {"value": 1.0}}}, "metrics: fid: ci: missing"),
        (
            {"metrics": {"f": {"value": 1, "ci": [2, 1], "n": 1, "higher_is_better": True, "version": ""}}},
            "ci: expected \\[low, high\\]",
        ),
    ],
)
def test_a_wrong_field_is_named(make_study, changes, message):
    path = make_study() / CELL / "result.json"
    alter(path, **changes)
    with pytest.raises(ValueError, match=f"result.json: .*{message}"):
        read_record(path)


@pytest.mark.parametrize("field", ["schema", "study", "env", "cost", "metrics", "items", "status"])
def test_a_missing_field_is_named(make_study, field):
    path = make_study() / CELL / "result.json"
    data = json.loads(path.read_text())
    del data[field]
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=f"result.json: {field}: missing"):
        read_record(path)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(tmp_path, number):
    path = tmp_path / "training.jsonl"
    path.write_text('{"loss": 1.0}\n{"loss": ' + number + "}\n")
    with pytest.raises(ValueError, match=r"training\.jsonl, line 2: .*holds"):
        read_rows(path)


@pytest.mark.parametrize("line", ["[1]", '{"torn": ', "\x00"])
def test_a_torn_line_is_named(tmp_path, line):
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 2: "):
        read_rows(tmp_path / "rows.jsonl")


def test_a_broken_cell_does_not_lose_the_others(make_study):
    root = make_study()
    (root / CELL / "result.json").write_text("{")
    study = read_study(root)
    (broken,) = study.incomplete()
    assert broken.name == "small-diverse-none-s0" and broken.state == "unreadable"
    assert broken.reason.startswith(f"{CELL}/result.json: torn or no JSON")
    assert not broken.rows and broken.record is None


def test_missing_verdicts_make_a_cell_unreadable(make_study):
    root = make_study()
    path = root / CELL / "results.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert "has 71 verdicts, the record's geneval/overall has n = 72" in read_study(root).incomplete()[0].reason


def test_a_partial_record_keeps_its_reason_and_gives_no_score(make_study):
    root = make_study()
    alter(root / CELL / "result.json", status="partial", reason="40 of 72 images")
    (cell,) = read_study(root).incomplete()
    assert (cell.state, cell.reason, cell.rows) == ("partial", "40 of 72 images", [])


def test_a_path_out_of_the_cell_is_refused(make_study):
    root = make_study()
    alter(root / CELL / "result.json", items={"geneval": "../../study.json"})
    assert "leads out of the cell's folder" in read_study(root).incomplete()[0].reason


def test_a_cell_of_another_study_is_refused(make_study):
    root = make_study()
    alter(root / CELL / "result.json", study="guidance_sweep")
    assert "'guidance_sweep' does not belong here" in read_study(root).incomplete()[0].reason


def test_the_study_file_itself_is_checked(make_study, tmp_path):
    root = make_study()
    contrasts = json.loads((root / "study.json").read_text())["contrasts"]
    alter(root / "study.json", contrasts=[{**contrasts[0], "a": "nobody"}])
    with pytest.raises(ValueError, match=r"contrasts\[0\]: 'nobody' is not a variant; known: small-narrow"):
        read_study(root)
    with pytest.raises(FileNotFoundError, match=r"study\.json: not found"):
        read_study(tmp_path / "nothing")


def test_a_control_needs_no_second_seed(make_study):
    assert not read_study(make_study(seeds=(0, 1))).incomplete()


def test_a_slim_study_has_the_same_verdicts_without_pictures(finished, tmp_path):
    page = pack(finished, tmp_path / "slim", slim=True)
    assert page.name == "report.md" and not list((tmp_path / "slim").rglob("samples"))
    whole, slim = ([verdict.line() for verdict in verdicts(read_study(path))] for path in (finished, tmp_path / "slim"))
    assert whole == slim
    text = page.read_text()
    named = set(re.findall(r"\]\((figures/[^)]+)\)", text))
    assert named and named == {f"figures/{path.name}" for path in (page.parent / "figures").iterdir()}
    assert not read_study(tmp_path / "slim").problems()


def test_a_packed_study_gives_the_same_report_from_a_tenth_of_the_lines(finished, tmp_path):
    build_report(finished, tmp_path / "whole")
    page = pack(finished, tmp_path / "small")
    assert page.read_bytes() == (tmp_path / "whole/index.html").read_bytes()
    packed = sorted(
        path for kind in ("*.jsonl*", "prompts.json*") for path in (tmp_path / "small/cells").glob(f"*/{kind}")
    )
    assert {path.name for path in packed} >= {"results.jsonl.gz", "prompts.json.gz"}
    assert all(path.suffix == ".gz" for path in packed)
    again = pack(tmp_path / "small", tmp_path / "again")
    assert again.read_bytes() == page.read_bytes()
    for path in packed:
        assert (tmp_path / "again" / path.relative_to(tmp_path / "small")).read_bytes() == path.read_bytes()
    with pytest.raises(ValueError, match="is not empty"):
        pack(finished, tmp_path / "small")
    packed[0].write_bytes(packed[0].read_bytes()[:40])
    assert "is torn or not compressed" in read_study(tmp_path / "small").incomplete()[0].reason


def test_pictures_are_kept_of_the_seed_that_the_report_shows(make_study, tmp_path):
    root = make_study(seeds=(0, 1))
    page = pack(root, tmp_path / "packed")
    with_pictures = {path.parent.name for path in (tmp_path / "packed/cells").glob("*/samples")}
    assert with_pictures == {path.name for path in (root / "cells").glob("*-s0")}
    assert page.read_bytes() == build_report(root, tmp_path / "whole").read_bytes()
    assert not read_study(tmp_path / "packed").problems()
    assert pack(tmp_path / "packed", tmp_path / "again").read_bytes() == page.read_bytes()


def _part(root, out, keep):
    """A copy of the study as a run of some of its cells writes it."""
    shutil.copytree(root, out)
    study = json.loads((out / "study.json").read_text())
    made = {
        name: [seed for seed in study["seeds"] if keep(name, seed) and (out / f"cells/{name}-s{seed}").is_dir()]
        for name in _names(study)
    }
    seeds = sorted({seed for own in made.values() for seed in own})
    variants = [{**v, "seeds": made[v["name"]]} for v in study["variants"] if made[v["name"]]]
    contrasts = [c for c in study["contrasts"] if made[c["a"]] and made[c["b"]]]
    (out / "study.json").write_text(
        json.dumps(study | {"seeds": seeds, "variants": variants, "contrasts": contrasts}), encoding="utf-8"
    )
    for path in (out / "cells").iterdir():
        name, _, seed = path.name.rpartition("-s")
        if int(seed) not in made[name]:
            shutil.rmtree(path)
    return out


def _names(study):
    return [variant["name"] for variant in study["variants"]]


def test_runs_of_other_seeds_and_variants_become_the_study_that_one_run_gives(make_study, tmp_path):
    root = make_study(seeds=(0, 1, 2))
    parts = [
        _part(root, tmp_path / "first", lambda name, seed: seed == 1),
        _part(root, tmp_path / "second", lambda name, seed: seed == 0 and name.endswith("none")),
        _part(root, tmp_path / "third", lambda name, seed: seed == 2 or (seed == 0 and not name.endswith("none"))),
    ]
    pack(parts[2], tmp_path / "third-packed")
    page = pack([parts[0], parts[1], tmp_path / "third-packed"], tmp_path / "joined")
    pack(root, tmp_path / "whole")
    ours, whole = (read_study(tmp_path / name) for name in ("joined", "whole"))
    assert ours.seeds == (0, 1, 2) and not ours.incomplete()
    assert [verdict.line() for verdict in verdicts(ours)] == [verdict.line() for verdict in verdicts(whole)]
    assert page.is_file()


def test_a_cell_that_one_run_lacks_may_be_another_s_with_the_contrasts_of_both(make_study, tmp_path):
    root = make_study(seeds=(0, 1))
    first = _part(root, tmp_path / "first", lambda name, seed: name != "large-diverse-none")
    second = _part(root, tmp_path / "second", lambda name, seed: name.endswith("none"))
    names = {contrast["name"] for contrast in json.loads((second / "study.json").read_text())["contrasts"]}
    shutil.rmtree(second / "cells/small-narrow-none-s1")
    pack([first, second], tmp_path / "joined")
    study = read_study(tmp_path / "joined")
    assert not study.incomplete() and names <= {contrast.name for contrast in study.contrasts}
    (second / "cells/small-diverse-none-s0/result.json").write_text("{")  # broken is not lacking
    with pytest.raises(ValueError, match="1 cells are not complete, the first small-diverse-none-s0"):
        pack([first, second], tmp_path / "again")


def test_a_variant_with_fewer_seeds_is_not_lacking_and_is_paired_by_its_own(make_study, tmp_path):
    root = make_study(seeds=(0, 1, 2))
    pack([_part(root, tmp_path / "all", lambda name, seed: seed < 2),
          _part(root, tmp_path / "more", lambda name, seed: seed == 2 and name.startswith("small-d"))],
         tmp_path / "joined")  # fmt: skip
    study = read_study(tmp_path / "joined")
    assert not study.problems()
    assert {variant.name: variant.seeds for variant in study.variants if variant.name.startswith("small-d")} == {
        "small-diverse-none": (0, 1, 2), "small-diverse-dpo": (0, 1, 2)
    }  # fmt: skip
    assert study.variant("large-narrow-none").seeds == (0, 1)
    seeds = {verdict.contrast.name: verdict.difference.seeds for verdict in verdicts(study)}
    assert (seeds["preference"], seeds["volume"]) == ((0, 1, 2), (0, 1))
    assert "2 to 3" in (tmp_path / "joined/report/report.md").read_text()


@pytest.mark.parametrize(("seeds", "said"), [("x", "expected integers"), ([True], "expected integers"),
                                             ([99], "99 is not one of the study's")])  # fmt: skip
def test_seeds_of_a_variant_are_some_of_the_study_s(make_study, seeds, said):
    root = make_study(seeds=(0, 1))
    variants = json.loads((root / "study.json").read_text())["variants"]
    alter(root / "study.json", variants=[{**variants[0], "seeds": seeds}, *variants[1:]])
    with pytest.raises(ValueError, match=rf"variants\[0\]: seeds: .*{said}"):
        read_study(root)


def test_a_control_of_every_run_is_kept_once(make_study, tmp_path):
    root = make_study(seeds=(0, 1))
    shutil.copytree(root / "cells/teacher-s0", root / "cells/teacher-s1")
    alter(root / "cells/teacher-s1/result.json", seed=1)
    parts = [_part(root, tmp_path / f"run-{own}", lambda name, seed, own=own: seed == own) for own in (0, 1)]
    assert all("teacher" in _names(json.loads((part / "study.json").read_text())) for part in parts)
    pack(parts, tmp_path / "joined")
    assert [path.name for path in (tmp_path / "joined/cells").glob("teacher-*")] == ["teacher-s0"]


def test_runs_that_are_not_one_study_are_not_joined(make_study, tmp_path):
    root = make_study(seeds=(0, 1))
    first = _part(root, tmp_path / "first", lambda name, seed: seed == 0)
    second = _part(root, tmp_path / "second", lambda name, seed: seed == 1)

    def refused(match, **changes):
        alter(second / "study.json", **changes)
        with pytest.raises(ValueError, match=match):
            pack([first, second], tmp_path / "joined")
        assert not (tmp_path / "joined").exists()

    study = json.loads((second / "study.json").read_text())
    protocol = {"model": {"width": 4}}
    alter(first / "study.json", protocol=protocol)
    refused("are not runs of one study: question differ", question="another?")
    refused("not runs of one study: model.width differs", question=study["question"],
            protocol={"model": {"width": 5}})  # fmt: skip
    later = {"model": {"width": 4, "later": False}}
    refused("not runs of one study: model.later differs", protocol=later, setting_changes={"model.later": False})
    contrasts = study["contrasts"]
    refused(f"{contrasts[0]['name']} of contrasts differs", protocol=later, setting_changes={},
            contrasts=[{**contrasts[0], "smallest_effect": 0.5}, *contrasts[1:]])  # fmt: skip
    alter(second / "study.json", contrasts=contrasts)
    pack([first, second], tmp_path / "joined")  # a field that came later, at its default, changed nothing


def test_a_variant_of_one_seed_lacks_nothing(make_study):
    root = make_study(seeds=(0, 1))
    shutil.rmtree(root / "cells/small-diverse-dpo-s1")
    assert [cell.name for cell in read_study(root).incomplete()] == ["small-diverse-dpo-s1"]
    study = json.loads((root / "study.json").read_text())
    for variant in study["variants"]:
        variant["once"] = variant["name"] == "small-diverse-dpo" or "control" in variant["factors"]
    (root / "study.json").write_text(json.dumps(study))
    assert not read_study(root).incomplete()
