"""Where the goldens lie: the copy in the repository, or the larger set that the environment names."""

import os
from pathlib import Path

import pytest

_COPY = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="session")
def geneval_golden() -> Path:
    return Path(os.environ.get("GENEVAL_GOLDEN", _COPY / "geneval"))


@pytest.fixture(scope="session")
def mmdet_golden() -> Path:
    return Path(os.environ.get("MMDET_GOLDEN", _COPY / "mmdet"))
