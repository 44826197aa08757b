"""python -m ablations.icons render|sheet|build

render   draw a data set of the icon world into WebDataset shards
sheet    draw the contact sheet of all glyphs
build    train the embedded components (the same as `python -m ablations.icons.build`)
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["build"]:
        from ablations.icons.build.__main__ import main as build

        return build(given[1:])
    parser = argparse.ArgumentParser(prog="python -m ablations.icons", description="The icon world.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("build", help="train the embedded components")
    sheet = verbs.add_parser("sheet", help="draw the contact sheet of all glyphs")
    sheet.add_argument("--out", type=Path, default=Path("contact_sheet.png"))
    render = verbs.add_parser("render", help="draw a data set into WebDataset shards")
    render.add_argument("--out", type=Path, required=True)
    render.add_argument("--world", default="cpu")
    render.add_argument("--images", type=int, default=8000)
    render.add_argument("--diversity", default="diverse", help="narrow, diverse or all")
    render.add_argument("--seed", type=int, default=0)
    render.add_argument(
        "--wrong-layout", action="store_true", help="the same keys and captions with objects moved, added or left out"
    )
    options = parser.parse_args(given)
    try:
        return _sheet(options.out) if options.verb == "sheet" else _render(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _sheet(out: Path) -> int:
    from ablations.icons.sheet import contact_sheet

    print(contact_sheet(out))
    return 0


def _render(options: argparse.Namespace) -> int:
    from ablations.icons.render import DatasetConfig, render_dataset

    config = DatasetConfig(world=options.world, images=options.images, diversity=options.diversity, seed=options.seed)
    if options.wrong_layout:
        from ablations.icons.layouts import render_wrong_layouts

        drawn = render_wrong_layouts(config, options.out)["num_samples"]
        print(f"{drawn} wrong layouts of {config.images} images in {options.out}")
        return 0
    manifest = render_dataset(config, options.out)
    print(f"{config.images} images, {manifest['diversity']['distinct_captions']} captions in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
