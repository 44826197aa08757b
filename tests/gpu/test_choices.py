"""Bad devices and little memory are one clear line each, and what is faster on a GPU is as near as stated."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lightgen import device as devices
from lightgen.device import choose_device, in_batches, require_bf16, why_no_cuda
from lightgen.model.config import SamplingConfig
from lightgen.model.convert import build_model, infer_config
from lightgen.model.mar import MAR
from lightgen.model.sampling import compiled_head, generate_latents
from lightgen.training.config import LoopConfig, TrainConfig
from lightgen.training.train import train
from tests.lightgen import squares

GOLDEN = Path(__file__).parents[1] / "golden/lightgen_official_small"


@pytest.fixture(scope="module")
def golden() -> MAR:
    settings, weights = json.loads((GOLDEN / "config.json").read_text()), load_file(GOLDEN / "weights.safetensors")
    config = infer_config(weights, heads=settings["heads"], patch_size=2, max_text_length=settings["max_length"])
    return build_model(weights, config).eval()


def generate(model: MAR, **changes) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    text = torch.randn(2, 8, model.mar_config.text_channels, generator=generator)
    config = SamplingConfig(**{"num_steps": 6, "num_head_steps": 12, "guidance_scale": 3.0, **changes})
    generators = [torch.Generator().manual_seed(number) for number in range(2)]
    return generate_latents(model, text, torch.full((2,), 8), (8, 8), config, generators)


def test_bf16_images_are_within_three_percent(golden):
    exact = generate(golden)
    fast = generate(torch.nn.Module.to(build_model_like(golden), torch.bfloat16))
    assert fast.dtype is torch.float32
    assert float((fast - exact).square().mean().sqrt() / exact.square().mean().sqrt()) < 0.03


def build_model_like(model: MAR) -> MAR:
    copy = MAR(model.mar_config).eval()
    copy.load_state_dict(model.state_dict())
    return copy


@pytest.mark.slow
def test_a_compiled_head_gives_the_same_images(golden, monkeypatch):
    from torch._dynamo.testing import CompileCounterWithBackend

    programs, real = CompileCounterWithBackend("eager"), torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **_: real(f, backend=programs, dynamic=False))
    torch._dynamo.reset()
    expected = generate(golden, num_steps=4, num_head_steps=4)
    with compiled_head(golden):
        found = generate(golden, num_steps=4, num_head_steps=4)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert 0 < programs.frame_count <= 8 and "modulated" not in vars(golden.head)


def test_a_batch_that_does_not_fit_is_halved_and_said():
    said, sizes = [], []

    def work(batch):
        sizes.append(len(batch))
        if len(batch) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [item * 2 for item in batch]

    found = [result for _, results in in_batches(range(10), 8, work, said.append) for result in results]
    assert found == [item * 2 for item in range(10)] and sizes == [8, 4, 2, 2, 2, 2, 2]
    assert said == ["out of memory: 4 at a time from here", "out of memory: 2 at a time from here"]
    with pytest.raises(ValueError, match="one image at a time"):
        list(in_batches([1], 1, lambda _: (_ for _ in ()).throw(torch.OutOfMemoryError()), said.append))


def test_running_out_of_memory_keeps_the_state_and_names_the_command(tmp_path, monkeypatch):
    tiny = squares.build(tmp_path / "tiny")
    model, config = replace(squares.MODEL, dropout=0.0), TrainConfig(samples_seen=96, batch_size=16)
    parts = {"vae": tiny.vae, "text_encoder": tiny.text_encoder, "sampling": tiny.sampling, "device": "cpu"}
    forward, calls = MAR.forward, []

    def full(*args, **kwargs):
        calls.append(1)
        if len(calls) == 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(*args, **kwargs)

    monkeypatch.setattr(MAR, "forward", full)
    with pytest.raises(ValueError, match=r"step 4 with 16 samples at once; the 3 .*--accumulate 2 or --checkpoint"):
        train(config, model, tiny.latents, tmp_path / "run", **parts)
    steps = []
    pace = LoopConfig(log_every=1, accumulate=2, checkpoint=True)
    on_step = {"loop": pace, "on_step": lambda row: steps.append(row["step"])}
    assert train(config, model, tiny.latents, tmp_path / "run", **parts, **on_step)["status"] == "complete"
    assert steps == [4, 5, 6]


@pytest.mark.parametrize("visible", ["", "7"])
def test_a_gpu_that_is_hidden_is_refused_with_the_reason(monkeypatch, visible):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(ValueError, match=f"device cuda is not there.*has cpu.*CUDA_VISIBLE_DEVICES is '{visible}'"):
        choose_device("cuda")


def test_a_gpu_out_of_range_is_refused_with_those_that_are_there(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(ValueError, match=r"cuda:2 is not there.*cpu, cuda:0, cuda:1 \(CUDA_VISIBLE_DEVICES is '0,1'"):
        choose_device("cuda:2")


def test_builds_and_drivers_that_cannot_are_named(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "built without CUDA" in why_no_cuda()
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    old = "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver"
    monkeypatch.setattr(devices.torch.cuda, "init", lambda: (_ for _ in ()).throw(RuntimeError(old)))
    assert why_no_cuda() == "torch's CUDA is 13.0: The NVIDIA driver on your system is too old (found version 11040)"


def test_a_card_without_bf16_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    with pytest.raises(ValueError, match="Tesla T4 has no bf16; give precision fp32"):
        require_bf16(torch.device("cuda"))
    require_bf16(torch.device("cpu"))


def test_mps_is_refused_where_there_is_none():
    if not torch.backends.mps.is_available():
        with pytest.raises(ValueError, match="device mps is not there; this machine has cpu"):
            choose_device("mps")
