"""What preference training costs: a DPO step beside a training step, and the memory of the released size.

Steps are timed in processor time, in turn, with forward and backward pass,
clipping and optimizer: DPO with precomputed reference errors, DPO with the reference held in memory, and training on
the same images. Memory is arithmetic: weights, gradients and optimizer by parameter counts, activations as the
tensors that autograd keeps when the model runs on fake tensors, without data. The last line is JSON.
"""

import os
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.config import PreferenceCost
from benchmarks.speed.limits import MEAN_MASK_RATIO
from benchmarks.speed.models import make_model, size
from benchmarks.speed.report import Report
from benchmarks.speed.timer import alternate, ratio, summary
from lightgen.model.config import MARConfig
from lightgen.model.diffusion import add_noise
from lightgen.model.mar import MAR
from lightgen.model.masking import Draws, draw
from lightgen.preference.config import PreferenceConfig
from lightgen.preference.encoded import EncodedPairs
from lightgen.preference.run import PreferenceRun
from lightgen.presets import PRESETS
from lightgen.training.optimization import make_optimizer
from lightgen.training.processes import make_accelerator

GPU_BYTES = 80e9  # of the card that memory is stated for


def run_benchmark(config: PreferenceCost) -> dict[str, Any]:
    """Measure and print."""
    report = Report("preference", config, threads=config.threads)
    # Whether the C library keeps freed memory or gives it back, to be cleared again in every step, moves the ratios.
    allocator = {name: value for name, value in os.environ.items() if name.startswith("MALLOC_")}
    report.add("", allocator=allocator)
    if "steps" in config.parts:
        model = PRESETS[config.model].model if config.model in PRESETS else size(config.model).model
        found = time_steps(model, pairs=config.pairs, steps=config.steps, repetitions=config.repetitions)
        lines = ("{}: {median:.2f} [{least:.2f}, {most:.2f}]".format(name, **r) for name, r in found["ratios"].items())
        report.add("\n".join(lines), steps=found)
    if "memory" in config.parts:
        rows = [memory(MARConfig(), side, pairs=4) for side in (16, 32)]
        report.add("\n".join(map(_line, rows)), memory=rows)
    return report.finish()


def time_steps(config: MARConfig, *, pairs: int, steps: int, repetitions: int) -> dict[str, Any]:
    """Seconds of `steps` steps of each kind and their ratios; all on the same images, draws of 4 a token."""
    device = torch.device("cpu")
    settings = PreferenceConfig(batch_size=pairs, steps=10**6, draws_per_pair=1, measured_pairs=0, learning_rate=1e-6)
    encoded = _encoded(config, pairs)
    with tempfile.TemporaryDirectory() as scratch:
        tasks = {}
        for reference in ("precomputed", "held"):
            chosen = replace(settings, reference=reference)
            described = {"preference": asdict(chosen), "reference": "", "drift_from": "", "pairs": ""}
            model, place = make_model(config, device), Path(scratch) / reference
            run = PreferenceRun(chosen, model, encoded, place, make_accelerator("fp32", "cpu"), described)
            run.pool, run.config = 1, replace(chosen, steps=1)  # every pair once: the whole pool is computed before
            run.prepare(None)
            tasks[f"DPO, reference {reference}"] = lambda run=run: [run.one_step() for _ in range(steps)]
        tasks["training"] = _training(config, encoded, pairs, steps)
        seconds = alternate(tasks, repetitions, device)
    first, second, third = seconds
    return {
        "model": asdict(config),
        "pairs": pairs,
        "steps": steps,
        "seconds": {name: summary(values) for name, values in seconds.items()},
        "ratios": {
            "precomputed / held": ratio(seconds, first, second),
            "held / training": ratio(seconds, second, third),
            "precomputed / training": ratio(seconds, first, third),
        },
    }


def _training(config: MARConfig, encoded: EncodedPairs, pairs: int, steps: int) -> Any:
    """Training steps on the winners and losers of all pairs."""
    model = make_model(config, torch.device("cpu")).train()
    optimizer = make_optimizer(model, learning_rate=1e-6, weight_decay=0.02, betas=(0.9, 0.95))
    latents, text, lengths = encoded.stacked(torch.arange(pairs), torch.device("cpu"))
    grid, generator = model.token_grid(latents), torch.Generator().manual_seed(0)

    def run() -> None:
        for _ in range(steps):
            draws = draw(config, len(latents), grid, generator)
            model(latents, text, lengths, draws).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 3.0, foreach=True)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return run


def _encoded(config: MARConfig, pairs: int) -> EncodedPairs:
    generator = torch.Generator().manual_seed(1)
    side = config.position_grid * config.patch_size
    shape = (pairs, config.vae_channels, side, side)
    length = min(12, config.max_text_length)
    return EncodedPairs.of(
        chosen=torch.randn(shape, generator=generator),
        rejected=torch.randn(shape, generator=generator),
        text=torch.randn(pairs, length, config.text_channels, generator=generator),
        lengths=torch.full((pairs,), length),
        prompts=torch.arange(pairs),
    )


def memory(config: MARConfig, side: int, *, pairs: int) -> dict[str, Any]:
    """Bytes of a DPO step at a grid of `side` x `side` tokens in bf16 autocast over float32 weights, AdamW, no
    checkpointing: what does not depend on the batch, with and without a held reference, and what each pair adds."""
    parameters = _model(config).num_parameters()
    # Under autocast every weight is cast once a pass and kept until the backward pass has used it.
    fixed = {"weights": 4, "gradients": 4, "AdamW": 8, "bf16 copies": 2}
    policy = {name: size * parameters for name, size in fixed.items()}
    reference = {"weights": 4 * parameters, "bf16 copies": 2 * parameters}
    by_pair = _activations(config, side, pairs) / pairs
    totals = {"precomputed": sum(policy.values()), "held": sum(policy.values()) + sum(reference.values())}
    return {
        "parameters": parameters,
        "tokens": side * side,
        "policy": policy,
        "held_reference": reference,
        "activations_by_pair": by_pair,
        "fixed": totals,
        "pairs_in_80_gb": {name: int((GPU_BYTES - total) // by_pair) for name, total in totals.items()},
    }


def _activations(config: MARConfig, side: int, pairs: int) -> float:
    """Bytes that autograd keeps of a forward pass of `pairs` pairs, parameters left out.

    Fake tensors have shapes and no data, and take the fused attention that a real device takes; on the meta device
    attention is written out, and its matrices would be counted.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    kept: dict[int, int] = {}
    tokens, batch = side * side, 2 * pairs
    masked = round(MEAN_MASK_RATIO * tokens)
    # Tables that are kept for later calls must be real ones.
    add_noise(torch.zeros(1), torch.zeros(1), torch.zeros((), dtype=torch.long), config.diffusion_steps)
    with FakeTensorMode(allow_non_fake_inputs=True):
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)  # a fake model's weights cannot be cast
        try:
            model = MAR(config).eval()
        finally:
            torch.set_default_dtype(before)
        own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                kept[storage._cdata] = storage.nbytes()
            return tensor

        draws = Draws(
            mask=torch.zeros(batch, tokens, dtype=torch.bool),
            timesteps=torch.zeros(4, batch, tokens, dtype=torch.long),
            noise=torch.zeros(4, batch, tokens, config.token_dim),
            text_dropped=torch.zeros(batch, dtype=torch.bool),
            masked_range=(masked, masked),
        )
        latents = torch.zeros(batch, config.vae_channels, side * config.patch_size, side * config.patch_size)
        text = torch.zeros(batch, config.max_text_length, config.text_channels)
        lengths = torch.zeros(batch, dtype=torch.long)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model(latents, text, lengths, draws, variational=False).errors.sum()
    assert loss.requires_grad
    return float(sum(kept.values()))


def _model(config: MARConfig) -> MAR:
    with torch.device("meta"):
        return MAR(config)


def _line(row: dict[str, Any]) -> str:
    fits, by_pair = row["pairs_in_80_gb"], row["activations_by_pair"]
    lone, held = (row["fixed"][name] / 1e9 for name in ("precomputed", "held"))
    return (
        f"{row['parameters'] / 1e6:.0f} M, {row['tokens']} tokens: {lone:.1f} GB with precomputed errors, {held:.1f} GB"
        f" with a held reference, and {by_pair / 1e9:.2f} GB a pair: in 80 GB {fits['precomputed']} or {fits['held']}"
    )
