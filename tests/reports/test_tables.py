"""Tables: what may stand in one column, and texts that show exactly what was recorded."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess

import pytest

from reports.figures.quality import quality
from reports.records.study import read_study
from reports.scores import scores
from reports.tables import contrasts as contrast_tables
from reports.tables import provenance
from reports.tables.geneval import geneval
from reports.tables.latex import latex_text, to_latex
from reports.tables.measures import measures
from reports.tables.published import published
from reports.tables.table import Entry, Table, to_csv, to_markdown
from reports.verdict import verdicts
from reports.words import flat, number


def table(text):
    return Table(
        name="t", title=text, header=["variant", text], rows=[[Entry(text), Entry("1", text)]], data=[{"a": text}]
    )


def test_controls_are_set_apart(finished):
    study = read_study(finished)
    found = geneval(study, scores(study))
    assert [str(found.rows[i][0]) for i in sorted(found.controls)] == ["untrained", "teacher"]
    assert len(found.rows) == 10 and found.header[1:3] == ["overall", "single object"]


def test_versions_of_a_metric_never_share_a_table(make_study):
    root = make_study()
    path = root / "cells" / "large-diverse-none-s0" / "result.json"
    data = json.loads(path.read_text())
    data["metrics"]["fid[icon-clip,n=1000]"]["version"] = "other weights"
    path.write_text(json.dumps(data))
    found = {table.name: table for table in measures(read_study(root))}
    first, second = found["quality"], found["quality-2"]
    assert first.header.count("fid[icon-clip,n=1000] ↓") == second.header.count("fid[icon-clip,n=1000] ↓") == 1
    assert [row[0].text for row in second.rows] == ["large, diverse"] and "not comparable" in second.title
    assert {row["variant"] for row in first.data if row["metric"].startswith("fid")} == {
        variant.name for variant in read_study(root).variants if variant.name != "large-diverse-none"
    }


def test_quality_falls_into_distances_and_the_rest(finished):
    found = {table.name: table for table in measures(read_study(finished))}
    assert found["quality"].header == [
        "variant",
        "fid[icon-clip,n=1000] ↓",
        "kid[icon-clip,n=1000] ↓",
        "spectrum_gap[n=1000] ↓",
    ]
    assert found["fidelity"].header == ["variant", "clip_score[icon-clip,n=1000] ↑"]


def test_metrics_of_a_group_get_their_own_table(make_study):
    root = make_study()
    for path in root.glob("cells/*/result.json"):
        data = json.loads(path.read_text())
        metric = {"value": 12.0, "ci": None, "n": 100, "higher_is_better": True, "version": "1"}
        data["metrics"]["data/captions"] = metric
        path.write_text(json.dumps(data))
    groups = {found.name: found for found in measures(read_study(root))}
    assert groups["data"].header == ["variant", "captions ↑"] and "quality" in groups


def test_an_incomplete_cell_is_in_no_table_but_the_list_of_cells(make_study):
    root = make_study()
    path = root / "cells" / "large-diverse-none-s0" / "result.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "status": "partial", "reason": "half of the images"}))
    study = read_study(root)
    shown = [geneval(study, scores(study)), *measures(study), provenance.cost(study)]
    assert not any(
        str(row[0]) == "large, diverse" or "large-diverse-none" in str(row[0]) for t in shown for row in t.rows
    )
    assert [str(row[1]) for row in provenance.cells(study).rows].count("partial") == 1


def test_the_csv_keeps_all_digits(finished):
    study = read_study(finished)
    found = scores(study)
    rows = list(csv.DictReader(io.StringIO(to_csv(geneval(study, found).data))))
    row = next(row for row in rows if row["variant"] == "large-diverse-dpo" and row["task"] == "overall")
    assert float(row["value"]) == found["large-diverse-dpo", "", "overall"].value and row["prompts"] == "36"


@pytest.mark.parametrize(
    "text", ["a|b", "<img src=x onerror=alert(1)>", "**bold** _x_ `c`", "[l](javascript:x)", "a\nb"]
)
def test_markdown_shows_the_characters_themselves(text):
    found = to_markdown(table(text))
    assert found.count("\n") == 3 and "<" not in found
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in found.splitlines())
    assert not re.search(r"(?<!\\)[*`\[]", found.replace("--:", ""))


def test_latex_escapes_its_special_characters():
    found = to_latex(table(r"50 % of \input{x} & $y_1$ #2 ^ ~ {z}"))
    line = next(line for line in found.splitlines() if line.startswith("50"))
    assert r"50 \% of \textbackslash{}input\{x\} \& \$y\_1\$ \#2 \textasciicircum{} \textasciitilde{} \{z\}" in line
    assert len(re.findall(r"(?<!\\)&", line)) == 1
    assert latex_text("a\u202eb 🎨 é") == "a[U+202E]b [U+1F3A8] é"


def test_a_table_in_latex_fits_the_page_and_says_constants_once(finished):
    study = read_study(finished)
    found = to_latex(geneval(study, scores(study)))
    assert r"\begin{table*}" in found and r"\label{tab:geneval}" in found and r"\toprule" in found
    assert "images: 72, prompts: 36, seeds: 1." in found and "prompts &" not in found
    assert found.count(r"\midrule") == 2 and r"\\{\scriptsize [" in found  # variants, controls; a second line
    quality_table = next(table for table in measures(study) if table.name == "quality")
    text = to_latex(quality_table)
    assert "FID, KID: icon-clip, n=1000" in text and r"FID $\downarrow$" in text and "icon-clip,n=1000]" not in text


LATEX = next(filter(None, map(shutil.which, ("pdflatex", "tectonic"))), None)
HOSTILE = [r"50 % of \input{x} & $y_1$ #2 ^ ~ {z}" + "x" * 200, "\u05d0\u05d1 right to left", "🎨 emoji", "[a] ö ∞ ≥"]


@pytest.mark.skipif(LATEX is None, reason="neither pdflatex nor tectonic is installed")
def test_every_table_compiles_in_a_two_column_article(finished, tmp_path):
    study = read_study(finished)
    judged = verdicts(study)
    shown = [geneval(study, scores(study)), contrast_tables.contrasts(judged), contrast_tables.effects(judged)]
    shown += [*measures(study), provenance.protocol(study), provenance.inputs(study), published()]
    shown += [table(text) for text in HOSTILE]
    body = "\n\\clearpage\n".join(map(to_latex, shown))
    (tmp_path / "paper.tex").write_text(
        "\\documentclass[twocolumn]{article}\n\\usepackage[T1]{fontenc}\\usepackage{booktabs,graphicx}\n"
        f"\\begin{{document}}text\n{body}\\end{{document}}\n"
    )
    options = ["-interaction=nonstopmode", "-halt-on-error"] if "pdflatex" in str(LATEX) else []
    done = subprocess.run([str(LATEX), *options, "paper.tex"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000


@pytest.mark.parametrize(
    "value, text", [(0, "0"), (0.5, "0.500"), (0.00187, "0.0019"), (-24.25, "-24.2"), (1234.5, "1234"), (3e14, "3e+14")]
)
def test_numbers_are_short(value, text):
    assert number(value) == text


def test_published_numbers_say_so():
    found = published()
    assert "not measured here" in found.title and any(row["model"] == "LightGen" for row in found.data)


def test_settings_of_any_depth_have_dotted_names():
    setting = {"model": {"head": {"depth": 4}}, "rounds": [{"beta": 1.0}, {"beta": 2.0}], "tags": ["a", "b"], "x": None}
    assert flat(setting) == {
        "model.head.depth": "4", "rounds.1.beta": "1.0", "rounds.2.beta": "2.0", "tags": "a, b", "x": "none",
    }  # fmt: skip


def test_a_measure_may_be_better_the_closer_it_is_to_the_reference(make_study):
    root = make_study()
    for path in root.glob("cells/*/result.json"):
        data = json.loads(path.read_text())
        metric = {"value": 2.9, "ci": None, "n": 100, "higher_is_better": None, "target": 1.71, "version": "1"}
        data["metrics"]["vendi[icon-clip,n=1000]"] = metric
        path.write_text(json.dumps(data))
    study = read_study(root)
    table = next(table for table in measures(study) if table.name == "fidelity")
    assert table.header[-1] == "vendi[icon-clip,n=1000] → the reference's 1.710"
    assert "$\\rightarrow$" in to_latex(table) and "closer to the line" in quality(study).svg
