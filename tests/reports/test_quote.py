"""Numbers in pages are the records' own, and stay so."""

import pytest

from reports.__main__ import quote
from reports.quote import quoted, write_quotes
from reports.records.study import read_study
from reports.verdict import between, verdicts

PAGE = "Before.\n\n<!-- quote {folder} {what} -->\nold\n<!-- end of quote -->\n\nAfter.\n"


def page(finished, tmp_path, what):
    path = tmp_path / "page.md"
    path.write_text(PAGE.format(folder=finished, what=what), encoding="utf-8")
    return path


def test_a_page_is_written_from_the_records_and_then_agrees(finished, tmp_path, capsys):
    found = verdicts(read_study(finished))[0]
    path = page(finished, tmp_path, f"verdicts {found.contrast.name}")
    assert quote((path,), check=True) == 1 and "old" in path.read_text()
    assert write_quotes(path) and not write_quotes(path)
    text = path.read_text()
    assert f"{found.difference.effect:+.3f}" in text and text.startswith("Before.") and text.endswith("After.\n")
    assert quote((path,), check=True) == 0


def test_a_table_has_a_row_for_each_variant(finished, tmp_path):
    names = [variant.name for variant in read_study(finished).variants if variant.name.endswith("-none")]
    rows = [line for line in quoted(page(finished, tmp_path, f"scores {' '.join(names)}")).splitlines() if "|" in line]
    assert len(rows) == 2 + len(names) and "old" not in rows


def test_a_table_against_a_base_gives_differences_and_means(finished, tmp_path):
    base, other = "small-diverse-none", "large-narrow-none"
    what = f"against {base} geneval/position clip_score : {base} {other} teacher"
    head, _, first, second, control = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in quoted(page(finished, tmp_path, what)).splitlines()
        if "|" in line
    )
    assert head[3:] == [f"minus {base}", "GenEval position", "CLIP score"]
    found = between(read_study(finished), other, base, "geneval/overall").difference
    assert second[3].startswith(f"{found.effect:+.3f} [") and first[3] == control[3] == ""
    (cell,) = read_study(finished).complete(other)
    assert float(second[4]) == pytest.approx(cell.metrics["geneval/position"].value, abs=5e-4)


@pytest.mark.parametrize("what", ["scores nobody", "verdicts nothing", "against nobody : small-diverse-none",
                                  "against small-diverse-none : nobody"])  # fmt: skip
def test_names_that_the_records_do_not_have_are_refused(what, finished, tmp_path):
    with pytest.raises(ValueError, match=r"nobody|nothing"):
        quoted(page(finished, tmp_path, what))


def test_no_page_is_an_error_and_not_nothing_to_do():
    with pytest.raises(ValueError, match="no pages"):
        quote(())
