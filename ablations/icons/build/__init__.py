"""Trains the embedded components from a seed and measures them; see `python -m ablations.icons.build --help`."""

from pathlib import Path

COMPONENTS = Path(__file__).parent.parent / "components"
