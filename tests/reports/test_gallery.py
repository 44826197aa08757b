"""The sample grid: the same prompts for all, and pictures that cannot harm a reader."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from reports.figures.samples import samples
from reports.gallery import MAX_PROMPTS, MAX_SIDE, gallery, spread
from reports.records.study import read_study

SAMPLE = "cells/small-diverse-none-s0/samples/00000.png"


def first_picture(root):
    found = gallery(read_study(root))
    place = [variant.name for variant in found.variants].index("small-diverse-none")
    return found.rows[0].pictures[place]


def test_rows_are_prompts_and_columns_variants_with_controls_last(finished):
    found = gallery(read_study(finished))
    assert [variant.name for variant in found.variants][-2:] == ["untrained", "teacher"]
    assert 0 < len(found.rows) <= MAX_PROMPTS
    assert all(len(row.pictures) == 10 and all(row.pictures) for row in found.rows)


def test_a_variant_that_was_asked_for_other_prompts_has_no_column(make_study):
    root = make_study()
    path = root / "cells/large-diverse-none-s0/samples.json"
    path.write_text(
        json.dumps([one | {"prompt": f"{one['prompt']}, seen anew"} for one in json.loads(path.read_text())])
    )
    found = gallery(read_study(root))
    assert len(found.variants) == 9 == len(found.rows[0].pictures)
    assert "large-diverse-none" not in [variant.name for variant in found.variants]


def test_a_choice_takes_turns_over_tasks_and_splits():
    given = [{"tag": t, "split": s, "i": i} for t in "ab" for s in "xyz" for i in range(5)]
    chosen = spread(given, 6)
    assert {(sample["tag"], sample["split"]) for sample in chosen} == {(t, s) for t in "ab" for s in "xyz"}
    assert [given.index(sample) for sample in chosen] == sorted(given.index(sample) for sample in chosen)


def test_pictures_are_embedded_as_plain_pixels(make_study):
    root = make_study()
    image = Image.new("RGBA", (300, 200), (255, 0, 0, 128))
    image.save(root / SAMPLE, pnginfo=None)
    picture = first_picture(root)
    assert picture.source.startswith("data:image/png;base64,")
    assert picture.image.mode == "RGB" and max(picture.image.size) == MAX_SIDE


@pytest.mark.parametrize(
    "content", [b"", b"not a picture", b"GIF89a\x01\x00\x01\x00\x00\x00\x00;", b"\x89PNG\r\n\x1a\ntorn"]
)
def test_a_file_that_is_no_picture_is_named_not_shown(make_study, content):
    root = make_study()
    (root / SAMPLE).write_bytes(content)
    picture = first_picture(root)
    assert picture.source == "" and picture.reason.startswith("cannot be shown")


def test_a_path_out_of_the_cell_is_not_read(make_study):
    root = make_study()
    path = root / "cells/small-diverse-none-s0/samples.json"
    given = json.loads(path.read_text())
    given[0]["file"] = "../small-narrow-none-s0/samples/00000.png"
    path.write_text(json.dumps(given))
    assert first_picture(root).source == ""


def test_a_variant_without_a_prompt_leaves_its_place_empty(make_study):
    root = make_study()
    path = root / "cells/small-diverse-none-s0/samples.json"
    path.write_text(json.dumps(json.loads(path.read_text())[1:]))
    assert first_picture(root) is None


def test_the_sheet_lists_what_it_shows(finished):
    figure = samples(gallery(read_study(finished)))
    assert {row["variant"] for row in figure.data} >= {"untrained", "large-diverse-dpo"}
    assert len({row["prompt"] for row in figure.data}) == 8
