import pytest
from PIL import Image

from lightgen.data.config import DistillConfig
from lightgen.data.distill import distill
from lightgen.data.painters import ShardPainter, load_painter
from lightgen.data.shards import Sample, read_shards, write_shards


class Painter:
    """Paints the seed as a color and remembers its batches."""

    name = "painter"

    def __init__(self):
        self.batches = []

    def __call__(self, captions, seeds):
        self.batches.append(list(captions))
        return [Image.new("RGB", (4, 4), (seed % 256, len(caption), 0)) for caption, seed in zip(captions, seeds)]


def pixels(folder):
    return [(sample.prompt, sample.image.tobytes()) for sample in read_shards(folder)]


def test_images_do_not_depend_on_the_batch(tmp_path):
    captions = ["a", "bb", "ccc"]
    for size in (1, 4):
        distill(Painter(), captions, tmp_path / str(size), DistillConfig(copies=3, batch_size=size))
    assert pixels(tmp_path / "1") == pixels(tmp_path / "4")
    assert [prompt for prompt, _ in pixels(tmp_path / "1")] == ["a"] * 3 + ["bb"] * 3 + ["ccc"] * 3
    assert len(set(pixels(tmp_path / "1"))) == 9


def test_a_resumed_run_asks_only_for_what_is_missing(tmp_path):
    class Breaks(Painter):
        def __call__(self, captions, seeds):
            if len(self.batches) == 2:
                raise KeyboardInterrupt
            return super().__call__(captions, seeds)

    captions = [f"caption {i}" for i in range(6)]
    with pytest.raises(KeyboardInterrupt):
        distill(Breaks(), captions, tmp_path / "a", DistillConfig(batch_size=2, shard_size=2))
    painter = Painter()
    distill(painter, captions, tmp_path / "a", DistillConfig(batch_size=2, shard_size=2))
    assert painter.batches == [captions[4:]]
    distill(Painter(), captions, tmp_path / "b", DistillConfig(batch_size=2, shard_size=2))
    assert pixels(tmp_path / "a") == pixels(tmp_path / "b")


def test_other_captions_in_the_same_folder_are_refused(tmp_path):
    distill(Painter(), ["a"], tmp_path)
    with pytest.raises(ValueError, match="other settings"):
        distill(Painter(), ["b"], tmp_path)


def test_a_shard_painter_answers_from_existing_shards(tmp_path):
    pictures = [Sample(str(i), Image.new("RGB", (4, 4), (i, i, i)), {"prompt": p}) for i, p in enumerate("aab")]
    write_shards(pictures, tmp_path, shard_size=2)
    painter = ShardPainter(tmp_path)
    assert painter.captions == ["a", "b"]
    drawn = painter(["a", "a", "b"], [0, 1, 5])
    assert [image.getpixel((0, 0))[0] for image in drawn] == [0, 1, 2]
    with pytest.raises(ValueError, match="no image for 1 captions"):
        painter(["c"], [0])


def test_a_folder_that_holds_no_painter_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no data set here"):
        load_painter(tmp_path)
