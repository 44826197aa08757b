"""The command lines: their verbs are frozen here, and help answers before any heavy library is loaded."""

import subprocess
import sys

import pytest

VERBS = {
    "lightgen": ("distill", "prepare", "train", "pairs", "dpo", "generate", "convert"),
    "geneval": ("prompts", "generate", "detect", "score", "summary", "compare", "convert", "validate", "doctor"),
    "benchmarks": ("quality", "regression", "speed"),
    "ablations": ("run", "status", "logs", "cancel", "worker", "icons"),
    "ablations.run": ("--scale", "--seeds", "--out", "--workers", "--engine", "--plan", "--only", "--detach"),
    "ablations.icons": ("render", "sheet", "build"),
    "reports": ("build", "check", "difference", "pack"),
}
HEAVY = ("torch", "transformers", "diffusers", "open_clip", "torchmetrics", "torch_fidelity", "matplotlib.pyplot")


@pytest.mark.parametrize("command", VERBS)
def test_help_names_the_verbs_and_loads_nothing_heavy(command: str, tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", command, "--help"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for verb in VERBS[command]:
        assert verb in done.stdout, f"{command} --help does not name {verb}"
    imported = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert not imported & set(HEAVY)


@pytest.mark.parametrize("command", [name for name in VERBS if name != "ablations.run"])
def test_an_unknown_verb_is_refused_without_a_traceback(command: str, tmp_path) -> None:
    done = subprocess.run([sys.executable, "-m", command, "no-such-verb"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
