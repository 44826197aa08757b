"""What makes large runs possible changes nothing that is learned: parts of a batch, checkpoints, programs, saves."""

import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from lightgen.model.mar import MAR
from lightgen.model.masking import draw, mask_layout
from lightgen.preference.config import PreferenceConfig
from lightgen.preference.dpo import train_dpo
from lightgen.training import loop, saving
from lightgen.training.config import LoopConfig, TrainConfig
from lightgen.training.forward import carried_out
from lightgen.training.journal import read_journal
from lightgen.training.processes import agreed, make_accelerator, refuse_uneven
from lightgen.training.saving import PAUSE, Saver
from lightgen.training.state import load_state
from lightgen.training.train import train
from tests.lightgen import squares

QUIET = replace(squares.MODEL, dropout=0.0, mask_minimum=0.2, mask_std=1.0)


def weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model/diffusion_pytorch_model.safetensors")


def trained(tiny, out, *, model=QUIET, **changes):
    pace = LoopConfig(log_every=2, **{name: changes.pop(name) for name in ("accumulate", "checkpoint", "compile") if
                                      name in changes})  # fmt: skip
    config = TrainConfig(samples_seen=128, batch_size=16, learning_rate=5e-3, warmup_steps=2, **changes)
    parts = {"vae": tiny.vae, "text_encoder": tiny.text_encoder, "sampling": tiny.sampling}
    result = train(config, model, tiny.latents, out, loop=pace, device="cpu", **parts)
    assert result["status"] == "complete" and result["processes"] == 1
    return weights(out)


def assert_near(found, expected, tolerance=2e-5):
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=tolerance)


@pytest.mark.parametrize("per_image_ratio", [False, True])
def test_parts_of_a_batch_add_up_to_it(tiny, tmp_path, per_image_ratio):
    whole = trained(tiny, tmp_path / "whole", per_image_ratio=per_image_ratio)
    assert_near(trained(tiny, tmp_path / "parts", accumulate=5, per_image_ratio=per_image_ratio), whole, 1e-4)


def test_parts_of_a_batch_of_pairs_add_up_to_it(base, pairs, tmp_path):
    config = PreferenceConfig(steps=3, batch_size=8, noise_draws=2, learning_rate=1e-3, beta=50, measured_pairs=2)
    for parts in (1, 3):
        train_dpo(config, base, pairs, tmp_path / str(parts), loop=LoopConfig(accumulate=parts), device="cpu")
    assert_near(weights(tmp_path / "3"), weights(tmp_path / "1"), 1e-4)


def test_checkpoints_give_the_same_gradients_to_the_last_bit():
    found = []
    for checkpoint in (False, True):
        torch.manual_seed(0)
        model = MAR(squares.MODEL).train()  # dropout is drawn again as it was
        torch.nn.init.normal_(model.head.final.linear.weight)
        draws = draw(model.mar_config, 4, (2, 2), torch.Generator().manual_seed(0))
        with carried_out(model, model, LoopConfig(checkpoint=checkpoint)) as forward:
            torch.manual_seed(1)
            forward(torch.ones(4, 2, 4, 4), torch.ones(4, 3, 8), torch.full((4,), 3), draws).loss.backward()
        assert "forward" not in vars(model.encoder_blocks[0])
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["ddpm", "flow"])
def test_a_compiled_run_is_equal_and_compiles_a_few_times(tiny, tmp_path, monkeypatch, objective):
    from torch._dynamo.testing import CompileCounterWithBackend

    programs = CompileCounterWithBackend("aot_eager")
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **options: real(f, backend=programs, **options))
    torch._dynamo.reset()
    model = replace(QUIET, head_objective=objective)
    trained(tiny, tmp_path / "plain", model=model)
    trained(tiny, tmp_path / "compiled", model=model, compile=True)
    plain, compiled = (read_journal(tmp_path / name / "metrics.jsonl") for name in ("plain", "compiled"))
    for name in ("loss", "mse", "grad_norm"):
        assert compiled[0][name] == pytest.approx(plain[0][name], rel=1e-5)
        # Later rows follow from weights that Adam moves by the sign of what is rounding alone.
        assert [row[name] for row in compiled] == pytest.approx([row[name] for row in plain], rel=5e-3)
    assert 0 < programs.frame_count <= 24  # graphs, over at most 4 shapes of a batch


def test_buckets_are_few_and_hold_every_count():
    config, shapes = replace(QUIET, mask_minimum=0.05, position_grid=16), set()
    for seed in range(300):
        draws = draw(config, 3, (16, 16), torch.Generator().manual_seed(seed)).bucketed(config)
        layout, counts = mask_layout(draws), draws.mask.sum(1)
        assert torch.equal(layout.masked_valid.sum(1), counts) and torch.equal(
            layout.visible_valid.sum(1), 256 - counts
        )
        shapes.add(draws.masked_range)
    assert 4 <= len(shapes) <= 8
    ragged = {draw(config, 3, (16, 16), torch.Generator().manual_seed(s), per_image_ratio=True).bucketed(config)
              .masked_range for s in range(50)}  # fmt: skip
    assert ragged == {(0, 256)}


def test_a_save_comes_after_fifty_times_what_it_cost(tmp_path):
    saver = Saver(tmp_path, LoopConfig(save_every_seconds=0.01), beside=False)
    saver.save(1, {"a": torch.ones(3)}, {})
    saver.held_up, saver.saved = 10.0, saving.time.monotonic() - 400
    assert not saver.is_due() and PAUSE == 50
    saver.saved -= 200
    assert saver.is_due()
    assert Saver(tmp_path, LoopConfig(save_every_seconds=0.0), beside=False).is_due()


def test_a_state_is_written_beside_training_from_a_copy(tmp_path, monkeypatch):
    go, tensor = threading.Event(), torch.ones(5, dtype=torch.bfloat16)
    write = saving.save_state
    monkeypatch.setattr(saving, "save_state", lambda *a: go.wait(10) and write(*a))
    saver = Saver(tmp_path, LoopConfig(), beside=True)
    saver.save(7, {"a": tensor, "b": torch.tensor(True), "empty": torch.zeros(0, 2)}, {"seconds": 1.0})
    assert load_state(tmp_path) is None
    tensor.zero_()
    go.set()
    saver.wait()
    step, tensors, record = load_state(tmp_path)
    assert step == 7 and record == {"seconds": 1.0} and tensors["a"].tolist() == [1.0] * 5
    assert tensors["b"].item() is True and tensors["empty"].shape == (0, 2) and saver.whole >= saver.held_up >= 0


def test_what_keeps_a_state_from_being_written_is_told(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving, "save_state", full)
    for beside in (True, False):
        saver = Saver(tmp_path, LoopConfig(), beside=beside)
        with pytest.raises(OSError, match="No space"):
            saver.save(1, {"a": torch.ones(1)}, {})
            saver.wait()


def test_a_save_longer_than_the_grace_time_is_told(tmp_path):
    saver = Saver(tmp_path, LoopConfig(grace_seconds=1e-9), beside=False)
    with pytest.warns(UserWarning, match="ask for a longer time"):
        saver.save(1, {"a": torch.ones(1)}, {})


def test_bad_weights_before_the_first_save_are_never_a_model(tiny, tmp_path, monkeypatch):
    """As on a device, where a bad step is taken before it is seen."""
    monkeypatch.setattr(loop, "is_step_finite", lambda *_: True)
    prepared = loop.Run.prepare

    def ahead(self, stop):
        self.is_ahead = self.saver.beside = True
        return prepared(self, stop)

    monkeypatch.setattr(loop.Run, "prepare", ahead)
    monkeypatch.setattr(MAR, "head_loss", _poisoned(MAR.head_loss))
    parts = {"vae": tiny.vae, "text_encoder": tiny.text_encoder, "sampling": tiny.sampling}
    result = train(TrainConfig(samples_seen=64, batch_size=16), QUIET, tiny.latents, tmp_path, device="cpu", **parts)
    assert result["status"] == "diverged" and result["steps"] == 0
    assert all(value.isfinite().all() for value in weights(tmp_path).values())


def _poisoned(original):
    def head_loss(*args, **kwargs):
        found = original(*args, **kwargs)
        return found._replace(loss=found.loss * torch.nan)

    return head_loss


def test_batches_that_would_weigh_unevenly_are_refused():
    four = SimpleNamespace(num_processes=4)
    refuse_uneven(8, 2, four)
    with pytest.raises(ValueError, match="batch_size 6 does not divide among 4 processes; give a multiple of 4"):
        refuse_uneven(6, 1, four)
    with pytest.raises(ValueError, match="2 of a batch cannot be taken in 3 parts"):
        refuse_uneven(8, 3, four)
    assert agreed(SimpleNamespace(num_processes=1), True, False) == [True, False]


def test_one_process_may_train_in_two_precisions():
    for precision, expected in (("bf16", "bf16"), ("fp32", "no"), ("bf16", "bf16")):
        assert make_accelerator(precision, "cpu").mixed_precision == expected
    make_accelerator("fp32", "cpu")
