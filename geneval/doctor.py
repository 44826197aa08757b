"""What is here and what is missing for a GenEval score: weights, their hashes, versions with known traps."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from geneval.color import color_identity
from geneval.detector import detector_folder, detector_identity

# package -> what to know about it; the versions are those in which the trap was seen
_TRAPS = {
    "torch": "",
    "transformers": "",
    "open-clip-torch": "from 2.29 on `ViT-L-14` is built with plain GELU: the name here is ViT-L-14-quickgelu",
    "opencv-python-headless": "without it the detector's resize is torch's, within one gray level of the original's",
    "numpy": "equal scores are ordered as numpy 1.23 did, whatever the version",
    "pillow": "",
    "diffusers": "only `generate` needs it",
}


def report(detector: str | Path | None, clip: str | Path) -> tuple[str, bool]:
    """The report and whether a score comparable with published ones can be made here."""
    lines = ["Versions", "========", *_versions(), "", "Weights", "======="]
    detector_lines, has_detector = _detector(detector)
    clip_lines, has_clip = _clip(clip)
    is_ready = has_detector and has_clip
    verdict = "ready for a GenEval score" if is_ready else "not ready: see MISSING above"
    return "".join(f"{line}\n" for line in [*lines, *detector_lines, *clip_lines, "", verdict]), is_ready


def _versions() -> Iterator[str]:
    for package, note in _TRAPS.items():
        try:
            found = version(package)
        except PackageNotFoundError:
            found = "not installed"
        yield f"{package:<24} {found:<16} {note}".rstrip()


def _detector(name: str | Path | None) -> tuple[list[str], bool]:
    if name is None:
        return [
            "detector   MISSING  give --detector DIR; `python -m geneval convert --help` says how to make it"
        ], False
    try:
        identity = detector_identity(detector_folder(name))
    except (ValueError, OSError) as error:
        return [f"detector   MISSING  {error}"], False
    kind = "GenEval's own checkpoint" if identity["is_original"] else "not comparable with published GenEval"
    resize = identity["preprocessing"]["resize"]
    return [f"detector   found    {name}: sha256 {identity['weights']}, resize {resize}, {kind}"], identity[
        "is_original"
    ]


def _clip(name: str | Path) -> tuple[list[str], bool]:
    try:
        identity = color_identity(name)
    except (ValueError, OSError) as error:
        return [f"colors     MISSING  {error}"], False
    return [f"colors     found    {identity['name']}: sha256 {identity['weights']}"], True
