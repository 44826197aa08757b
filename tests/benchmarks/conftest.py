"""Tiny real parts for the quality tests: a CLIP folder, and folders of pictures."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

CLIP_CONFIG = {
    "model_cfg": {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    """An open_clip folder with random weights from a seed."""
    return write_clip(tmp_path_factory.mktemp("components") / "icon-clip", seed=0)


@pytest.fixture(scope="session")
def other_clip_folder(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("components") / "other-clip", seed=1)


def write_clip(folder, seed):
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = open_clip.CLIP(**CLIP_CONFIG["model_cfg"])
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    (folder / "open_clip_config.json").write_text(json.dumps(CLIP_CONFIG))
    return folder


def draw_picture(seed: int, size: int = 32) -> Image.Image:
    """A colored square on a grey ground with a little noise."""
    generator = np.random.default_rng(seed)
    pixels = np.full((size, size, 3), 128) + generator.normal(0, 8, (size, size, 3))
    top, left = generator.integers(0, size // 2, 2)
    pixels[top : top + size // 2, left : left + size // 2] = generator.integers(0, 256, 3)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def picture():
    """The drawing function: tests are imported by path and cannot import this file."""
    return draw_picture


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A flat folder of 40 PNG files."""
    folder = tmp_path_factory.mktemp("pictures")
    for index in range(40):
        draw_picture(index).save(folder / f"{index:03d}.png")
    return folder


@pytest.fixture(scope="session")
def geneval_folder(tmp_path_factory):
    """12 prompts x 2 images in GenEval's layout."""
    root = tmp_path_factory.mktemp("images")
    for index in range(12):
        samples = root / f"{index:05d}" / "samples"
        samples.mkdir(parents=True)
        prompt = {"tag": "single_object", "prompt": f"a photo of {index} squares"}
        (samples.parent / "metadata.jsonl").write_text(json.dumps(prompt) + "\n")
        for copy in range(2):
            draw_picture(100 + 2 * index + copy).save(samples / f"{copy:05d}.png")
    return root


@pytest.fixture(scope="session")
def write_shard():
    """Writes a WebDataset shard: a picture a prompt; None leaves the prompt out of its record."""

    def write(path, prompts):
        with tarfile.open(path, "w") as tar:
            for index, prompt in enumerate(prompts):
                buffer = io.BytesIO()
                draw_picture(index).save(buffer, "PNG")
                record = json.dumps({} if prompt is None else {"prompt": prompt}).encode()
                for name, data in ((f"{index:06d}.png", buffer.getvalue()), (f"{index:06d}.json", record)):
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))

    return write
