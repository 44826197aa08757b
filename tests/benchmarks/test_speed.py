"""The speed benchmark: what it counts and compares."""

import json
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed import data, limits, memory, preference, sampling, training
from benchmarks.speed.config import DataSpeed, MemoryPeak, ModelSpeed
from benchmarks.speed.models import make_model, size
from benchmarks.speed.timer import alternate, count_operations, ratio
from lightgen.model.config import MARConfig, SamplingConfig


def test_operations_are_counted_without_views():
    x = torch.ones(4, 4)
    assert count_operations(lambda: (x + 1).view(2, 8).transpose(0, 1)) == 1
    assert count_operations(lambda: x @ x + x.expand(2, 4, 4).sum()) == 3


def test_the_reference_path_does_no_more_than_the_release():
    found = sampling.count_paths()
    assert found["fast"]["head_step"] < found["reference"]["head_step"] <= found["released"]["head_step"]
    assert found["reference"]["trunk_pass"] <= found["released"]["trunk_pass"]


def test_the_limits_are_those_of_the_released_size():
    flops = sampling.sampling_flops(MARConfig(), SamplingConfig(), 256, 128)
    assert sum(flops.values()) == pytest.approx(19.3e12, rel=2e-3)
    assert limits.USABLE * 989e12 / sum(flops.values()) == pytest.approx(40.9, rel=5e-3)
    assert limits.latency_floor(MARConfig(), SamplingConfig(), 4.8e12) == pytest.approx(0.29, rel=0.05)
    trained = sum(limits.training_flops(MARConfig(), 256, 128).values())
    assert limits.USABLE * 989e12 / trained == pytest.approx(645, rel=0.03)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("joined", [True, False])
def test_the_operations_of_sampling_are_those_that_are_counted(joined, guidance):
    chosen = replace(size("golden", batch_size=1), model=replace(size("golden").model, text_in_decoder=joined))
    # The limits leave out embeddings, and that the first step without text computes the last block for all tokens.
    config = SamplingConfig(num_steps=32, num_head_steps=5, guidance_scale=guidance)
    model = make_model(chosen.model, torch.device("cpu")).requires_grad_(False)  # the counter follows gradients
    with FlopCounterMode(display=False) as counter:
        sampling.run(model, chosen, config, "fast", torch.device("cpu"))
    expected = sampling.sampling_flops(chosen.model, config, chosen.grid**2, chosen.text_length)
    assert counter.get_total_flops() == pytest.approx(sum(expected.values()), rel=0.03)


def test_tasks_are_timed_in_turn():
    order = []
    tasks = {name: lambda name=name: order.append(name) for name in ("a", "b")}
    seconds = alternate(tasks, 2, torch.device("cpu"))
    assert order == ["a", "b"] * 3 and {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}
    assert ratio({"a": [2.0, 6.0], "b": [1.0, 2.0]}, "a", "b") == {
        "median": 2.5,
        "least": 2.0,
        "most": 3.0,
        "of_least": 2.0,
    }


def test_both_paths_make_the_same_and_the_last_line_is_json(capsys, tmp_path):
    row = sampling.measure("golden", guidance_scale=4.0, num_steps=4, num_head_steps=3, repetitions=1)
    assert row["relative_difference"] < 2e-5 and row["ratio"]["median"] > 0 and row["limit"]["share"] > 0
    row = training.measure("golden", batch_size=2, steps=1, repetitions=1)
    assert row["relative_difference"] < 2e-5
    memory.run_benchmark(MemoryPeak(sizes=("golden",), device="cpu", out=tmp_path / "memory.json"))
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed == json.loads((tmp_path / "memory.json").read_text())
    assert printed["rows"][0]["peak"] > printed["rows"][0]["weights"] > 2e6
    with pytest.raises(ValueError, match="no size 'giant'; valid: golden, 10m, released"):
        memory.run_benchmark(MemoryPeak(sizes=("giant",)))
    with pytest.raises(ValueError, match="repetitions"):
        training.run_benchmark(ModelSpeed(sizes=("golden",), repetitions=0))


def test_the_memory_of_preference_training_is_counted_without_data():
    config = MARConfig(
        width=32, encoder_depth=1, decoder_depth=1, cross_depth=1, heads=2, text_depth=1, text_channels=8,
        max_text_length=4, vae_channels=2, position_grid=4, head_depth=1, head_width=32,
    )  # fmt: skip
    small, large = (preference.memory(config, side, pairs=2) for side in (4, 8))
    assert small["fixed"]["held"] - small["fixed"]["precomputed"] == 6 * small["parameters"]
    assert small["fixed"]["precomputed"] == 18 * small["parameters"]
    # Activations grow with the tokens, but for the text's part; no attention matrix grows with their square.
    assert 3.0 < large["activations_by_pair"] / small["activations_by_pair"] < 4.2
    released = preference.memory(MARConfig(), 16, pairs=1)
    assert released["parameters"] == 792244352 and released["fixed"]["precomputed"] < 80e9


def test_preference_steps_are_timed_in_turn_with_training():
    config = MARConfig(
        width=32, encoder_depth=1, decoder_depth=1, cross_depth=1, heads=2, text_depth=1, text_channels=8,
        max_text_length=4, vae_channels=2, position_grid=4, head_depth=1, head_width=32,
    )  # fmt: skip
    found = preference.time_steps(config, pairs=2, steps=1, repetitions=2)
    assert set(found["seconds"]) == {"DPO, reference precomputed", "DPO, reference held", "training"}
    assert all(len(times["all"]) == 2 for times in found["seconds"].values())
    assert set(found["ratios"]) == {"precomputed / held", "held / training", "precomputed / training"}


def test_one_s_own_data_are_timed_from_pictures_to_training(tmp_path):
    config = DataSpeed(images=8, pixels=32, cached=1500, steps=1, repetitions=2, ids=5000, out=tmp_path / "r.json")
    found = data.run_benchmark(config)
    assert json.loads((tmp_path / "r.json").read_text()) == found
    assert [row["images"] for row in found["rows"]] == [2, 8]
    for row in found["rows"]:
        assert 0 < row["useful_share"] <= 1 and row["import"]["peak"] > 0
        assert set(row["prepare"]["seconds"]) == {"decode", "forward, images", "forward, text"}
        assert all(seconds > 0 for seconds in row["prepare"]["seconds"].values())
    assert set(found["mapped"]["ratio"]) == {"processor", "wall"}
    assert all(abs(apart) < 0.05 for apart in found["subset"]["length_differences"])
