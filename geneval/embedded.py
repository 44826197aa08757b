"""The small parts that come with this repository, by name from any folder: a detector and a CLIP of the icon world."""

from pathlib import Path

_COMPONENTS = Path(__file__).resolve().parents[1] / "ablations" / "icons" / "components"
CLIPS = {"icon-clip": _COMPONENTS / "clip"}
DETECTORS = {"icons": _COMPONENTS / "detector"}
