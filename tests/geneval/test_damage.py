"""A thousand damaged inputs: each is refused by one clear error or read as the original would; never a traceback."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geneval.detections import DetectionsError, parse_line
from geneval.images import ImageError, read_image
from geneval.layout import read_layout, sample_path, write_prompt_folder
from geneval.options import Options
from geneval.prompts import MetadataError, Prompt, write_prompts
from geneval.rules import MissingColor, check, grade
from geneval.scores import read_results, score_folder
from geneval.summary import summary_text

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=True) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
LINE = {
    "filename": "00000/samples/00000.png",
    "size": [8, 8],
    "detections": {"cat": [[0, 0, 4, 4, 0.9]]},
    "colors": {"cat": ["red"]},
    "detector": {},
    "sha256": "",
}
METADATA = {
    "tag": "color_attr",
    "include": [
        {"class": "cat", "count": 1, "color": "red"},
        {"class": "dog", "count": 1, "position": ["above", 0]},
    ],
    "exclude": [{"class": "cat", "count": 2}],
    "prompt": "p",
}


@QUICK
@given(st.sampled_from(list(LINE)), JSON)
def test_a_wrong_field_of_a_detections_line(field, value):
    try:
        found = parse_line(json.dumps(LINE | {field: value}), "detections.jsonl:7")
    except DetectionsError as error:
        assert "detections.jsonl:7" in str(error)
    else:
        assert not check({"tag": "x", "include": [{"class": "cow", "count": 1}]}, found.detections).correct


@QUICK
@given(st.integers(0, len(json.dumps(LINE)) - 1))
def test_a_torn_detections_line(length):
    with pytest.raises(DetectionsError, match=r"detections\.jsonl:7"):
        parse_line(json.dumps(LINE)[:length], "detections.jsonl:7")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", '"1"', "null", "true", "1e30"])
def test_a_box_that_is_no_box(number):
    text = json.dumps(LINE).replace("[0, 0, 4, 4, 0.9]", f"[0, {number}, 4, 4, 0.9]")
    with pytest.raises(DetectionsError, match=r"detections\.jsonl:7"):
        parse_line(text, "detections.jsonl:7")


@QUICK
@given(st.sampled_from(["tag", "prompt", "include", "exclude"]), JSON)
def test_wrong_metadata(field, value):
    record = METADATA | {field: value}
    try:
        Prompt.from_metadata(record, "00003/metadata.jsonl")
    except MetadataError as error:
        assert "00003/metadata.jsonl" in str(error)
    else:
        check(record, {}, {})


@QUICK
@given(st.sampled_from(["class", "count", "color", "position", "size"]), JSON)
def test_a_wrong_clause(field, value):
    record = METADATA | {"include": [METADATA["include"][0] | {field: value}]}
    try:
        Prompt.from_metadata(record, "00003/metadata.jsonl")
    except MetadataError as error:
        assert "00003/metadata.jsonl" in str(error)
    else:
        check(record, {}, {})


BOX = st.lists(st.floats(-1e7, 1e7, width=32), min_size=4, max_size=4)
SCORE = st.floats(0, 1, width=32)
ROWS = st.lists(st.builds(lambda box, score: [*box, score], BOX, SCORE), max_size=4)


@QUICK
@given(ROWS, ROWS, st.sampled_from(["0.0", "0.3", "1.0"]))
def test_any_boxes_get_a_verdict_and_a_grade_that_agree(cats, dogs, overlap):
    options = Options.parse({"max_overlap": overlap})
    detections = {"cat": cats, "dog": dogs}
    colors = {"cat": ["red"] * len(cats), "dog": ["blue"] * len(dogs)}
    verdict = check(METADATA, detections, colors, options)
    value = grade(METADATA, detections, colors, options)
    assert verdict.correct == (verdict.reason == "") == (value == 1) and 0 <= value <= 1
    if verdict.color_queries:
        with pytest.raises(MissingColor):
            check(METADATA, detections, None, options)


@QUICK
@given(st.binary(max_size=200))
def test_bytes_that_are_no_picture(tmp_path, data):
    for head in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\x00\x00\x00\x00WEBP"):
        (tmp_path / "x.png").write_bytes(head + data)
        with pytest.raises(ImageError, match=r"x\.png"):
            read_image(tmp_path / "x.png")


def test_a_picture_that_claims_to_be_huge(tmp_path):
    """A PNG header of 100,000 x 100,000 px must be refused before anything is decoded."""
    import struct
    import zlib

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    path = tmp_path / "huge.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)))
    with pytest.raises(ImageError, match=r"huge\.png"):
        read_image(path)


@QUICK
@given(st.lists(st.text(max_size=30), max_size=4))
def test_results_of_any_text(tmp_path, lines):
    path = tmp_path / "results.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8", errors="replace")
    with pytest.raises(ValueError, match=r"results\.jsonl"):
        read_results(path)


@QUICK
@given(JSON)
def test_results_of_any_json(tmp_path, value):
    path = tmp_path / "results.jsonl"
    row = {"tag": "t", "prompt": "p", "metadata": "{}", "correct": True, "reason": value}
    path.write_text(json.dumps(row) + "\n" + json.dumps(value) + "\n")
    with pytest.raises(ValueError, match=r"results\.jsonl"):
        summary_text(read_results(path))


@QUICK
@given(
    st.sampled_from(["00000/metadata.jsonl", "detections.jsonl", "evaluation_metadata.jsonl"]),
    st.integers(0, 400),
    st.binary(min_size=1, max_size=3),
    st.booleans(),
)
def test_a_folder_with_damaged_bytes_is_refused_or_scored(tmp_path_factory, name, place, data, is_cut):
    """Bytes written over, or the file cut there: an error that names the folder, or the same number of verdicts."""
    root = tmp_path_factory.mktemp("damaged")
    prompt = Prompt.from_metadata(METADATA)
    write_prompt_folder(root, 0, prompt)
    sample_path(root, 0, 0).touch()
    write_prompts([prompt], root)
    (root / "detections.jsonl").write_text(json.dumps(LINE | {"colors": {"cat": ["red"]}}) + "\n")
    content = (root / name).read_bytes()
    place = min(place, len(content) - 1)
    (root / name).write_bytes(content[:place] + (b"" if is_cut else data + content[place + len(data) :]))
    try:
        rows = score_folder(root, prompts=root)
    except ValueError as error:
        assert str(root) in str(error)
    else:
        assert len(rows) == 1 and not rows[0]["correct"]


def test_hostile_names_in_a_folder(tmp_path):
    """Names that are no numbers, a file for a folder: left out as in the original; a folder for a file: named."""
    for name in ("..hidden", "12a", "-1", "0001\u0660x"):
        (tmp_path / name).mkdir()
    (tmp_path / "00001").write_text("a file")
    (tmp_path / "00002").mkdir()
    (tmp_path / "00002" / "metadata.jsonl").mkdir()
    folders, problems = read_layout(tmp_path)
    assert folders == [] and len(problems) == 1 and "00002" in problems[0]
