"""Devices by name, and TF32 off where it matters and nowhere else."""

import pytest
import torch

from geneval.device import choose_device, without_tf32


def test_a_device_that_is_not_there_is_refused_with_those_that_are():
    assert choose_device("cpu") == "cpu" and choose_device() in ("cpu", "cuda", "mps", "xpu")
    for name in ("cuda:99", "mps:7", "gpu", "cuda:", ""):
        with pytest.raises(ValueError, match="valid: auto, cpu"):
            choose_device(name)


@pytest.mark.parametrize(
    ("accelerator", "name", "chosen"),
    [("cuda", "auto", "cuda"), ("mps", "auto", "mps"), ("cuda", "cuda:1", "cuda:1"), ("cuda", "cpu", "cpu")],
)
def test_any_accelerator_is_taken(monkeypatch, accelerator, name, chosen):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(accelerator))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    assert choose_device(name) == chosen


def test_tf32_is_off_inside_and_as_it_was_afterwards():
    def settings():
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    before = settings()
    with pytest.raises(RuntimeError), without_tf32():
        assert settings() == (False, False) and torch.backends.cudnn.enabled
        raise RuntimeError
    assert settings() == before
    choose_device()
    assert settings() == before
