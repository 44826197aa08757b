from dataclasses import replace

import pytest
import torch

from lightgen.model.config import MARConfig, SamplingConfig
from lightgen.model.diffusion import cosine_schedule, ddim_step, ddpm_step
from lightgen.model.mar import MAR
from lightgen.model.released import PATHS
from lightgen.model.sampling import generate_latents, guidance_at
from lightgen.model.solvers import make_solver

SIZES = MARConfig(
    width=32,
    encoder_depth=2,
    decoder_depth=2,
    cross_depth=2,
    heads=2,
    text_depth=1,
    text_channels=16,
    max_text_length=8,
    vae_channels=4,
    position_grid=4,
    head_depth=2,
    head_width=32,
)
QUICK = SamplingConfig(num_steps=6, num_head_steps=5)
SOLVERS = {"ddpm": "ddpm", "ddim": "ddpm", "euler": "flow", "heun": "flow"}


def make_model(**changes) -> MAR:
    torch.manual_seed(0)
    model = MAR(replace(SIZES, **changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def make_text(batch=3):
    text = torch.randn(batch, 8, 16, generator=torch.Generator().manual_seed(1))
    return text, torch.arange(8, 8 - batch, -1)


def generators(batch=3, start=0):
    return [torch.Generator().manual_seed(start + seed) for seed in range(batch)]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("quirks", [True, False])
@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
@pytest.mark.parametrize("joined", [True, False])
def test_the_fast_path_makes_what_the_reference_makes(solver, quirks, guidance_scale, joined, relative_error):
    switches = {"normalized_residual": quirks, "attend_to_padding": quirks, "text_in_decoder": joined}
    model = make_model(head_objective=SOLVERS[solver], cross_depth=3, **switches)
    config = replace(QUICK, solver=solver, guidance_scale=guidance_scale, guidance_schedule="linear", temperature=0.9)
    arguments = (model, *make_text(), (4, 5), config)
    fast = generate_latents(*arguments, generators())
    reference = generate_latents(*arguments, generators(), parts=PATHS["reference"])
    assert fast.shape == (3, 4, 8, 10)
    assert relative_error(fast, reference) < 2e-5


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_number_of_head_steps_modulated_at_once_does_not_matter(solver, monkeypatch, relative_error):
    model = make_model(head_objective=SOLVERS[solver])
    arguments = (model, *make_text(), (4, 4), replace(QUICK, solver=solver))
    whole = generate_latents(*arguments, generators())
    for rows in (1, 50):  # one head step; two, four or all five, by the tokens of the step
        monkeypatch.setattr("lightgen.model.trunk.MODULATED_ROWS", rows)
        assert relative_error(generate_latents(*arguments, generators()), whole) < 2e-5


@pytest.mark.parametrize(("name", "factor"), [("euler", 1 - 0.25), ("heun", 1 - 0.25 + 0.25**2 / 2)])
def test_flow_solvers_follow_a_known_equation(name, factor):
    """dx/dt = x from 1 to 0 in four steps, each a polynomial of exp(-1/4)."""
    flow = replace(SIZES, head_objective="flow")
    solver = make_solver(flow, replace(QUICK, solver=name, num_head_steps=4, temperature=0.5))
    assert solver.times == (1000.0, 750.0, 500.0, 250.0, 0.0) and solver.num_draws == 1
    asked, noise = [], torch.randn(1, 2, 3, 4, dtype=torch.float64)
    found = solver.run(lambda x, step: asked.append(step) or x, noise)
    torch.testing.assert_close(found, 0.5 * noise[0] * factor**4)
    assert asked == ([0, 1, 2, 3] if name == "euler" else [0, 1, 1, 2, 2, 3, 3, 4])


def test_flow_slopes_are_asked_at_both_ends_of_a_step():
    """dx/dt = t: Heun's steps are exact on it, Euler's take the value before each."""
    flow, noise = replace(SIZES, head_objective="flow"), torch.zeros(1, 1, 1, 1)
    for name, expected in (("heun", -0.5), ("euler", -(1 + 0.75 + 0.5 + 0.25) / 4)):
        solver = make_solver(flow, replace(QUICK, solver=name, num_head_steps=4))
        found = solver.run(lambda x, step, times=solver.times: torch.full_like(x, times[step] / 1000), noise)
        assert found.item() == pytest.approx(expected)


@pytest.mark.parametrize(("name", "draws"), [("ddim", 1), ("ddpm", 6)])
def test_diffusion_solvers_ask_from_the_noisiest_step_down(name, draws):
    solver = make_solver(SIZES, replace(QUICK, solver=name, temperature=0.5))
    assert (solver.num_draws, len(solver.times), solver.times[0], solver.times[-1]) == (draws, 5, 0, 999)
    schedule, asked = cosine_schedule(1000, 5), []
    noise = torch.randn(draws, 1, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def predict(x, step):
        asked.append(step)
        return torch.cat([0.1 * x, x.tanh()], -1)

    found = solver.run(predict, noise)
    assert asked == [4, 3, 2, 1, 0]
    x = noise[0] * (0.5 if name == "ddim" else 1.0)  # the temperature scales what is drawn later in DDPM
    for number, step in enumerate(reversed(range(5))):
        if name == "ddim":
            x = ddim_step(x, 0.1 * x, schedule, step)
        else:
            x = ddpm_step(x, 0.1 * x, x.tanh(), noise[number + 1], schedule, step, 0.5)
    torch.testing.assert_close(found, x)
    if name == "ddpm":
        with pytest.raises(ValueError, match="longer"):
            solver.run(predict, noise[:-1])


@pytest.mark.parametrize("scale", [0.0, 2.0])
def test_every_scale_but_one_is_guided(scale):
    model = make_model()
    plain, guided = (
        generate_latents(model, *make_text(), (4, 4), replace(QUICK, guidance_scale=each), generators())
        for each in (1.0, scale)
    )
    assert not torch.allclose(plain, guided)


@pytest.mark.parametrize("path", ["reference", "fast"])
def test_no_gradient_is_recorded_and_latents_can_be_trained_on(path):
    model, recorded = make_model(), []
    model.head.input.register_forward_hook(lambda *_: recorded.append(torch.is_grad_enabled()))
    latents = generate_latents(model, *make_text(), (4, 4), QUICK, generators(), parts=PATHS[path])
    assert recorded and not any(recorded)
    scale = torch.ones((), requires_grad=True)
    (latents * scale).sum().backward()  # tensors of torch's inference mode would refuse
    assert torch.isfinite(scale.grad)


@pytest.mark.parametrize("joined", [True, False])
def test_an_image_does_not_depend_on_its_batch(joined, relative_error):
    model, (text, lengths) = make_model(attend_to_padding=False, text_in_decoder=joined), make_text()
    together = generate_latents(model, text, lengths, (4, 4), QUICK, generators())
    alone = generate_latents(model, text[1:2, : lengths[1]], lengths[1:2], (4, 4), QUICK, generators(1, start=1))
    assert relative_error(alone[0], together[1]) < 2e-5
    other = generate_latents(model, text, lengths, (4, 4), QUICK, generators(start=7))
    assert not torch.allclose(other[1], together[1])


def test_the_text_matters_exactly_where_it_is_attended_to():
    model, (text, lengths) = make_model(attend_to_padding=False), make_text()
    before = generate_latents(model, text, lengths, (4, 4), QUICK, generators())
    text[1, lengths[1] :] += 5  # padding
    assert torch.equal(generate_latents(model, text, lengths, (4, 4), QUICK, generators()), before)
    text[1, 0] += 5
    after = generate_latents(model, text, lengths, (4, 4), QUICK, generators())
    assert torch.equal(after[0], before[0]) and not torch.allclose(after[1], before[1])


@pytest.mark.parametrize("num_steps", [1, 16])
def test_any_number_of_steps_from_one_to_all_tokens_fills_the_image(num_steps):
    model, seen = make_model(), []
    config = replace(QUICK, num_steps=num_steps)
    latents = generate_latents(
        model, *make_text(), (4, 4), config, generators(), on_step=lambda step, tokens: seen.append((step, tokens))
    )
    assert [step for step, _ in seen] == list(range(num_steps))
    assert torch.equal(model.unpatchify(seen[-1][1], (4, 4)), latents)
    assert (seen[-1][1].abs().sum(-1) > 0).all()


def test_temperature_zero_leaves_only_the_start_noise():
    model = make_model(head_objective="flow")
    config = replace(QUICK, temperature=0.0, solver="euler")
    order_free = replace(config, num_steps=1)
    first, second = (generate_latents(model, *make_text(), (4, 4), order_free, generators(start=s)) for s in (0, 50))
    torch.testing.assert_close(first, second)


def test_linear_guidance_grows_from_one_to_the_scale():
    config = SamplingConfig(guidance_scale=5.0, guidance_schedule="linear")
    scales = [guidance_at(config, left, 100) for left in (100, 50, 1, 0)]
    assert scales == pytest.approx([1.0, 3.0, 4.96, 4.96])
    assert guidance_at(SamplingConfig(guidance_scale=5.0), 50, 100) == 5.0


def test_dropout_is_off_while_generating_and_back_afterwards():
    model = make_model(dropout=0.5)
    expected = generate_latents(model, *make_text(), (4, 4), QUICK, generators())
    model.train()
    assert torch.equal(generate_latents(model, *make_text(), (4, 4), QUICK, generators()), expected)
    assert model.training


@pytest.mark.parametrize(
    "wrong",
    [
        {"guidance_scale": float("nan")},
        {"guidance_scale": -1.0},
        {"temperature": -0.1},
        {"temperature": float("inf")},
        {"num_steps": 0},
        {"num_head_steps": 0},
        {"guidance_schedule": "cosine"},
        {"solver": "rk4"},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SamplingConfig(**wrong)


def test_calls_that_cannot_work_are_refused():
    model, (text, lengths) = make_model(), make_text()
    with pytest.raises(ValueError, match="2 generators for 3 images"):
        generate_latents(model, text, lengths, (4, 4), QUICK, generators(2))
    with pytest.raises(ValueError, match="6 autoregressive steps for 4 tokens"):
        generate_latents(model, text, lengths, (2, 2), QUICK, generators())
    with pytest.raises(ValueError, match="'euler' does not fit a ddpm head; valid: ddpm, ddim"):
        generate_latents(model, text, lengths, (4, 4), replace(QUICK, solver="euler"), generators())
    with pytest.raises(ValueError, match="head steps"):
        generate_latents(model, text, lengths, (4, 4), replace(QUICK, num_head_steps=1001), generators())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_loop_never_waits_for_the_device():
    model, (text, lengths) = make_model().to("cuda"), make_text()
    arguments = (model, text.to("cuda"), lengths.to("cuda"), (4, 4), QUICK)
    generate_latents(*arguments, generators())  # first use allocates and compiles kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        generate_latents(*arguments, generators())
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_raster_order_fills_the_image_row_by_row_with_the_same_noise():
    model, (text, lengths) = make_model(), make_text()
    filled = {"raster": [], "random": []}
    for order, seen in filled.items():
        config = SamplingConfig(num_steps=16, num_head_steps=2, guidance_scale=1.0, order=order)
        generate_latents(
            model, text, lengths, (4, 4), config, generators(),
            on_step=lambda step, tokens, seen=seen: seen.append((tokens != 0).any(-1)),
        )  # fmt: skip
    for step, done in enumerate(filled["raster"], 1):
        assert torch.equal(done, (torch.arange(16) < step).expand(3, 16))
    assert not torch.equal(filled["random"][3], filled["raster"][3])


@pytest.mark.parametrize("solver", SOLVERS)
def test_given_noise_is_what_the_head_begins_with(solver):
    """Two generators and one start: what follows from the start alone is the same, and another start differs."""
    model = make_model(head_objective=SOLVERS[solver])
    config = replace(QUICK, solver=solver, order="raster", temperature=0.0 if solver == "ddpm" else 1.0)
    starts = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(2))

    def made(start, seed):
        return generate_latents(model, *make_text(), (4, 4), config, generators(start=seed), start=start)

    first = made(starts[0], 0)
    torch.testing.assert_close(made(starts[0], 50), first)
    assert (made(starts[1], 0) - first).abs().max() > 1e-3


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_no_scale_of_guidance_is_apart_from_its_neighbors(guidance_scale):
    """A scale of 1 leaves the half without text away, which must change nothing; no other scale does."""
    arguments = (make_model(head_objective="flow"), *make_text(), (4, 4))
    near, at = (
        generate_latents(*arguments, replace(QUICK, solver="euler", guidance_scale=scale), generators())
        for scale in (guidance_scale + 1e-4, guidance_scale)
    )
    assert (near - at).abs().max() < 1e-2 * at.abs().max()
