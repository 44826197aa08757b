"""What somebody tries on a first day: prompts as text, embedded parts by name, what a judge knows, several scores."""

import json
import sys

import pytest

from geneval.__main__ import main
from geneval.prompts import MetadataError, counting_prompt
from geneval.templates import parse_text, read_asked


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Run one command far from the repository; (exit code, standard output, standard error)."""

    def call(*words):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["geneval", *map(str, words)])
        return main(), *capsys.readouterr()

    return call


@pytest.mark.parametrize(
    ("text", "name", "count"),
    [
        ("a photo of four couches", "couch", 4),
        ("a photo of four couchs", "couch", 4),
        ("a photo of two people", "person", 2),
        ("a photo of three sheep", "sheep", 3),
        ("a photo of two knives", "knife", 2),
        ("a photo of three buses", "bus", 3),
    ],
)
def test_a_plural_may_be_english(text, name, count):
    assert parse_text(text) == counting_prompt(name, count)


def test_the_teacher_reads_english_too():
    from ablations.icons.scenes import parse
    from ablations.icons.world import WORLDS

    here = WORLDS["components"]
    assert parse("four couches", here) == parse("a photo of four couchs", here)


def test_prompts_may_be_text(tmp_path):
    path = tmp_path / "five.txt"
    path.write_text("a photo of a bench\n\na photo of two clocks\n")
    assert [prompt.tag for prompt in read_asked(path)] == ["single_object", "counting"]
    path.write_text("a photo of a bench\na castle on the moon\n")
    with pytest.raises(MetadataError, match=r"five\.txt:2: 'a castle on the moon' is none of GenEval's templates"):
        read_asked(path)
    path.write_text("\n")
    with pytest.raises(MetadataError, match="no prompt"):
        read_asked(path)


def test_doctor_says_what_the_embedded_judge_knows(command):
    code, out, _ = command("doctor", "--detector", "icons", "--clip", "icon-clip")
    assert code == 0
    assert "8 classes: " in out and "10 colors: red, orange, yellow" in out
    names = out.split("8 classes: ")[1].splitlines()[0].split(", ")
    assert sorted(names) == ["airplane", "bird", "car", "clock", "couch", "cup", "tie", "umbrella"]


def test_rendered_pictures_are_detected_and_scored(command, tmp_path):
    """The teacher's own, by the embedded judge by name, from any folder: all but perfect."""
    from ablations.icons.__main__ import main as icons

    assert icons(["render", "--geneval", "--world", "components", "--images", "12", "--out", str(tmp_path / "x")]) == 0
    assert icons(["render", "--geneval", "--images", "3", "--out", str(tmp_path / "y")]) == 2
    code, _, err = command("detect", "x", "--detector", "icons", "--clip", "icon-clip", "--device", "cpu")
    assert code == 0, err
    code, out, err = command("score", "x", "--prompts", "x/evaluation_metadata.jsonl", "--json")
    assert code == 0 and json.loads(out)["overall"]["value"] > 0.7, err


def rows(correct, prompts=4, copies=2, **more):
    return [
        {"tag": "colors", "prompt": f"p{p}", "metadata": f"m{p}", "correct": (p, c) in correct, "reason": "", **more}
        for p in range(prompts)
        for c in range(copies)
    ]


def write(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_compare_prints_both_scores_of_as_many_files_as_are_given(command, tmp_path):
    a = write(tmp_path / "a.jsonl", rows({(0, 0), (0, 1), (1, 0)}))
    b = write(tmp_path / "b.jsonl", rows({(0, 0)}))
    c = write(tmp_path / "c.jsonl", rows(set()))
    code, out, _ = command("compare", a, b, c)
    assert code == 0 and out.count("overall") == 2
    assert "overall           0.3750  0.1250  +0.2500" in out and "overall           0.3750  0.0000  +0.3750" in out
    code, out, _ = command("compare", a, b, c, "--json")
    assert [(one["overall"]["a"], one["overall"]["b"]) for one in json.loads(out)] == [(0.375, 0.125), (0.375, 0.0)]


def test_compare_keeps_to_what_all_files_have(command, tmp_path):
    a = write(tmp_path / "a.jsonl", rows({(0, 0), (3, 0)}))
    b = write(tmp_path / "b.jsonl", rows({(0, 0)}, prompts=3, partial=True)[:-1])
    code, _, err = command("compare", a, b)
    assert code == 2 and "--common compares what both have" in err
    code, out, _ = command("compare", a, b, "--common")
    assert code == 0 and "COMMON: 3 images were left out" in out and "PARTIAL" in out and "overall" in out
    other = write(tmp_path / "c.jsonl", [{**row, "metadata": "else"} for row in rows(set())])
    code, _, err = command("compare", a, other, "--common")
    assert code == 2 and "no prompt in common" in err
