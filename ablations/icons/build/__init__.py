"""Trains the embedded components from a seed and measures them; see `python -m ablations.icons build --help`."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

COMPONENTS = Path(__file__).parent.parent / "components"
PARTS = ("vae", "text", "clip", "detector")


def train_part(part: str, components: Path, seed: int = 0, steps: int = 0) -> dict[str, Any]:
    """Train one component into COMPONENTS/PART and write what was measured of it beside the weights, as returned."""
    train = getattr(import_module(f"ablations.icons.build.{part}"), f"train_{part}")
    extra: dict[str, Any] = {"vae": components / "vae"} if part == "detector" else {}
    quality = train(components / part, seed=seed, **({"steps": steps} if steps else {}), **extra)
    command = f"python -m ablations.icons build {part} --seed {seed}" + (f" --steps {steps}" if steps else "")
    found = {"command": command, **quality}
    (components / part / "quality.json").write_text(json.dumps(found, indent=1) + "\n")
    return found
