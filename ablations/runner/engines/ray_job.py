"""The command itself as a job of Ray's own job server (`ray[default]`), so that a study outlives the terminal."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightgen.disk.json_files import read_json, write_json

STOP_SECONDS = 60.0  # what a stopped command gets to end; its workers save by themselves


def submit_command(out: Path, arguments: Sequence[str]) -> str:
    """Have the cluster that RAY_ADDRESS names run `python ARGUMENTS`; the job's id. ValueError in one line if not."""
    client = _client(os.environ.get("RAY_ADDRESS", ""))
    try:
        job = client.submit_job(entrypoint=shlex.join([sys.executable, *arguments]))
    except (RuntimeError, ConnectionError) as error:
        raise ValueError(f"Ray's job server refused the study: {str(error).splitlines()[0]}") from None
    write_json(_note(out), {"job": job, "address": os.environ["RAY_ADDRESS"]})
    return job


def stop_command(out: Path) -> str:
    """End the job that carries out OUT, and wait until it is gone; its id, or nothing where none runs."""
    if not _note(out).is_file():
        return ""
    noted = read_json(_note(out))
    client, job = _client(noted["address"]), noted["job"]
    deadline = time.monotonic() + STOP_SECONDS
    if _is_over(client, job):
        return ""
    client.stop_job(job)
    while not _is_over(client, job):
        if time.monotonic() > deadline:
            raise ValueError(f"Ray's job {job} has not ended after {STOP_SECONDS:g} s; ask `ray job status {job}`")
        time.sleep(0.5)
    return job


def _client(address: str) -> Any:
    if not address:
        raise ValueError("--detach --engine ray hands the study to a cluster: name it in RAY_ADDRESS")
    try:
        from ray.job_submission import JobSubmissionClient

        return JobSubmissionClient(address)
    except (ImportError, RuntimeError, ConnectionError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"no job server of Ray's at RAY_ADDRESS={address} ({reason}): it needs pip install 'ray[default]', "
            "here and on the cluster, which must be started with its dashboard"
        ) from None


def _is_over(client: Any, job: str) -> bool:
    return client.get_job_status(job).is_terminal()


def _note(out: Path) -> Path:
    return out / "jobs" / "ray.json"
