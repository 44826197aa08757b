import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest
import torch

from lightgen.model.config import MARConfig
from lightgen.model.mar import MAR
from lightgen.model.masking import Draws, Layout, draw
from lightgen.model.released import reference_loss

OFFICIAL = Path(__file__).parents[1] / "golden" / "lightgen_official"

TINY = MARConfig(
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
    dropout=0.0,
    head_depth=2,
    head_width=32,
    noise_copies=2,
)


def make_model(**changes) -> MAR:
    torch.manual_seed(0)
    model = MAR(replace(TINY, **changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # the head starts as the zero function, which would hide everything
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def make_batch(model: MAR, *, batch=3, grid=(4, 4), length=8, **options):
    generator = torch.Generator().manual_seed(1)
    config = model.mar_config
    side = [config.patch_size * tokens for tokens in grid]
    latents = torch.randn(batch, config.vae_channels, *side, generator=generator)
    text = torch.randn(batch, length, config.text_channels, generator=generator)
    lengths = torch.arange(length, length - batch, -1)
    return latents, text, lengths, draw(config, batch, grid, generator, **options)


def test_errors_are_the_squared_error_of_each_image_alone():
    model = make_model()
    latents, text, lengths, draws = make_batch(model)
    whole = model(latents, text, lengths, draws)
    for image in range(3):
        index = torch.tensor([image])
        alone = model(latents[index], text[index], lengths[index], draws.select(index))
        torch.testing.assert_close(alone.errors[0], whole.errors[image])
    torch.testing.assert_close(whole.errors.mean(), whole.mse)


def test_ragged_masks_give_what_each_image_gives_alone():
    model = make_model(mask_minimum=0.05, mask_std=2.0)
    latents, text, lengths, draws = make_batch(model, batch=6, length=8, per_image_ratio=True)
    counts = draws.mask.sum(1)
    assert counts.min() < counts.max()
    mask = draws.mask.clone()
    mask[0] = True  # one image without any visible token among others
    draws = Draws.of(mask, draws.timesteps, draws.noise, draws.text_dropped)
    whole = model(latents, text, lengths, draws)
    for image in range(6):
        index = torch.tensor([image])
        alone = model(
            latents[index],
            text[index],
            lengths[index],
            Draws.of(mask[index], draws.timesteps[:, index], draws.noise[:, index], draws.text_dropped[index]),
        )
        torch.testing.assert_close(alone.errors[0], whole.errors[image])
    whole.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("objective", ["ddpm", "flow"])
@pytest.mark.parametrize("quirks", [True, False])
@pytest.mark.parametrize("per_image_ratio", [True, False])
@pytest.mark.parametrize("joined", [True, False])
def test_the_fast_loss_and_gradients_are_the_reference_path_s(objective, quirks, per_image_ratio, joined):
    switches = {"normalized_residual": quirks, "attend_to_padding": quirks, "text_in_decoder": joined}
    model = make_model(head_objective=objective, text_drop=0.5, **switches)
    latents, text, lengths, draws = make_batch(model, batch=4, per_image_ratio=per_image_ratio)
    if objective == "ddpm":
        draws.timesteps[0, :, :3] = 0  # scored by their likelihood
    results, gradients = [], []
    for loss in (model, partial(reference_loss, model)):
        model.zero_grad()
        results.append(loss(latents, text, lengths, draws))
        results[-1].loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    # The fast path has rows for the masked tokens, the reference path for all, 0 where they do not count.
    fast, reference = ([*found[:3], found.residuals.square().sum((0, 2, 3))] for found in results)
    for mine, expected in zip(fast, reference, strict=True):
        torch.testing.assert_close(mine, expected, rtol=2e-5, atol=1e-6)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("per_image_ratio", [True, False])
def test_a_decoder_without_blocks_leaves_the_masked_tokens(per_image_ratio):
    model = make_model(decoder_depth=0, mask_minimum=0.3)
    arguments = make_batch(model, per_image_ratio=per_image_ratio)
    torch.testing.assert_close(model(*arguments).errors, reference_loss(model, *arguments).errors, rtol=2e-5, atol=1e-6)


def test_dropout_is_drawn_for_each_image_where_all_tokens_are_masked():
    """The decoder then sees the same of every image: one pass would serve all, were it not for dropout."""
    layout, rows = Layout(3, None, None, None, None), []
    for model in (make_model(dropout=0.5).train(), make_model(dropout=0.5), make_model().train()):
        rows.append(model.decode(None, model.decoder_positions, layout))
    assert [len(decoded) for decoded in rows] == [3, 1, 1]
    assert not torch.allclose(rows[0][0], rows[0][1])


def test_policy_and_reference_with_equal_weights_have_equal_errors():
    policy, reference = make_model(), make_model()
    latents, text, lengths, draws = make_batch(policy)
    winner_and_loser = torch.cat([latents, latents.flip(0)])
    shared = draws.repeat(2)
    arguments = (winner_and_loser, text.repeat(2, 1, 1), lengths.repeat(2), shared)
    assert torch.equal(policy(*arguments).errors, reference(*arguments).errors)


@pytest.mark.parametrize("joined", [True, False])
def test_padding_changes_nothing_unless_it_is_attended_to(joined):
    for attends in (False, True):
        model = make_model(attend_to_padding=attends, text_in_decoder=joined)
        latents, text, lengths, draws = make_batch(model, length=8)
        other = text.clone()
        other[1, lengths[1] :] = 7.0
        same = torch.equal(model(latents, text, lengths, draws).errors, model(latents, other, lengths, draws).errors)
        assert same is not attends


@pytest.mark.parametrize("joined", [True, False])
def test_dropped_captions_are_replaced_by_the_null_text(joined):
    model = make_model(text_drop=1.0, text_in_decoder=joined)
    latents, text, lengths, draws = make_batch(model)
    assert draws.text_dropped.all()
    result = model(latents, text, lengths, draws)
    assert torch.equal(result.errors, model(latents, text + 1, lengths, draws).errors)
    one_word = torch.ones_like(lengths)  # of a dropped caption nothing may be left, its length neither
    torch.testing.assert_close(result.errors, model(latents, text, one_word, draws).errors, rtol=1e-5, atol=1e-7)
    result.loss.backward()
    assert model.null_text.grad.abs().sum() > 0


def test_text_in_the_decoder_reaches_tokens_without_a_cross_stack_and_each_image_its_own():
    model = make_model(cross_depth=0, text_in_decoder=True, text_drop=0.0)
    latents, text, lengths, draws = make_batch(model)
    other = text.clone()
    other[1, 0] += 1.0
    before, after = (model(latents, given, lengths, draws).errors for given in (text, other))
    assert (before != after).tolist() == [False, True, False]
    blind = make_model(cross_depth=0)
    assert torch.equal(*(blind(latents, given, lengths, draws).errors for given in (text, other)))
    with pytest.raises(ValueError, match="text_in_decoder: decoder_depth is 0"):
        make_model(decoder_depth=0, text_in_decoder=True)


@pytest.mark.parametrize("objective", ["flow", "ddpm"])
@pytest.mark.parametrize("joined", [True, False])
def test_guided_errors_are_of_the_guided_prediction(objective, joined):
    model = make_model(head_objective=objective, cross_depth=2, text_in_decoder=joined)
    latents, text, lengths, draws = make_batch(model)
    given = model(latents, text, lengths, draws, variational=False)
    unconditional = replace(draws, text_dropped=torch.ones_like(draws.text_dropped))
    null = model(latents, text, lengths, unconditional, variational=False)
    guided = model(latents, text, lengths, draws, guidance=3.0)
    # the target is the same, so residuals combine as predictions do
    expected = null.residuals + 3.0 * (given.residuals - null.residuals)
    torch.testing.assert_close(guided.residuals, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(guided.errors, expected.square().mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(guided.loss, guided.errors.mean())
    guided.loss.backward()
    assert model.null_text.grad.any()


def test_the_residual_switch_changes_the_skip_only():
    released, corrected = make_model(), make_model(normalized_residual=False)
    arguments = make_batch(released)
    assert not torch.allclose(released(*arguments).errors, corrected(*arguments).errors)
    assert released.state_dict().keys() == corrected.state_dict().keys()


def test_position_tables_follow_height_and_width():
    model = make_model()
    ramp = torch.arange(4.0)[:, None].expand(4, 4)  # grows with the row
    table = torch.nn.Parameter(ramp.reshape(1, 16, 1).repeat(1, 1, 32))
    resized = model.positions(table, (4, 8))[0, :, 0].view(4, 8)
    assert torch.allclose(resized, resized[:, :1].expand(4, 8), atol=1e-5)
    assert (resized[1:, 0] > resized[:-1, 0]).all()
    assert model.positions(table, (4, 4)) is table


def test_everything_masked_runs_and_trains():
    model = make_model()
    latents, text, lengths, draws = make_batch(model)
    draws = Draws.of(torch.ones_like(draws.mask), draws.timesteps, draws.noise, draws.text_dropped)
    result = model(latents, text, lengths, draws)
    result.loss.backward()
    assert torch.isfinite(result.loss)
    assert model.mask_token.grad.abs().sum() > 0
    assert model.token_embed.weight.grad is None


def test_the_head_is_told_flow_times_on_the_scale_of_timesteps():
    model, seen = make_model(head_objective="flow"), []
    latents, text, lengths, draws = make_batch(model)
    waves = model.head.embed_times(torch.tensor([0.0, 500.0, 1000.0]))
    assert torch.equal(model.embed_times(torch.tensor([0.0, 0.5, 1.0])), waves)
    whole, embed = model.head.embed_times, lambda times: seen.append(times) or whole(times)
    model.head.embed_times = embed
    model(latents, text, lengths, draws)
    reference_loss(model, latents, text, lengths, draws)
    times = (draws.timesteps[draws.mask.expand_as(draws.timesteps)] * 1000).sort().values
    torch.testing.assert_close(seen[0].flatten().sort().values, times)
    torch.testing.assert_close(seen[1], draws.timesteps * 1000)


def test_a_fresh_model_starts_small_and_its_head_at_zero():
    torch.manual_seed(0)
    model = MAR(replace(TINY, width=128, head_width=128))
    tables = (model.encoder_positions, model.decoder_positions, model.cross_positions)
    times = (model.head.time_in.weight, model.head.time_out.weight)
    for table in (*tables, *times):
        assert float(table.detach().std()) == pytest.approx(0.02, rel=0.05)
    for table in (model.null_text, model.mask_token):
        assert float(table.detach().std()) == pytest.approx(0.02, rel=0.3)
    bound = (6 / (128 + 128)) ** 0.5  # Xavier's
    for linear in (model.decoder_embed, model.head.blocks[0].fc1):
        assert 0.98 * bound < float(linear.weight.detach().abs().max()) <= bound and not linear.bias.any()
    for zero in (model.head.final.linear, model.head.final.modulation, model.head.blocks[1].modulation):
        assert not zero.weight.any() and not zero.bias.any()


@pytest.mark.parametrize("objective", ["ddpm", "flow"])
def test_a_few_steps_lower_the_loss(objective):
    model = make_model(head_objective=objective)
    latents, text, lengths, draws = make_batch(model, batch=3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    first = model(latents, text, lengths, draws).mse.item()
    for _ in range(30):
        optimizer.zero_grad()
        loss = model(latents, text, lengths, draws).loss
        loss.backward()
        optimizer.step()
    assert model(latents, text, lengths, draws).mse.item() < 0.7 * first


def test_a_saved_model_is_the_same_model(tmp_path):
    model = make_model(head_objective="flow")
    model.save_pretrained(tmp_path)
    again, info = MAR.from_pretrained(tmp_path, use_safetensors=True, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert again.mar_config == model.mar_config
    arguments = make_batch(model)
    assert torch.equal(again.eval()(*arguments).errors, model(*arguments).errors)


def test_a_saved_config_holds_the_fields_of_its_config_alone(tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path / "first")
    again = MAR.from_pretrained(tmp_path / "first")
    assert again.mar_config == TINY and {name: again.config[name] for name in asdict(TINY)} == asdict(TINY)
    saved = json.loads((tmp_path / "first/config.json").read_text())
    assert {name: value for name, value in saved.items() if name[0] != "_"} == asdict(TINY)
    assert {name for name in saved if name[0] == "_"} == {"_class_name", "_diffusers_version"}
    (tmp_path / "first/config.json").write_text(json.dumps(saved | {"widht": 3}))
    with pytest.raises(ValueError, match="unknown name widht in MAR's config"):
        MAR.from_pretrained(tmp_path / "first")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 5}, "does not divide into 5 heads"),
        ({"mask_minimum": 1.5}, "mask_minimum"),
        ({"dropout": -0.1}, "dropout"),
        ({"patch_size": 0}, "patch_size"),
        ({"head_objective": "energy"}, "ddpm or flow"),
    ],
)
def test_impossible_sizes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **changes)


def test_inputs_of_another_model_are_refused():
    model = make_model()
    latents, text, lengths, draws = make_batch(model)
    with pytest.raises(ValueError, match="text features have 15 channels"):
        model(latents, text[..., 1:], lengths, draws)
    with pytest.raises(ValueError, match="latents have 3 channels"):
        model(latents[:, 1:], text, lengths, draws)
    with pytest.raises(ValueError, match="do not divide into patches"):
        model(latents[..., 1:], text, lengths, draws)


def test_without_the_bound_the_error_of_the_noise_is_the_same():
    """What DPO compares is the mean squared error that training logs beside the bound."""
    model = make_model()
    latents, text, lengths, draws = make_batch(model)
    whole, alone = (model(latents, text, lengths, draws, variational=bound) for bound in (True, False))
    torch.testing.assert_close(alone.errors, whole.errors)
    torch.testing.assert_close(alone.mse, whole.mse)
    torch.testing.assert_close(alone.loss, whole.mse)  # and nothing else is in the loss


def test_tokens_of_any_grid_become_the_latents_that_they_were_of():
    model = make_model()
    latents = torch.randn(2, 4, 4, 6)
    assert model.token_grid(latents) == (2, 3)
    assert torch.equal(model.unpatchify(model.patchify(latents), (2, 3)), latents)
