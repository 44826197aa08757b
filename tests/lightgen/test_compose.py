"""Captioned cut-outs become captioned pictures of many sizes, the same ones each time; a kill costs one of them."""

import pytest
from PIL import Image

from lightgen.data.compose import compose, read_cutouts
from lightgen.data.config import ComposeConfig, ImportConfig
from lightgen.data.images import read_image
from lightgen.data.importing import import_images

SMALL = ComposeConfig(images=12, smallest=20, largest=60, pairs=0.5)


@pytest.fixture
def cutouts(tmp_path):
    root = tmp_path / "cutouts"
    for number, text in enumerate(("A ladybug.", "An oak.\nfr.utf8=Un ch\u00eane.", "Fire!", "")):
        path = root / f"part{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("LA" if number else "RGBA", (10 + number, 14), "white").save(path)
        path.with_suffix(".txt").write_text(text)
    Image.new("RGBA", (4, 4)).save(root / "uncaptioned.png")
    return root


def test_the_first_line_is_the_caption(cutouts):
    assert [found.caption for found in read_cutouts(cutouts)] == ["A ladybug", "Fire!", "An oak"]


def test_pictures_follow_from_the_seed_and_an_interrupted_call_goes_on(cutouts, tmp_path):
    assert compose(cutouts, tmp_path / "a", SMALL) == 3
    files = sorted(path.name for path in (tmp_path / "a").glob("0*"))
    assert len(files) == 24
    compose(cutouts, tmp_path / "b", SMALL)
    (tmp_path / "b" / "000003.jpg").unlink()
    compose(cutouts, tmp_path / "b", SMALL)
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    captions = [path.read_text().strip() for path in sorted((tmp_path / "a").glob("*.txt"))]
    assert all(caption.endswith(" ground") for caption in captions)
    assert any(" left of " in caption for caption in captions) and not all(" left of " in c for c in captions)
    sizes = {read_image(path).size for path in (tmp_path / "a").glob("*.jpg")}
    assert len(sizes) > 6 and all(20 <= side <= 60 for size in sizes for side in size)
    with pytest.raises(ValueError, match="begun with other settings"):
        compose(cutouts, tmp_path / "a", ComposeConfig(images=13, smallest=20, largest=60))


def test_import_reads_what_compose_writes(cutouts, tmp_path):
    compose(cutouts, tmp_path / "a", SMALL)
    assert import_images(tmp_path / "a", tmp_path / "set", ImportConfig(size=16))["num_samples"] == 12


def test_no_cutouts_and_no_sense(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no PNG with a caption"):
        compose(tmp_path / "empty", tmp_path / "out", SMALL)
    with pytest.raises(ValueError, match="sides from 16 px up"):
        ComposeConfig(smallest=10)
