import dataclasses
import json
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

from lightgen.model.folder import load_transformer, model_identity, read_components, read_lineage, write_model
from lightgen.preference.averaging import average_models
from lightgen.preference.config import PreferenceConfig
from lightgen.preference.dpo import train_dpo as train_dpo_at
from lightgen.training.config import LoopConfig
from lightgen.training.journal import read_journal

train_dpo = partial(train_dpo_at, loop=LoopConfig(log_every=1, save_every_seconds=0.0))
CONFIG = PreferenceConfig(steps=6, batch_size=6, learning_rate=1e-3, beta=50.0, noise_draws=2, max_winner_drift=9.0)


def weights(model):
    return load_file(model / "diffusion_pytorch_model.safetensors")


@pytest.fixture(scope="module")
def two(base, pairs, tmp_path_factory):
    """A run of two policies, and its result."""
    out = tmp_path_factory.mktemp("two")
    return out, train_dpo(CONFIG, base, pairs, out, policies=2)


def test_the_model_is_the_mean_of_policies_of_which_the_first_is_the_plain_run(base, pairs, two, tmp_path):
    out, result = two
    plain = train_dpo(CONFIG, base, pairs, tmp_path)
    first, second, mean = (weights(out / name) for name in ("policy_0/model", "policy_1/model", "model"))
    alone = weights(tmp_path / "model")
    for name in mean:
        assert torch.equal(first[name], alone[name])
        torch.testing.assert_close(mean[name], (first[name] + second[name]) / 2)
    assert any(not torch.equal(first[name], second[name]) for name in mean)
    assert result["samples"] == 2 * plain["samples"] == 72 and result["flops"] == 2 * plain["flops"]
    assert result["steps"] == 6 and result["status"] == "complete"
    assert read_lineage(out / "model")[:1] == [model_identity(base)]


def test_the_drift_is_the_average_s_own(base, pairs, two, tmp_path):
    out, result = two
    still = dataclasses.replace(CONFIG, learning_rate=1e-12, steps=1)
    measured = train_dpo(still, out / "model", pairs, tmp_path, drift_from=base)["drift"]
    assert result["drift"] == pytest.approx(measured, abs=1e-5)
    parts = [json.loads((out / f"policy_{n}/training.json").read_text())["result"]["drift"]["loser"] for n in (0, 1)]
    assert abs(result["drift"]["loser"] - sum(parts) / 2) > 1e-5


def test_the_rows_are_the_policies_means(two):
    out, _ = two
    rows, *policies = (read_journal(out / name / "metrics.jsonl") for name in ("", "policy_0", "policy_1"))
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    for row, first, second in zip(rows, *policies, strict=True):
        assert row["loss"] == pytest.approx((first["loss"] + second["loss"]) / 2)
        assert row["samples"] == first["samples"] + second["samples"]


def test_a_finished_run_is_not_made_again_and_another_is_refused(base, pairs, two):
    out, result = two
    assert train_dpo(CONFIG, base, pairs, out, policies=2, on_step=lambda row: pytest.fail("trained")) == result
    with pytest.raises(ValueError, match=r"other settings \(policies\)"):
        train_dpo(CONFIG, base, pairs, out, policies=3)
    with pytest.raises(ValueError, match="policies is 0"):
        train_dpo(CONFIG, base, pairs, out, policies=0)


def test_a_stopped_run_of_policies_goes_on_to_the_same_average(base, pairs, two, tmp_path):
    steps = []
    for limit in (4, 9):

        def stop(limit=limit):
            return len(steps) >= limit

        stopped = train_dpo(CONFIG, base, pairs, tmp_path, policies=2, stop=stop, on_step=steps.append)
        assert stopped["status"] == "stopped" and not (tmp_path / "model").exists()
    train_dpo(CONFIG, base, pairs, tmp_path, policies=2, on_step=steps.append)
    assert [row["step"] for row in steps] == list(range(1, 13))
    whole, resumed = weights(two[0] / "model"), weights(tmp_path / "model")
    for name in whole:
        torch.testing.assert_close(resumed[name], whole[name])


def test_extrapolation_goes_further_the_way_that_training_went(base, pairs, two, tmp_path):
    far = train_dpo(CONFIG, base, pairs, tmp_path, extrapolation=2.0)
    before, trained, found = weights(base), weights(two[0] / "policy_0/model"), weights(tmp_path / "model")
    for name in found:
        torch.testing.assert_close(found[name], 2 * trained[name] - before[name])
    assert far["samples"] == 36 and read_journal(tmp_path / "metrics.jsonl")[-1]["step"] == 6
    plain = json.loads((tmp_path / "policy_0/training.json").read_text())["result"]["drift"]
    assert far["drift"]["loser"] > plain["loser"]
    with pytest.raises(ValueError, match="extrapolation is 0"):
        train_dpo(CONFIG, base, pairs, tmp_path, extrapolation=0.0)


def test_only_relatives_can_be_averaged(base, two, tmp_path):
    out, _ = two
    path = average_models([base, out / "policy_1/model"], base, tmp_path / "half")
    before, after, half = weights(base), weights(out / "policy_1/model"), weights(path)
    for name in half:
        torch.testing.assert_close(half[name], (before[name] + after[name]) / 2)
    with pytest.raises(ValueError, match="give at least one"):
        average_models([], base, tmp_path / "none")
    stranger = load_transformer(base)
    with torch.no_grad():
        stranger.null_text.add_(1)
    write_model(stranger, tmp_path / "stranger", **read_components(base)._asdict())
    with pytest.raises(ValueError, match="is no ancestor of"):
        average_models([out / "policy_0/model", tmp_path / "stranger"], base, tmp_path / "mixed")
    assert not (tmp_path / "mixed").exists()
