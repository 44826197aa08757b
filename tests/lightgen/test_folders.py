import hashlib

import pytest

from lightgen.disk.atomic import write_text
from lightgen.disk.folders import claim_folder, file_sha256, folder_sha256, temporary_folder


def test_a_folder_appears_whole(tmp_path):
    final = tmp_path / "runs" / "model"
    with temporary_folder(final) as folder:
        (folder / "a.txt").write_text("new")
        assert not final.exists()
    assert (final / "a.txt").read_text() == "new"
    assert [path.name for path in final.parent.iterdir()] == ["model"]


def test_a_failed_block_leaves_the_older_folder_untouched(tmp_path):
    final = tmp_path / "model"
    with temporary_folder(final) as folder:
        (folder / "a.txt").write_text("old")
    with pytest.raises(RuntimeError, match="stop"), temporary_folder(final) as folder:
        (folder / "a.txt").write_text("half")
        raise RuntimeError("stop")
    assert (final / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_published_folder_replaces_the_older_one(tmp_path):
    final = tmp_path / "model"
    for text in ("old", "new"):
        with temporary_folder(final) as folder:
            (folder / f"{text}.txt").write_text(text)
    assert [path.name for path in final.iterdir()] == ["new.txt"]
    assert final.stat().st_mode & 0o044, "readable by others as far as the umask allows"


def test_hashes_follow_names_and_bytes(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "config.json").write_text("{}")
    assert file_sha256(tmp_path / "model.safetensors") == hashlib.sha256(b"weights").hexdigest()
    before = folder_sha256(tmp_path)
    (tmp_path / "notes.md").write_text("not part of it")
    (tmp_path / "quality.json").write_text("a measurement of it")
    assert folder_sha256(tmp_path) == before
    (tmp_path / "merges.txt").write_text("part of a tokenizer")
    assert folder_sha256(tmp_path) != before
    before = folder_sha256(tmp_path)
    write_text(tmp_path / "config.json", '{"a": 1}')
    assert folder_sha256(tmp_path) != before
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"no \.safetensors"):
        folder_sha256(tmp_path)


def test_a_folder_begun_with_other_settings_is_refused(tmp_path):
    claim_folder(tmp_path, {"seed": 1, "sizes": (1, 2)})
    claim_folder(tmp_path, {"seed": 1, "sizes": (1, 2)})
    with pytest.raises(ValueError, match="begun with other settings"):
        claim_folder(tmp_path, {"seed": 2, "sizes": (1, 2)})
