"""The whole report: complete, deterministic, self-contained, and safe to open whatever the records say."""

from __future__ import annotations

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from reports import build_report
from reports.__main__ import VERBS, main
from reports.pack import slim_text
from reports.page.report import markdown_of
from reports.records.study import read_study
from reports.verdict import verdicts

REFERENCES = sorted(path.parent for path in (Path(__file__).parents[2] / "reports/reference").glob("*/study.json"))
ATTACK = '<img src=x onerror="alert(1)"> & </script>'


class Page(HTMLParser):
    """Collects the elements of a page and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def report(finished, tmp_path_factory):
    return build_report(finished, tmp_path_factory.mktemp("out") / "report").parent


@pytest.mark.parametrize("folder", REFERENCES, ids=lambda path: path.name)
def test_a_committed_report_is_what_today_s_code_says_of_its_records(folder):
    text, there = markdown_of(read_study(folder)), (folder / "report/report.md").read_text()
    whole = (folder / "report/index.html").is_file()
    assert there == (text if whole else slim_text(text))


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_everything_is_there(report):
    names = set(files(report))
    for name in (
        "primary",
        "contrasts",
        "geneval",
        "splits",
        "effects",
        "interaction",
        "quality",
        "training",
        "preference",
        "samples",
    ):
        assert {f"figures/{name}.{suffix}" for suffix in ("svg", "png", "csv")} <= names
    for name in (
        "geneval",
        "splits",
        "effects",
        "contrasts",
        "quality",
        "versions",
        "protocol",
        "cost",
        "cells",
        "published",
    ):
        assert {f"tables/{name}.{suffix}" for suffix in ("csv", "md", "tex")} <= names
    text = (report / "report.md").read_text()
    assert (
        "seen on one seed, settles nothing** (primary (the first" in text
        and "![" in text
        and "| small, diverse + DPO |" in text
    )


def test_one_seed_is_said_everywhere(report):
    for name in ("index.html", "report.md", "tables/contrasts.md", "tables/contrasts.csv", "tables/contrasts.tex"):
        assert (report / name).read_text().count("seen on one seed, settles nothing") >= 4, name
    assert "python -m ablations.run diversity_sweep --scale cpu --seeds 0 1 2" in (report / "report.md").read_text()
    page = (report / "index.html").read_text()
    assert 'class="answer unsettled' in page and "best variant" not in page
    assert page.count("covers the choice of prompts, not the luck of training") == 2  # the answer, and the reasons once
    assert page.index('id="answer"') < page.index('id="samples"') < page.index('id="contrasts"')
    assert "primary (the first: the study names none)" in page


def test_the_same_records_give_the_same_bytes(finished, report, tmp_path):
    assert files(build_report(finished, tmp_path / "again").parent) == files(report)


def test_the_page_needs_nothing_but_itself(report):
    page = Page((report / "index.html").read_text())
    for tag, attributes in page.elements:
        assert tag not in ("script", "link", "iframe", "object", "embed") and "action" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,"))
    policy = next(a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_foreign_text_stays_text(make_study):
    root = make_study()
    study = json.loads((root / "study.json").read_text())
    study.update(title=ATTACK, question=ATTACK, note=ATTACK, protocol={ATTACK: ATTACK})
    study["variants"][0]["label"] = ATTACK
    study["contrasts"][0].update(label=ATTACK, claim=ATTACK)
    study["splits"][0]["label"] = ATTACK
    (root / "study.json").write_text(json.dumps(study))
    for path in root.glob("cells/*/samples.json"):
        samples = json.loads(path.read_text())
        path.write_text(json.dumps([{**s, "prompt": s["prompt"] + ATTACK, "reason": ATTACK} for s in samples]))
    broken = root / "cells/large-diverse-dpo-s0/result.json"
    broken.write_text(json.dumps({**json.loads(broken.read_text()), "status": "failed", "reason": ATTACK}))
    index = build_report(root)
    page = Page(index.read_text())
    assert not [a for tag, a in page.elements if "onerror" in a or a.get("src") == "x" or tag == "script"]
    assert "&lt;img src=x onerror=" in index.read_text()
    assert "<img" not in (index.parent / "report.md").read_text()
    assert all("<img" not in path.read_text() for path in (index.parent / "tables").glob("*.md"))


def test_incomplete_cells_are_listed_and_smoke_says_so(make_study, capsys):
    root = make_study(scale="smoke")
    (root / "cells/large-diverse-dpo-s0/result.json").unlink()
    text = build_report(root).read_text()
    assert "this proves nothing" in text and "9 of 10 cells are complete" in text
    assert "large-diverse-dpo-s0 (missing: no result.json yet)" in text
    sys.argv = ["reports", "check", str(root)]
    assert main() == 1
    assert capsys.readouterr().out.startswith("missing: large-diverse-dpo-s0: no result.json yet\n")


def test_a_study_without_any_result_gives_a_report(make_study):
    root = make_study()
    for path in root.glob("cells/*/result.json"):
        path.unlink()
    assert "0 of 10 cells are complete" in build_report(root).read_text()


def test_only_an_older_report_is_replaced(make_study, tmp_path):
    root = make_study()
    for path in root.glob("cells/*/result.json"):
        path.unlink()
    with pytest.raises(ValueError, match="holds the study itself"):
        build_report(root, root)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="is not a report"):
        build_report(root, tmp_path / "mine")
    index = build_report(root)
    (index.parent / "stale.txt").write_text("old")
    (root / ".report.building").mkdir()  # as a killed build leaves it
    assert build_report(root) == index and not (index.parent / "stale.txt").exists()
    assert not [path for path in root.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("verb", ["build", "check"])
def test_bad_input_is_one_line(tmp_path, verb):
    command = [sys.executable, "-m", "reports", verb, str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_no_part_of_a_report_loads_torch():
    code = "import sys, reports.page.report; print([m for m in ('torch', 'matplotlib', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_any_two_variants_are_compared_and_a_wrong_one_is_named(finished, capsys, monkeypatch):
    def told(*given):
        monkeypatch.setattr(sys, "argv", ["reports", "difference", str(finished), *given])
        return main(), capsys.readouterr()

    code, output = told("small-diverse-none", "large-narrow-none")
    planted = next(a for a in verdicts(read_study(finished)) if a.contrast.name == "diversity_beats_volume")
    assert code == 0 and f"{planted.difference.effect:+.3f}" in output.out and "36 prompts, seeds 0" in output.out
    assert (
        told("large-narrow-none", "small-diverse-none")[1]
        .out.split(": ")[1]
        .startswith(f"{-planted.difference.effect:+.3f}")
    )
    code, output = told("small-diverse-none", "nope")
    assert code == 2 and "'nope' is no variant" in output.err and "small-diverse-none" in output.err
    code, output = told("small-diverse-none", "large-narrow-none", "--metric", "geneval/nope")
    assert code == 2 and "Not answered" in output.err


def test_settings_given_on_the_command_line_stand_at_the_top(make_study):
    root = make_study()
    study = json.loads((root / "study.json").read_text())
    study["protocol"] = {"train": {"optimizer": {"rate": 0.1}}, "data": {"folder": None}}
    study["setting_changes"] = {"train.optimizer.rate": 0.1}
    (root / "study.json").write_text(json.dumps(study))
    page = build_report(root).read_text()
    assert page.index("Settings changed on the command line: train.optimizer.rate = 0.1") < page.index("<h2>")
    table = (root / "report/tables/protocol.md").read_text()
    assert "train.optimizer.rate | 0.1" in table and "data.folder | none" in table


def test_every_option_has_help_and_numbers_come_as_json(finished, capsys, monkeypatch):
    for verb, function in VERBS.items():
        monkeypatch.setattr(sys, "argv", ["reports", verb, "--help"])
        with pytest.raises(SystemExit):
            main()
        shown = capsys.readouterr().out
        assert all(f"{name}:" in function.__doc__ for name in function.__annotations__ if name != "return"), shown
    for given in (["check", str(finished)], ["difference", str(finished), "small-diverse-none", "large-narrow-none"]):
        monkeypatch.setattr(sys, "argv", ["reports", *given, "--json"])
        assert main() == 0
        assert isinstance(json.loads(capsys.readouterr().out), dict)
