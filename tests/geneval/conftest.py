"""Where the goldens lie, and tiny random components in their libraries' own folder formats."""

import os
from pathlib import Path

import pytest

from tests.geneval import tiny

_COPY = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="session")
def geneval_golden() -> Path:
    return Path(os.environ.get("GENEVAL_GOLDEN", _COPY / "geneval"))


@pytest.fixture(scope="session")
def mmdet_golden() -> Path:
    return Path(os.environ.get("MMDET_GOLDEN", _COPY / "mmdet"))


@pytest.fixture(scope="session")
def mmdet_state(mmdet_golden) -> dict:
    """mmdet's tensors under mmdet's names, float32, without its index buffers."""
    return tiny.mmdet_tensors(mmdet_golden)


@pytest.fixture(scope="session")
def mmdet_checkpoint(mmdet_golden, mmdet_state, tmp_path_factory) -> Path:
    """A .pth as mmdet writes it: the golden's own, or its tensors in the same structure and PyTorch's old format."""
    whole = mmdet_golden / "tiny_mmdet.pth"
    if whole.is_file():
        return whole
    path = tmp_path_factory.mktemp("mmdet") / "tiny_mmdet.pth"
    return tiny.write_mmdet(path, mmdet_state, _use_new_zipfile_serialization=False)


@pytest.fixture(scope="session")
def detector_folder(tmp_path_factory) -> Path:
    """A Mask2Former of three classes for 32 px pictures."""
    return tiny.make_detector(tmp_path_factory.mktemp("detector"))


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory) -> Path:
    """A CLIP with random weights."""
    return tiny.make_clip(tmp_path_factory.mktemp("clip"))
