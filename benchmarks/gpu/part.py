"""`python -m benchmarks.gpu.part NAME RECORD DEVICE SIZES SECONDS`: one part of a measurement, in this process."""

import sys
from pathlib import Path

import torch

from benchmarks.gpu.environment import environment
from benchmarks.gpu.job import Job
from benchmarks.gpu.judges import judges
from benchmarks.gpu.preference import preference
from benchmarks.gpu.programs import study, tests
from benchmarks.gpu.sampling import sampling
from benchmarks.gpu.training import training
from lightgen.device import choose_device

RUN = {
    "environment": environment,
    "tests": tests,
    "training": training,
    "sampling": sampling,
    "preference": preference,
    "judges": judges,
    "study": study,
}


def main() -> int:
    """Run the part; what went wrong stands in its record."""
    name, path, device, sizes, seconds = sys.argv[1:]
    job = Job(name, Path(path), choose_device(device), sizes, float(seconds))
    torch.set_float32_matmul_precision("highest")
    try:
        RUN[name](job)
    except Exception as error:  # named in the record, so that the other parts go on
        job.record["failed"] = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"
        job.write()
        print(f"  {job.record['failed']}", file=sys.stderr)
        return 1
    job.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
