"""What is here and what is missing for a GenEval score: weights, their hashes, versions with known traps."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from geneval.color import color_identity
from geneval.detector import detector_folder, detector_identity
from geneval.scores import NOT_COMPARABLE

_CHECKPOINT = (
    "https://download.openmmlab.com/mmdetection/v2.0/mask2former/mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco/"
    "mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco_20220504_001756-743b7d99.pth"
)

# package (or several that hold the same module) -> what to know about it
_TRAPS = {
    "torch": "",
    "transformers": "",
    "open-clip-torch": "from 2.29 on `ViT-L-14` is built with plain GELU: the name here is ViT-L-14-quickgelu",
    "opencv-python-headless opencv-python": "without it the resize is torch's, within one gray level of the original's",
    "numpy": "equal scores are ordered as numpy 1.23 did, whatever the version",
    "pillow": "the original's crop fails from 13 on; this one does not",
    "diffusers": "only `generate` needs it",
}


def report(detector: str | Path | None, clip: str | Path) -> tuple[str, bool]:
    """The report, and whether there is all that a score needs."""
    lines = ["Versions", "========", *_versions(), "", "Weights", "======="]
    detector_lines, has_detector = _detector(detector)
    clip_lines, has_clip = _clip(clip)
    text = [*lines, *detector_lines, *clip_lines]
    is_ready = has_detector and has_clip
    if not is_ready:
        verdict = "not ready: see MISSING above"
    elif any(NOT_COMPARABLE in line for line in text):
        verdict = f"ready, but the score is {NOT_COMPARABLE}"
    else:
        verdict = "ready for a GenEval score"
    return "".join(f"{line}\n" for line in [*text, "", verdict]), is_ready


def _versions() -> Iterator[str]:
    for packages, note in _TRAPS.items():
        names = packages.split()
        found = next((f"{name:<24} {v:<16}" for name in names if (v := _version(name))), None)
        yield f"{found or f'{names[0]:<24} not installed   '} {note}".rstrip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _detector(name: str | Path | None) -> tuple[list[str], bool]:
    if name is None:
        return [
            f"detector   MISSING  download {_CHECKPOINT}",
            "           (about 275 MB), run `python -m geneval convert FILE --out DIR`, then give --detector DIR",
        ], False
    try:
        identity = detector_identity(detector_folder(name))
    except (ValueError, OSError) as error:
        return [f"detector   MISSING  {error}"], False
    resize = identity["preprocessing"]["resize"]
    if not identity["is_original"]:
        kind = NOT_COMPARABLE
    else:
        kind = "GenEval's own checkpoint" + ("" if resize == "cv2" else f"; {NOT_COMPARABLE} without opencv")
    return [f"detector   found    {name}: sha256 {identity['weights']}, resize {resize}, {kind}"], True


def _clip(name: str | Path) -> tuple[list[str], bool]:
    try:
        identity = color_identity(name)
    except (ValueError, OSError) as error:
        return [f"colors     MISSING  {error}"], False
    kind = "" if identity["name"].startswith("ViT-L-14-quickgelu") else f", {NOT_COMPARABLE}"
    return [f"colors     found    {identity['name']}: sha256 {identity['weights']}{kind}"], True
