"""The record of a speed benchmark: a line a row for a person, the JSON at the end, and a file that grows with it."""

import json
from typing import Any

import torch

from benchmarks.environment import timing_environment
from benchmarks.speed.config import SpeedConfig
from lightgen.disk.json_files import write_json

SCHEMA = 1


class Report:
    """What a run has measured so far; a run that is cut short keeps it in its file."""

    def __init__(self, name: str, config: SpeedConfig, device: torch.device | str = "cpu") -> None:
        self.config = config
        self.record: dict[str, Any] = {"schema": SCHEMA, "name": f"speed/{name}"}
        self.record["machine"] = timing_environment(torch.device(device))

    def add(self, line: str, **fields: Any) -> None:
        """Further fields of the record, and the line that says them."""
        self.record |= fields
        if line and not self.config.json:
            print(line, flush=True)
        if self.config.out is not None:
            write_json(self.config.out, self.record)

    def add_row(self, line: str, row: dict[str, Any], to: str = "rows") -> None:
        """One more of the record's rows."""
        self.add(line, **{to: [*self.record.get(to, ()), row]})

    def finish(self) -> dict[str, Any]:
        """Print the record, the last line of the run, and return it."""
        print(json.dumps(self.record))
        return self.record


def row_line(row: dict[str, Any]) -> str:
    """What a row of sampling, training or memory says."""
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
