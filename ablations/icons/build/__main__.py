"""python -m ablations.icons.build vae|text|clip|detector|all [--out DIR] [--seed N] [--steps N]

Trains the embedded components and writes each with `quality.json` beside its weights. The detector learns on the VAE's
reconstructions too, so the order is vae, text, clip, detector. `measure` checks the finished set as a whole.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ablations.icons.build import COMPONENTS

PARTS = ("vae", "text", "clip", "detector")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ablations.icons.build", description="Train the icon world's components."
    )
    parser.add_argument("part", choices=[*PARTS, "all", "measure"])
    parser.add_argument("--out", type=Path, default=COMPONENTS, help="folder of the components (default: embedded)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="training steps, to try a short run")
    options = parser.parse_args(arguments)
    if options.part == "measure":
        from ablations.icons.build.measure import measure_components

        print(json.dumps(measure_components(options.out), indent=1))
        return 0
    for part in PARTS if options.part == "all" else (options.part,):
        _train(part, options.out, options.seed, options.steps)
    return 0


def _train(part: str, components: Path, seed: int, steps: int | None) -> None:
    from importlib import import_module

    train = getattr(import_module(f"ablations.icons.build.{part}"), f"train_{part}")
    extra = {"vae": components / "vae"} if part == "detector" else {}
    chosen = {} if steps is None else {"steps": steps}
    quality = train(components / part, seed=seed, **chosen, **extra)
    command = f"python -m ablations.icons.build {part} --seed {seed}" + (f" --steps {steps}" if steps else "")
    (components / part / "quality.json").write_text(json.dumps({"command": command, **quality}, indent=1) + "\n")
    print(json.dumps(quality), flush=True)


if __name__ == "__main__":
    sys.exit(main())
