import dataclasses
import json
import math
from functools import partial

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from lightgen.model.folder import (
    load_encoders,
    load_transformer,
    model_identity,
    read_components,
    read_config,
    read_lineage,
)
from lightgen.model.masking import Draws
from lightgen.preference.config import PreferenceConfig
from lightgen.preference.dpo import train_dpo as train_dpo_at
from lightgen.preference.encoded import encode_pairs, pair_draws, pair_errors
from lightgen.preference.pairs import pair_images, read_pairs
from lightgen.training.config import LoopConfig
from lightgen.training.journal import read_journal

train_dpo = partial(train_dpo_at, loop=LoopConfig(log_every=1, save_every_seconds=0.0))
CONFIG = PreferenceConfig(steps=12, batch_size=6, learning_rate=1e-3, beta=50.0, noise_draws=2)


def weights(folder):
    return load_file(folder / "model/diffusion_pytorch_model.safetensors")


def encoded_pairs(model, pairs):
    return encode_pairs(read_pairs(pairs), *load_encoders(model), read_config(model))


def test_shared_draws_make_the_margin_far_less_noisy(base, pairs):
    """The margin of one policy against a nearby reference, over many draws."""
    reference, policy = (load_transformer(base) for _ in range(2))
    encoded = encoded_pairs(base, pairs)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        for parameter in policy.parameters():
            parameter += 1e-3 * torch.randn(parameter.shape, generator=generator)
    ids = torch.zeros(64, dtype=torch.long)
    config = policy.mar_config

    def draws(seed) -> Draws:
        return pair_draws(config, ids, torch.arange(64), (2, 2), seed=seed, noise_draws=2)

    def both(model, seed, other):
        with torch.no_grad():
            winner = pair_errors(model, encoded, ids, draws(seed), torch.device("cpu")).chosen
            loser = pair_errors(model, encoded, ids, draws(other), torch.device("cpu")).rejected
        return winner, loser

    def margin(seeds):
        (policy_winner, policy_loser), (winner, loser) = both(policy, *seeds[:2]), both(reference, *seeds[2:])
        return ((policy_loser - loser) - (policy_winner - winner)).std().item()

    assert margin((0, 1, 2, 3)) > 20 * margin((0, 0, 0, 0))


def test_dpo_widens_the_margin_and_writes_a_model(base, pairs, tmp_path):
    config = dataclasses.replace(CONFIG, steps=40, max_winner_drift=10.0)
    result = train_dpo(config, base, pairs, tmp_path)
    assert result["status"] == "complete" and result["samples"] == 240 and result["flops"] > 0
    rows = read_journal(tmp_path / "metrics.jsonl")
    assert rows[-1]["margin"] > 0 and rows[-1]["accuracy"] > 0.6 and rows[-1]["loss"] < math.log(2)
    assert rows[-1]["loser_drift"] > rows[-1]["winner_drift"]
    assert read_components(tmp_path / "model") == read_components(base)
    assert train_dpo(config, base, pairs, tmp_path) == result


def test_the_first_loss_is_log_2(base, pairs, tmp_path):
    train_dpo(dataclasses.replace(CONFIG, steps=1), base, pairs, tmp_path)
    (row,) = read_journal(tmp_path / "metrics.jsonl")
    assert row["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert row["winner_drift"] == pytest.approx(0, abs=1e-5)


def test_a_stopped_run_resumes_to_the_same_weights(base, pairs, tmp_path):
    train_dpo(CONFIG, base, pairs, tmp_path / "whole")
    calls = 0

    def stop():
        nonlocal calls
        calls += 1
        return calls % 5 == 0

    statuses = []
    while not statuses or statuses[-1] == "stopped":
        statuses.append(train_dpo(CONFIG, base, pairs, tmp_path / "parts", stop=stop)["status"])
    assert len(statuses) > 2
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    kept = ("step", "loss", "margin", "winner_drift", "grad_norm")
    rows = [
        [[row[name] for name in kept] for row in read_journal(tmp_path / folder / "metrics.jsonl")]
        for folder in ("whole", "parts")
    ]
    assert rows[0] == rows[1]


def test_logging_less_often_changes_no_weight_and_no_end(base, pairs, tmp_path):
    """The bound on the winners' drift looks at its own steps, whatever rows are logged and wherever a run stopped."""
    config = dataclasses.replace(CONFIG, learning_rate=0.03, beta=1e5, clip_norm=1e9, steps=60, drift_every=4)
    config = dataclasses.replace(config, max_winner_drift=0.05)
    often, seldom = tmp_path / "often", tmp_path / "seldom"
    result = train_dpo(config, base, pairs, often)
    assert result["status"] == "drifted" and result["steps"] % 4 == 0
    pace, asked = LoopConfig(log_every=7, save_every_seconds=100.0), []
    train_dpo(config, base, pairs, seldom, loop=pace, stop=lambda: asked.append(0) or len(asked) == 16)
    again = train_dpo(config, base, pairs, seldom, loop=pace)
    assert again | {"seconds": 0} == result | {"seconds": 0}
    assert all(torch.equal(value, weights(seldom)[name]) for name, value in weights(often).items())
    rows = read_journal(often / "metrics.jsonl")
    assert sum(row["winner_drift"] for row in rows[-4:]) / 4 > 0.05
    assert {row["step"] % 7 for row in read_journal(seldom / "metrics.jsonl")[:-1]} <= {0}


def test_a_held_reference_gives_the_same_run_as_precomputed_errors(base, pairs, tmp_path):
    for kind in ("precomputed", "held"):
        config = dataclasses.replace(CONFIG, reference=kind, learning_rate=1e-4, steps=6)
        train_dpo(config, base, pairs, tmp_path / kind)
    first, second = (read_journal(tmp_path / kind / "metrics.jsonl") for kind in ("precomputed", "held"))
    for name in ("loss", "winner_drift", "loser_drift"):
        assert [row[name] for row in first] == pytest.approx([row[name] for row in second], abs=1e-4)
    assert not (tmp_path / "held/reference.safetensors").exists()


def test_guidance_trains_the_prediction_that_is_sampled(base, pairs, tmp_path):
    guided = dataclasses.replace(CONFIG, guidance_scale=3.0, learning_rate=1e-4)
    for kind in ("precomputed", "held"):
        result = train_dpo(dataclasses.replace(guided, reference=kind), base, pairs, tmp_path / kind)
    stored, held = (read_journal(tmp_path / kind / "metrics.jsonl") for kind in ("precomputed", "held"))
    assert [row["loss"] for row in stored] == pytest.approx([row["loss"] for row in held], abs=1e-3)
    assert stored[0]["loss"] == pytest.approx(math.log(2), abs=1e-3) and stored[-1]["margin"] > 0
    before = load_file(base / "diffusion_pytorch_model.safetensors")
    assert not torch.equal(weights(tmp_path / "held")["null_text"], before["null_text"])
    # The result's drift is of the conditional prediction in every run, so that runs can be compared.
    policy, reference = (load_transformer(path) for path in (tmp_path / "held/model", base))
    encoded, ids = encoded_pairs(base, pairs), torch.arange(16)
    drawn = pair_draws(policy.mar_config, ids, ids * 0, (2, 2), seed=0, noise_draws=2)
    with torch.no_grad():
        now, then = (
            pair_errors(model.eval(), encoded, ids, drawn, torch.device("cpu")).chosen for model in (policy, reference)
        )
    assert result["drift"]["pairs"] == 16
    assert result["drift"]["winner"] == pytest.approx(float((now - then).mean()), abs=1e-5)


def test_reference_errors_at_another_guidance_are_refused(base, pairs, tmp_path):
    train_dpo(dataclasses.replace(CONFIG, steps=3, guidance_scale=2.0), base, pairs, tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "a/reference.safetensors").rename(tmp_path / "b/reference.safetensors")
    with pytest.raises(ValueError, match="belongs to another model, seed, guidance or set of pairs"):
        train_dpo(dataclasses.replace(CONFIG, steps=3), base, pairs, tmp_path / "b")
    with pytest.raises(ValueError, match=r"guidance_scale is 0\.0, must be above 0"):
        dataclasses.replace(CONFIG, guidance_scale=0.0)


def test_a_frozen_part_stays_as_it_was(base, pairs, tmp_path):
    before = load_file(base / "diffusion_pytorch_model.safetensors")
    for part in ("head", "trunk"):
        train_dpo(dataclasses.replace(CONFIG, train=part, steps=2), base, pairs, tmp_path / part)
        after = weights(tmp_path / part)
        moved = {name.startswith("head.") for name in before if not torch.equal(before[name], after[name])}
        assert moved == {part == "head"}


def test_a_winner_that_drifts_ends_the_run(base, pairs, tmp_path):
    config = dataclasses.replace(CONFIG, learning_rate=0.03, beta=1e5, clip_norm=1e9, steps=60, max_winner_drift=0.05)
    result = train_dpo(config, base, pairs, tmp_path)
    assert result["status"] == "drifted" and result["steps"] < 60
    assert read_journal(tmp_path / "metrics.jsonl")[-1]["winner_drift"] > 0.05


def test_sft_lowers_the_winner_s_error(base, pairs, tmp_path):
    train_dpo(dataclasses.replace(CONFIG, kind="sft", steps=40), base, pairs, tmp_path)
    assert read_journal(tmp_path / "metrics.jsonl")[-1]["winner_drift"] < 0


def test_reference_errors_of_another_run_are_refused(base, pairs, tmp_path):
    train_dpo(dataclasses.replace(CONFIG, steps=3), base, pairs, tmp_path / "a")
    (tmp_path / "b").mkdir()
    data = (tmp_path / "a/reference.safetensors").read_bytes()
    (tmp_path / "b/reference.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match="another model, seed, guidance or set of pairs"):
        train_dpo(dataclasses.replace(CONFIG, steps=3, seed=1), base, pairs, tmp_path / "b")
    (tmp_path / "b/training.json").unlink()
    (tmp_path / "b/first_reference.safetensors").unlink(missing_ok=True)
    (tmp_path / "b/reference.safetensors").write_bytes(data[:50])
    with pytest.raises(ValueError, match="torn"):
        train_dpo(dataclasses.replace(CONFIG, steps=3), base, pairs, tmp_path / "b")


def write_row(folder, **changes):
    row = {"prompt": "a", "chosen": "w.png", "rejected": "l.png", **changes}
    (folder / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    return folder / "pairs.jsonl"


def test_bad_pairs_are_one_clear_error(tmp_path):
    for name, size in (("w", 8), ("l", 8), ("big", 16)):
        Image.new("RGB", (size, size), (size, 0, ord(name[0]))).save(tmp_path / f"{name}.png")
    with pytest.raises(FileNotFoundError, match=r"line 1: image .*none.png is missing"):
        read_pairs(write_row(tmp_path, rejected="none.png"))
    with pytest.raises(ValueError, match="same image"):
        read_pairs(write_row(tmp_path, rejected="w.png"))
    with pytest.raises(ValueError, match="prompt is missing or empty"):
        read_pairs(write_row(tmp_path, prompt=" "))
    with pytest.raises(ValueError, match="pairs need one size"):
        list(pair_images(read_pairs(write_row(tmp_path, rejected="big.png"))))
    (tmp_path / "copy.png").write_bytes((tmp_path / "w.png").read_bytes())
    with pytest.raises(ValueError, match="same pixels"):
        list(pair_images(read_pairs(write_row(tmp_path, rejected="copy.png"))))
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "a", "cho')
    with pytest.raises(ValueError, match="line 1: torn"):
        read_pairs(tmp_path / "pairs.jsonl")
    (tmp_path / "pairs.jsonl").write_text("")
    with pytest.raises(ValueError, match="no pairs"):
        read_pairs(tmp_path / "pairs.jsonl")


def test_pairs_whose_size_does_not_fit_the_model_are_refused(base, tmp_path):
    for name, color in (("w", 10), ("l", 200)):
        Image.new("RGB", (12, 12), (color, 0, 0)).save(tmp_path / f"{name}.png")
    with pytest.raises(ValueError, match="tokens of 8 pixels"):
        train_dpo(CONFIG, base, write_row(tmp_path), tmp_path / "out")


def test_pairs_come_back_as_they_were_written(pairs):
    listed = read_pairs(pairs)
    assert len(listed) == 16 and listed[0].scores == (1.0, 0.0)
    assert json.loads(pairs.read_text().splitlines()[0])["chosen"] == "0w.png"


def test_residuals_give_the_errors_and_their_overlap(base, pairs):
    model = load_transformer(base)
    encoded = encoded_pairs(base, pairs)
    config = model.mar_config
    ids = torch.arange(16)
    draws = pair_draws(config, ids, torch.zeros(16, dtype=torch.long), (2, 2), seed=0, noise_draws=2)
    with torch.no_grad():
        found = pair_errors(model, encoded, ids, draws, torch.device("cpu"))
    assert draws.masked_range[0] < draws.masked_range[1]  # rows are filled up
    first, second = found.residuals.chunk(2, dim=1)
    counts = 2 * draws.mask.sum(1) * config.token_dim
    torch.testing.assert_close(first.square().sum((0, 2, 3)) / counts, found.chosen)
    torch.testing.assert_close((first * second).sum((0, 2, 3)) / counts, found.overlap)


@pytest.mark.parametrize("change", [{"kind": "simpo"}, {"sft": 0.1}, {"kind": "hinge", "dpop": 1.0}, {"kind": "ipo"}])
def test_every_named_choice_trains(base, pairs, tmp_path, change):
    config = dataclasses.replace(CONFIG, steps=30, max_winner_drift=10.0, **change)
    result = train_dpo(config, base, pairs, tmp_path)
    assert result["status"] == "complete" and result["drift"]["loser"] > result["drift"]["winner"]
    assert result["drift"]["pairs"] == 16 and result["drift"]["accuracy"] > 0.5


def test_sdpo_lets_the_winner_drift_less(base, pairs, tmp_path):
    drifts = {}
    for sdpo in (False, True):
        config = dataclasses.replace(CONFIG, beta=5e3, steps=30, max_winner_drift=10.0, sdpo=sdpo)
        drifts[sdpo] = train_dpo(config, base, pairs, tmp_path / str(sdpo))["drift"]["winner"]
    assert drifts[True] < drifts[False]


def test_gradient_norms_are_told_by_part(base, pairs, tmp_path):
    train_dpo(dataclasses.replace(CONFIG, steps=2), base, pairs, tmp_path / "all")
    train_dpo(dataclasses.replace(CONFIG, steps=2, train="head"), base, pairs, tmp_path / "head")
    for row in read_journal(tmp_path / "all/metrics.jsonl"):
        assert row["grad_norm"] == pytest.approx(math.hypot(row["head_grad_norm"], row["trunk_grad_norm"]), rel=1e-4)
    assert all(row["trunk_grad_norm"] == 0 for row in read_journal(tmp_path / "head/metrics.jsonl"))


@pytest.mark.parametrize("reference", ["precomputed", "held"])
def test_a_refreshed_reference_is_the_policy_of_that_step_even_after_stops(base, pairs, tmp_path, reference):
    config = dataclasses.replace(CONFIG, steps=9, refresh_every=4, reference=reference)
    train_dpo(config, base, pairs, tmp_path / "whole")
    rows = read_journal(tmp_path / "whole/metrics.jsonl")
    for row in rows:  # right after a refresh policy and reference are one
        assert (abs(row["margin"]) < 1e-6) == (row["step"] in (1, 5, 9)), row
    calls = 0

    def stop():
        nonlocal calls
        calls += 1
        return calls % 3 == 0

    while train_dpo(config, base, pairs, tmp_path / "parts", stop=stop)["status"] == "stopped":
        pass
    assert calls > 9
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_refreshed_run_whose_reference_is_lost_says_so(base, pairs, tmp_path):
    config = dataclasses.replace(CONFIG, steps=8, refresh_every=4)
    asked = 0

    def stop():
        nonlocal asked
        asked += 1
        return asked == 18

    assert train_dpo(config, base, pairs, tmp_path, stop=stop)["status"] == "stopped"
    step = json.loads((tmp_path / "resume/latest.json").read_text())["step"]
    assert 4 < step < 8
    (tmp_path / "reference_000004.safetensors").unlink()
    with pytest.raises(ValueError, match=r"reference_000004.*is gone"):
        train_dpo(config, base, pairs, tmp_path)


@pytest.mark.parametrize("reference", ["precomputed", "adapter", "held"])
def test_adapters_train_alone_and_are_merged(base, pairs, tmp_path, reference):
    config = dataclasses.replace(CONFIG, lora_rank=2, reference=reference, steps=20, max_winner_drift=10.0)
    result = train_dpo(config, base, pairs, tmp_path)
    before = load_file(base / "diffusion_pytorch_model.safetensors")
    after = weights(tmp_path)
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all(before[name].ndim == 2 for name in moved)
    assert not any("decoder_blocks.1.attn.qkv" in name for name in moved)
    change = after["head.input.weight"] - before["head.input.weight"]
    assert torch.linalg.matrix_rank(change, rtol=1e-3) <= 2
    # What was measured with adapters on is what the merged model does.
    policy, start = (load_transformer(folder) for folder in (tmp_path / "model", base))
    encoded = encoded_pairs(base, pairs)
    ids = torch.arange(16)
    draws = pair_draws(policy.mar_config, ids, torch.zeros(16, dtype=torch.long), (2, 2), seed=0, noise_draws=2)
    with torch.no_grad():
        found = [pair_errors(p, encoded, ids, draws, torch.device("cpu")) for p in (policy, start)]
    assert (found[0].chosen - found[1].chosen).mean().item() == pytest.approx(result["drift"]["winner"], abs=1e-5)


def test_the_three_references_of_adapters_give_one_run(base, pairs, tmp_path):
    for kind in ("precomputed", "adapter"):
        config = dataclasses.replace(CONFIG, lora_rank=2, reference=kind, steps=6)
        train_dpo(config, base, pairs, tmp_path / kind)
    first, second = (read_journal(tmp_path / kind / "metrics.jsonl") for kind in ("precomputed", "adapter"))
    for name in ("loss", "winner_drift", "loser_drift"):
        assert [row[name] for row in first] == pytest.approx([row[name] for row in second], abs=1e-4)
    with pytest.raises(ValueError, match="needs lora_rank"):
        dataclasses.replace(CONFIG, reference="adapter")
    with pytest.raises(ValueError, match="no adapters to take over"):
        dataclasses.replace(CONFIG, reference="held", lora_rank=2, refresh_every=4)


def test_an_older_ancestor_may_be_the_reference_and_a_stranger_may_not(base, pairs, tiny, tmp_path):
    config = dataclasses.replace(CONFIG, steps=4)
    train_dpo(config, base, pairs, tmp_path / "first")
    second = tmp_path / "second"
    train_dpo(config, tmp_path / "first/model", pairs, second, reference=base)
    row = read_journal(second / "metrics.jsonl")[0]
    assert abs(row["margin"]) > 1e-6  # the policy starts away from its grandparent
    assert read_lineage(second / "model") == [model_identity(base), model_identity(tmp_path / "first/model")]
    for kind in ("held", "precomputed"):
        train_dpo(
            dataclasses.replace(config, reference=kind),
            tmp_path / "first/model",
            pairs,
            tmp_path / kind,
            reference=base,
        )
    first, held = (read_journal(folder / "metrics.jsonl") for folder in (second, tmp_path / "held"))
    assert [r["loss"] for r in first] == pytest.approx([r["loss"] for r in held], abs=1e-4)
    for role in ("reference", "drift_from"):
        with pytest.raises(ValueError, match="no ancestor"):
            train_dpo(config, base, pairs, tmp_path / "wrong", **{role: tmp_path / "first/model"})
    assert not (tmp_path / "wrong").exists()


def test_drift_can_be_told_from_an_older_ancestor_than_the_reference(base, pairs, tmp_path):
    config = dataclasses.replace(CONFIG, steps=8, learning_rate=3e-4)
    one = train_dpo(config, base, pairs, tmp_path / "one")
    still = dataclasses.replace(config, learning_rate=1e-12, steps=1)
    kept = train_dpo(still, tmp_path / "one/model", pairs, tmp_path / "kept", drift_from=base)
    assert read_journal(tmp_path / "kept/metrics.jsonl")[0]["margin"] == pytest.approx(0, abs=1e-5)
    assert kept["drift"]["loser"] == pytest.approx(one["drift"]["loser"], abs=1e-5)
    assert abs(kept["drift"]["loser"]) > 1e-4
