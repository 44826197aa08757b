"""`python -m ablations.icons render|sheet|build|measure`: data sets of the icon world, its glyphs, its components."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import tyro
from tyro.conf import Positional

from ablations.icons.build import COMPONENTS, PARTS, train_part


def render(
    out: Path,
    world: str = "cpu",
    images: int = 8000,
    diversity: Literal["narrow", "diverse", "all"] = "diverse",
    seed: int = 0,
    wrong_layout: bool = False,
    geneval: bool = False,
) -> None:
    """Draw a data set into WebDataset shards, or pictures of a benchmark's prompts.

    Args:
        out: folder of the shards
        world: smoke, cpu, components or gpu
        images: pictures
        diversity: which compositions its captions may show
        seed: of captions and pictures
        wrong_layout: the same keys and captions with objects moved, added or left out
        geneval: pictures of GenEval prompts over the world's classes instead, at most as many as --images, as a folder
            that `python -m geneval detect` reads, with its prompts in OUT/evaluation_metadata.jsonl
    """
    if geneval:
        from ablations.icons.benchmark import render_benchmark

        print(f"{render_benchmark(world, out, images, seed)} pictures, one a prompt, in {out}")
        return
    from ablations.icons.layouts import render_wrong_layouts
    from ablations.icons.render import DatasetConfig, render_dataset

    config = DatasetConfig(world=world, images=images, diversity=diversity, seed=seed)
    if wrong_layout:
        drawn = render_wrong_layouts(config, out)["num_samples"]
        print(f"{drawn} wrong layouts of {images} images in {out}")
        return
    manifest = render_dataset(config, out)
    print(f"{images} images, {manifest['diversity']['distinct_captions']} captions in {out}")


def sheet(out: Path = Path("contact_sheet.png")) -> None:
    """Draw the contact sheet of all glyphs.

    Args:
        out: picture to write
    """
    from ablations.icons.sheet import contact_sheet

    print(contact_sheet(out))


def build(
    part: Positional[Literal["vae", "text", "clip", "detector", "all"]],
    out: Path | None = None,
    seed: int = 0,
    steps: int = 0,
) -> None:
    """Train embedded components; each is written with `quality.json` beside its weights.

    The detector learns on the VAE's reconstructions too, so the order is vae, text, clip, detector.

    Args:
        part: which component, or all in that order
        out: folder of the components (default: the embedded ones)
        seed: of weights and data
        steps: training steps, to try a short run (default: each part's own)
    """
    for name in PARTS if part == "all" else (part,):
        print(json.dumps(train_part(name, out or COMPONENTS, seed, steps)), flush=True)


def measure(out: Path | None = None) -> None:
    """Check a finished set of components as a whole.

    Args:
        out: folder of the components (default: the embedded ones)
    """
    from ablations.icons.build.measure import measure_components

    print(json.dumps(measure_components(out or COMPONENTS), indent=1))


VERBS: dict[str, Callable[..., None]] = {"render": render, "sheet": sheet, "build": build, "measure": measure}


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    try:
        tyro.extras.subcommand_cli_from_dict(VERBS, prog="python -m ablations.icons", args=arguments)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
