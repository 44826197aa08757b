"""Every stage on a device, without one: devices agree, and the host waits for nothing inside a step.

What these tests would miss if they could not fail is planted in the last of them.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from lightgen.data.latents import LatentDataset
from lightgen.model import blocks, masking
from lightgen.model.config import SamplingConfig
from lightgen.model.encoders import ImageTokenizer, TextEncoder
from lightgen.model.head import Head
from lightgen.model.mar import MAR
from lightgen.model.sampling import generate_latents
from lightgen.preference.config import PreferenceConfig
from lightgen.preference.encoded import EncodedPairs
from lightgen.preference.run import PreferenceRun
from lightgen.training.config import LoopConfig, TrainConfig
from lightgen.training.train import TrainingRun
from tests.gpu.fake_cuda import DEVICE, FakeAccelerator, FakeCuda, HostRead, fake_cuda
from tests.lightgen import squares

COMPONENTS = Path(__file__).parents[2] / "ablations/icons/components"
MODEL = replace(squares.MODEL, position_grid=2, mask_minimum=0.3, mask_std=1.0, dropout=0.1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return squares.build(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def device(monkeypatch):
    with fake_cuda(monkeypatch) as mode:
        yield mode


def training_run(tiny, out: Path, precision: str = "fp32", model=MODEL, **changes) -> TrainingRun:
    torch.manual_seed(0)
    config = TrainConfig(samples_seen=800, batch_size=8, warmup_steps=2, precision=precision, **changes)
    data = LatentDataset(tiny.latents, device=torch.device(DEVICE))
    run = TrainingRun(config, MAR(model), data, out, FakeAccelerator(precision), LoopConfig())
    run.forward = run.accelerator.prepare_model(run.model)
    return run


@pytest.mark.parametrize(
    ("objective", "precision", "per_image_ratio"),
    [("ddpm", "fp32", False), ("ddpm", "bf16", True), ("flow", "bf16", 0)],
)
def test_a_training_step_stays_on_the_device(
    tiny, device, tmp_path, monkeypatch, objective, precision, per_image_ratio
):
    monkeypatch.setitem(globals(), "MODEL", replace(MODEL, head_objective=objective))
    run = training_run(tiny, tmp_path, precision, per_image_ratio=per_image_ratio)
    run.one_step()  # tables that are kept are sent in the first
    with device.no_waiting():
        for _ in range(3):
            run.one_step()
    assert run.step == 4 and {p.device.type for p in run.model.parameters()} == {"cuda"}
    assert {value.device.type for value in run.average.values} == {"cuda"}


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bf16"},
        {"reference": "held", "kind": "simpo", "sdpo": True},
        {"reference": "adapter", "lora_rank": 2, "train": "head", "guidance_scale": 3.0},
    ],
    ids=str,
)
def test_a_preference_step_stays_on_the_device(device, tmp_path, changes):
    run = preference_run(tmp_path, changes)
    run.one_step()
    with device.no_waiting():
        for _ in range(3):
            run.one_step()
    assert run.step == 4


def preference_run(out: Path, changes: dict) -> PreferenceRun:
    torch.manual_seed(0)
    config = PreferenceConfig(steps=8, batch_size=3, noise_draws=2, drift_every=100, measured_pairs=4, **changes)
    side = MODEL.position_grid * MODEL.patch_size
    images = torch.randn(2, 6, MODEL.vae_channels, side, side)
    text, lengths = torch.randn(4, 5, MODEL.text_channels), torch.tensor([5, 2, 3, 4])
    pairs = EncodedPairs.of(*images, text, lengths, torch.arange(6) % 4)
    settings = {"preference": config.__dict__, "reference": "", "drift_from": "", "pairs": ""}
    run = PreferenceRun(config, MAR(MODEL), pairs, out, FakeAccelerator(config.precision), settings)
    assert run.prepare(None)
    run.forward = run.accelerator.prepare_model(run.model)
    return run


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("solver", ["ddpm", "ddim", "euler", "heun"])
def test_sampling_never_waits(device, solver, guidance):
    objective = "flow" if solver in ("euler", "heun") else "ddpm"
    model = MAR(replace(MODEL, head_objective=objective)).to(DEVICE)
    text, lengths = torch.zeros(3, 5, 8, device=DEVICE), torch.full((3,), 4, device=DEVICE)
    config = SamplingConfig(num_steps=3, num_head_steps=4, guidance_scale=guidance, solver=solver)
    with device.no_waiting():
        generators = [torch.Generator().manual_seed(number) for number in range(3)]
        latents = generate_latents(model, text, lengths, (2, 2), config, generators)
    assert latents.device.type == "cuda" and latents.shape == (3, 2, 4, 4)


def test_images_and_captions_are_encoded_on_the_device(tiny, device):
    tokenizer = ImageTokenizer.from_pretrained(tiny.vae).to(torch.device(DEVICE))
    moments = tokenizer.moments([Image.new("RGB", (16, 16))] * 2)
    assert moments.device.type == "cuda" and tokenizer.decode(tokenizer.latents(moments, None))[0].size == (16, 16)
    text = TextEncoder.from_pretrained(tiny.text_encoder, 12).to(torch.device(DEVICE))
    for pad in (False, True):
        features, lengths = text(["a red square", "a big red square"], pad=pad)
        assert {features.device.type, lengths.device.type} == {"cuda"}


def test_detection_with_its_color_step(device):
    from geneval.color import ColorClassifier
    from geneval.detector import Detector

    detector = Detector.from_pretrained(COMPONENTS / "detector", DEVICE)
    found = detector.detect([Image.new("RGB", (64, 64)), Image.new("RGB", (48, 64))])
    assert [each.size for each in found] == [(64, 64), (48, 64)] and found[0].masks.device.type == "cuda"
    name = next(iter(found[0].rows))
    assert found[0].mask(name, 0).shape == (64, 64)
    colors = ColorClassifier.from_pretrained(COMPONENTS / "clip", DEVICE)
    assert len(colors.classify([Image.new("RGB", (20, 30))] * 2, [name, "bench"])) == 2


def test_features_are_extracted_on_the_device(device):
    from benchmarks.quality.extractors import load_extractor

    extractor = load_extractor(COMPONENTS / "clip", device=DEVICE)
    assert extractor([extractor.prepare(Image.new("RGB", (64, 64)))] * 3).shape[0] == 3


class _Reads(TorchDispatchMode):
    """Notes what would make the host wait, were the tensors of a device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("objective", ["ddpm", "flow"])
def test_the_backward_pass_reads_nothing(objective):
    """On the host, as autograd's engine needs a device for fake tensors of one; the bound, whose form differs, left
    out."""
    model = MAR(replace(MODEL, head_objective=objective)).train()
    generator = torch.Generator().manual_seed(0)
    draws = masking.draw(model.mar_config, 4, (2, 2), generator)
    loss = model(torch.randn(4, 2, 4, 4), torch.randn(4, 5, 8), torch.full((4,), 5), draws, variational=False).loss
    with _Reads() as reads:
        loss.backward()
    assert not reads.found


def test_the_bound_of_the_last_step_is_the_same_by_both_ways(monkeypatch):
    from lightgen.model.diffusion import learned_range_loss

    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 2, 40, 3, generator=generator)
    timesteps = torch.randint(3, (2, 40), generator=generator)
    found = []
    for elsewhere in (False, True):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda elsewhere=elsewhere: elsewhere)
        prediction = torch.linspace(-1, 1, 2 * 40 * 6).view(2, 40, 6).requires_grad_()
        residual, bound = learned_range_loss(prediction, clean, noise, timesteps, 3)
        (residual.square().mean() + bound.mean()).backward()
        found.append((residual.detach(), bound.detach(), prediction.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-8)


# --- what is planted must be found -----------------------------------------------------------------------------------


def _reading(original, *args, **kwargs):
    found = original(*args, **kwargs)
    return found.cpu().to(DEVICE)


def _left_on_the_host(original, *args, **kwargs):
    return torch.zeros(original(*args, **kwargs).shape)


def _number(original, *args, **kwargs):
    found = original(*args, **kwargs)
    return found * float(found.sum())


def _looking(original, *args, **kwargs):
    found = original(*args, **kwargs)
    return found if not (found != found).any() else found * 0


def _index_of_the_host(original, x, index):
    return original(x, torch.zeros(index.shape, dtype=torch.long))


FOUND = r"waits|mixes devices|same device"
FAULTS = {"cpu": _reading, "host": _left_on_the_host, "item": _number, "bool": _looking}
PLACES = {"patchify": (MAR, "patchify"), "decode": (MAR, "decode"), "times": (Head, "embed_times")}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_in_training(tiny, device, tmp_path, monkeypatch, fault, place):
    run = training_run(tiny, tmp_path)
    run.one_step()
    owner, name = PLACES[place]
    original = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *a, **k: FAULTS[fault](original, *a, **k))
    with pytest.raises((HostRead, RuntimeError), match=FOUND), device.no_waiting():
        run.one_step()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_in_a_head_step(device, monkeypatch, fault):
    model = MAR(MODEL).to(DEVICE)
    original = Head.modulated
    monkeypatch.setattr(Head, "modulated", lambda *a, **k: FAULTS[fault](original, *a, **k))
    text, lengths = torch.zeros(1, 5, 8, device=DEVICE), torch.full((1,), 4, device=DEVICE)
    generate = partial(generate_latents, model, text, lengths, (2, 2), SamplingConfig(num_steps=2, num_head_steps=2))
    with pytest.raises((HostRead, RuntimeError), match=FOUND), device.no_waiting():
        generate([torch.Generator().manual_seed(0)])


def test_pairs_that_are_not_sent_are_found(device, tmp_path, monkeypatch):
    run = preference_run(tmp_path, {})
    original = EncodedPairs.stacked
    monkeypatch.setattr(EncodedPairs, "stacked", lambda self, ids, _: original(self, ids, torch.device("cpu")))
    with pytest.raises(RuntimeError, match=FOUND):
        run.one_step()


def test_an_index_of_the_host_is_found(tiny, device, tmp_path, monkeypatch):
    run = training_run(tiny, tmp_path)
    monkeypatch.setattr(blocks, "take", partial(_index_of_the_host, blocks.take))
    monkeypatch.setattr("lightgen.model.mar.take", partial(_index_of_the_host, blocks.take))
    with pytest.raises(RuntimeError, match=FOUND):
        for _ in range(8):  # a batch whose tokens are all masked takes none
            run.one_step()


def test_the_fake_device_itself_refuses(device: FakeCuda):
    here, there = torch.zeros(3), torch.zeros(3, device=DEVICE)
    for wrong in (lambda: here + there, lambda: here[there.long()], lambda: torch.cat([here, there])):
        with pytest.raises(RuntimeError):
            wrong()
    with pytest.raises(RuntimeError, match="generator"):
        torch.rand(3, generator=torch.Generator().manual_seed(0), device=DEVICE)
    assert there.tolist() == [0, 0, 0] and device.waits
    for read in (there.tolist, there.cpu, lambda: there[0].item(), lambda: bool(there.any()), there.nonzero):
        with pytest.raises(HostRead), device.no_waiting():
            read()
