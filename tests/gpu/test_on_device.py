"""What a CUDA device must give: the host's numbers within a stated tolerance, runs that go on where they stopped."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lightgen.model.config import SamplingConfig
from lightgen.model.convert import build_model, infer_config
from lightgen.model.mar import MAR
from lightgen.model.masking import Draws, draw
from lightgen.model.sampling import compiled_head, generate_latents
from lightgen.training.config import LoopConfig, TrainConfig
from lightgen.training.train import train
from tests.lightgen import squares

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not (torch.cuda.is_available() or os.environ.get("LIGHTGEN_DEVICE")), reason="needs a device"),
]
DEVICE = os.environ.get("LIGHTGEN_DEVICE", "cuda")  # "cpu" shows that the tests themselves run
ROOT = Path(__file__).parents[2]
GOLDEN, COMPONENTS = ROOT / "tests/golden/lightgen_official_small", ROOT / "ablations/icons/components"
NEAR = 2e-4  # relative, of float32 on a device: sums have another order
NEAR_BF16 = 0.03  # relative root mean square of bf16 latents


@pytest.fixture(scope="module")
def golden() -> MAR:
    settings, weights = json.loads((GOLDEN / "config.json").read_text()), load_file(GOLDEN / "weights.safetensors")
    config = infer_config(weights, heads=settings["heads"], patch_size=2, max_text_length=settings["max_length"])
    return build_model(weights, config).eval()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return squares.build(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def _whole_float32():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def latents(model: MAR, device: str, **changes) -> torch.Tensor:
    text = torch.randn(3, 8, model.mar_config.text_channels, generator=torch.Generator().manual_seed(0))
    config = SamplingConfig(**{"num_steps": 6, "num_head_steps": 12, "guidance_scale": 3.0, **changes})
    generators = [torch.Generator().manual_seed(number) for number in range(len(text))]
    lengths = torch.full((len(text),), 8)
    return generate_latents(model, text.to(device), lengths.to(device), (8, 8), config, generators).cpu()


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).square().mean().sqrt() / expected.square().mean().sqrt())


@pytest.mark.parametrize("solver", ["ddpm", "ddim"])
def test_images_are_the_host_s(golden, solver):
    expected = latents(golden.cpu(), "cpu", solver=solver)
    assert distance(latents(golden.to(DEVICE), DEVICE, solver=solver), expected) < NEAR


def test_bf16_images_are_near(golden):
    expected = latents(golden.cpu(), "cpu")
    fast = MAR(golden.mar_config).eval()
    fast.load_state_dict(golden.state_dict())
    assert distance(latents(torch.nn.Module.to(fast, DEVICE, torch.bfloat16), DEVICE), expected) < NEAR_BF16


@pytest.mark.skipif(DEVICE == "cpu", reason="a host's compiler takes minutes")
def test_a_compiled_head_gives_the_same_images(golden):
    model = golden.to(DEVICE)
    expected = latents(model, DEVICE, num_steps=4)
    with compiled_head(model):
        assert distance(latents(model, DEVICE, num_steps=4), expected) < NEAR


def test_recorded_losses_are_the_release_s(golden):
    tensors, settings = load_file(GOLDEN / "tensors.safetensors"), json.loads((GOLDEN / "config.json").read_text())
    case = sorted({name.split(".")[0] for name in tensors} - {"sample"})[0]
    mask = tensors[f"{case}.mask"].bool()
    shape = (settings["mul"], *mask.shape)
    dropped = torch.zeros(len(mask), dtype=torch.bool)
    noise = tensors[f"{case}.noise"].view(*shape, -1)
    draws = Draws.of(mask, tensors[f"{case}.timesteps"].view(shape), noise, dropped)
    text = tensors[f"{case}.text"]
    inputs = tensors[f"{case}.latents"], text, torch.full((len(text),), text.shape[1])
    with torch.no_grad():
        expected = golden.cpu()(*inputs, draws).loss
        found = golden.to(DEVICE)(*(part.to(DEVICE) for part in inputs), draws.to(DEVICE)).loss
    assert found.item() == pytest.approx(expected.item(), rel=NEAR)


@pytest.mark.parametrize("objective", ["ddpm", "flow"])
def test_gradients_are_the_host_s(objective):
    model = MAR(replace(squares.MODEL, dropout=0.0, head_objective=objective))
    torch.nn.init.normal_(model.head.final.linear.weight)
    draws = draw(model.mar_config, 8, (2, 2), torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    inputs = (torch.randn(8, 2, 4, 4, generator=generator), torch.randn(8, 5, 8, generator=generator))
    norms = []
    for device in ("cpu", DEVICE):
        model = torch.nn.Module.to(model, device)
        model.zero_grad(set_to_none=True)
        lengths = torch.full((8,), 5, device=device)
        model(*(part.to(device) for part in inputs), lengths, draws.to(device)).loss.backward()
        norms.append([p.grad.norm().item() for p in model.parameters() if p.grad is not None])
    assert norms[1] == pytest.approx(norms[0], rel=1e-3, abs=1e-6)


def run(tiny, out, *, stop=None, precision="fp32", **pace):
    config = TrainConfig(samples_seen=320, batch_size=16, learning_rate=5e-3, warmup_steps=2, precision=precision)
    parts = {"vae": tiny.vae, "text_encoder": tiny.text_encoder, "sampling": tiny.sampling}
    loop = LoopConfig(log_every=2, **pace)
    return train(config, tiny.model, tiny.latents, out, loop=loop, device=DEVICE, stop=stop, **parts)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model/diffusion_pytorch_model.safetensors")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_stopped_run_goes_on_to_the_same_weights(tiny, tmp_path, precision):
    assert run(tiny, tmp_path / "whole", precision=precision)["status"] == "complete"
    calls: list[int] = []
    stopped = run(tiny, tmp_path / "parts", stop=lambda: len(calls) > 6 or calls.append(1), precision=precision)
    assert stopped["status"] == "stopped" and 0 < stopped["steps"] < 20
    assert run(tiny, tmp_path / "parts", precision=precision)["status"] == "complete"
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=0, atol=2e-3)


@pytest.mark.parametrize("pace", [{"checkpoint": True}, {"accumulate": 2}, {"compile": True}], ids=str)
def test_every_way_of_a_step_trains(tiny, tmp_path, pace):
    if DEVICE == "cpu" and "compile" in pace:
        pytest.skip("a host's compiler takes minutes")
    assert run(tiny, tmp_path, precision="bf16", **pace)["status"] == "complete"
    assert all(value.isfinite().all() for value in weights(tmp_path).values())


def test_a_step_waits_for_nothing(tiny, tmp_path):
    from lightgen.data.latents import LatentDataset
    from lightgen.training.processes import make_accelerator
    from lightgen.training.train import TrainingRun

    config = TrainConfig(samples_seen=160, batch_size=16)
    data = LatentDataset(tiny.latents, device=DEVICE)
    training = TrainingRun(config, MAR(tiny.model), data, tmp_path, make_accelerator("fp32", DEVICE), LoopConfig())
    training.one_step()
    if DEVICE != "cpu":
        torch.cuda.set_sync_debug_mode("error")
    try:
        training.one_step()
    finally:
        if DEVICE != "cpu":
            torch.cuda.set_sync_debug_mode("default")


def test_verdicts_are_the_host_s_on_two_hundred_pictures(tmp_path):
    from geneval.detect import detect_images
    from geneval.scores import score_folder

    found = []
    for number, device in enumerate(("cpu", DEVICE)):
        root = icon_folder(tmp_path / str(number), 200)
        detect_images(root, COMPONENTS / "detector", COMPONENTS / "clip", device=device)
        rows = score_folder(root, allow_partial=True)
        found.append([(row["correct"], row["reason"]) for row in rows])
    assert len(found[0]) == 200 and 0 < sum(correct for correct, _ in found[0]) < 200
    assert found[0] == found[1]


def icon_folder(root: Path, count: int) -> Path:
    """Pictures of the icon world, one a prompt, in GenEval's layout; every second shows what its neighbor asks for."""
    from ablations.icons import DatasetConfig
    from ablations.icons.render import sample_scenes
    from ablations.icons.teacher import draw as draw_scene
    from ablations.icons.world import world

    scenes = list(sample_scenes(DatasetConfig(world="smoke", images=count)))
    for number, scene in enumerate(scenes):
        samples = root / f"{number:05}" / "samples"
        samples.mkdir(parents=True)
        (samples.parent / "metadata.jsonl").write_text(json.dumps(scene.request))
        shown = scenes[number - number % 2]
        draw_scene(shown, world("smoke")).image.save(samples / "00000.png")
    return root


@pytest.mark.slow
def test_one_whole_smoke_cell(tmp_path):
    from ablations import run as command

    words = [
        "diversity_sweep",
        "--scale",
        "smoke",
        "--out",
        str(tmp_path / "run"),
        "--workers",
        "1",
        "--only",
        "small-narrow",
    ]
    assert command.main([*words, "--set", f'runtime.device="{DEVICE}"']) == 0
