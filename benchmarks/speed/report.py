"""The `speed` verb: rows measured one after another, a line each for a person, and one JSON line at the end."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed import memory, sampling, training
from benchmarks.speed.timer import machine

SCHEMA = 1
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
GUIDANCE = (4.0, 1.0)


def run(
    what: str,
    *,
    sizes: Sequence[str],
    repetitions: int,
    threads: int,
    device: str,
    precision: str,
    batch_size: int,
    fast_only: bool,
    out: Path | None,
) -> dict[str, Any]:
    """Measure, print and return the record."""
    if repetitions < 1 or threads < 1 or batch_size < 0:
        raise ValueError("repetitions and threads must be at least 1 and batch_size at least 0")
    torch.set_num_threads(threads)
    options: dict[str, Any] = {"device": device, "dtype": DTYPES[precision]}
    timed = options | {"repetitions": repetitions, "paths": ("fast",) if fast_only else ("reference", "fast")}
    measures = {
        "sampling": lambda: _sampling(sizes or ("10m", "golden"), timed | {"batch_size": batch_size}),
        "training": lambda: _training(sizes or ("10m", "golden"), timed | {"batch_size": batch_size or 4}),
        "memory": lambda: (memory.measure(name, **options) for name in sizes or ("released",)),
    }
    record: dict[str, Any] = {"schema": SCHEMA, "name": f"speed/{what}", "machine": machine(torch.device(device))}
    if what == "sampling":
        record["operations"] = sampling.count_paths()
        print(_operations(record["operations"]), flush=True)
    record["rows"] = []
    for row in measures[what]():
        record["rows"].append(row)
        print(_line(row), flush=True)
        if out is not None:  # after every row: a run that is cut short keeps what it measured
            temporary = out.with_name(f".{out.name}.{os.getpid()}")
            temporary.write_text(json.dumps(record, indent=1) + "\n")
            os.replace(temporary, out)
    print(json.dumps(record))
    return record


def _sampling(sizes: Sequence[str], options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name in sizes:
        for scale in GUIDANCE:
            yield sampling.measure(name, guidance_scale=scale, **options)


def _training(sizes: Sequence[str], options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name in sizes:
        yield training.measure(name, **options)


def _operations(found: dict[str, Any]) -> str:
    head, trunk = found["reference"]["head_step"], found["reference"]["trunk_pass"]
    return (
        f"operations at the released depths: reference path {head:.0f} a head step, {trunk} a trunk pass (the release"
        f" {found['released']['head_step']} and {found['released']['trunk_pass']}); fast path"
        f" {found['fast']['head_step']:.0f} a head step"
    )


def _line(row: dict[str, Any]) -> str:
    start = f"{row['size']} ({row['parameters'] / 1e6:.1f} M, batch {row['batch_size']}, {row['dtype']}"
    if "weights" in row:
        above = row["above_weights"] / 2**30
        return f"{start}): peak {row['peak'] / 2**30:.2f} GiB, {above:.2f} GiB above the weights"
    guidance = f", guidance {row['guidance_scale']:g}" if "guidance_scale" in row else ""
    seconds = ", ".join(f"{path} {values['median']:.3f} s" for path, values in row["seconds"].items())
    line = f"{start}{guidance}): {seconds}"
    if "ratio" in row:
        spread = row["ratio"]
        line += f"; {spread['median']:.2f} times as fast [{spread['least']:.2f}, {spread['most']:.2f}]"
        line += f", outputs differ by {row['relative_difference']:.1e}"
    share = row["limit"].get("share")
    return line + (f"; {share:.0%} of the limit" if share is not None else "")
