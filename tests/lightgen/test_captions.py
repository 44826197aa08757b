import pytest

from lightgen.data.captions import read_captions


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_the_three_forms_give_the_same_captions(tmp_path):
    text = write(tmp_path / "a.txt", "a red bench\n\n  two cats \n")
    lines = write(tmp_path / "a.jsonl", '{"prompt": "a red bench"}\n"two cats"\n')
    listed = write(tmp_path / "a.json", '["a red bench", {"prompt": "two cats"}]')
    assert read_captions(text) == read_captions(lines) == read_captions(listed) == ["a red bench", "two cats"]


def test_a_long_caption_is_kept_whole(tmp_path):
    assert len(read_captions(write(tmp_path / "a.txt", "x" * 10_000))[0]) == 10_000


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.jsonl", '{"prompt": "fine"}\n{"prompt": "to', "line 2: torn"),
        ("a.jsonl", '{"prompt": ""}\n', "line 1: the caption is empty"),
        ("a.jsonl", '{"text": "x"}\n', "line 1: expected"),
        ("a.json", '{"prompt": "x"}', "expected a JSON list"),
        ("a.json", '["x"', "torn"),
        ("a.txt", "\n \n", "holds no captions"),
        ("a.txt", "x" * 20_001, "20,001 characters"),
        ("a.csv", "x", "captions come in"),
    ],
)
def test_bad_files_are_one_clear_error(tmp_path, name, text, reason):
    with pytest.raises(ValueError, match=reason):
        read_captions(write(tmp_path / name, text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_captions(tmp_path / "none.txt")
