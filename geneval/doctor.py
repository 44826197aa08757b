"""What is here and what is missing: library versions with known traps, and weights. One report for every command."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from geneval.clip import find_clip
from geneval.comparability import NOT_COMPARABLE, is_original_clip
from geneval.detector import detector_folder
from geneval.detectors import identity_of
from geneval.json_files import read_object
from geneval.prompts import COLORS, OBJECTS

_CHECKPOINT = (
    "https://download.openmmlab.com/mmdetection/v2.0/mask2former/mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco/"
    "mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco_20220504_001756-743b7d99.pth"
)

# package (or several that hold the same module) -> what to know about it
PACKAGES = {
    "torch": "",
    "transformers": "",
    "open-clip-torch": "from 2.29 on its `ViT-L-14` has plain GELU: with OpenAI's weights ViT-L-14-quickgelu is built",
    "opencv-python-headless opencv-python": "without it the resize is torch's, within one gray level of the original's",
    "numpy": "equal scores are ordered as numpy 1.23 did, whatever the version",
    "pillow": "the original's crop fails from 13 on; this one does not",
    "diffusers": "only `generate` needs it",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is needed: whether it is here, and what to know about it or where to get it."""

    subject: str
    is_here: bool
    text: str


def report(packages: Mapping[str, str], findings: Sequence[Finding], purpose: str) -> tuple[str, bool]:
    """The report, and whether there is all that the purpose needs: the exit code is 0 then and 1 otherwise."""
    is_ready = all(finding.is_here for finding in findings)
    width = max(len(finding.subject) for finding in findings)
    weights = [f"{f.subject:<{width}}   {'found  ' if f.is_here else 'MISSING'}  {f.text}" for f in findings]
    verdict = f"ready for {purpose}" if is_ready else "not ready: see MISSING above"
    if is_ready and any(NOT_COMPARABLE in finding.text for finding in findings):
        verdict = f"ready, but the score is {NOT_COMPARABLE}"
    lines = ["Versions", "========", *_versions(packages), "", "Weights", "=======", *weights, "", verdict]
    return "".join(f"{line}\n" for line in lines), is_ready


def geneval_findings(detector: str | Path | None, clip: str | Path) -> list[Finding]:
    """The detector and the color classifier of a GenEval score."""
    return [_detector(detector), _colors(clip)]


def _versions(packages: Mapping[str, str]) -> Iterator[str]:
    for names, note in packages.items():
        found = next((f"{name:<24} {v:<16}" for name in names.split() if (v := _version(name))), None)
        yield f"{found or f'{names.split()[0]:<24} not installed   '} {note}".rstrip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _detector(name: str | Path | None) -> Finding:
    if name is None:
        convert = "run `python -m geneval convert FILE --out DIR`, then give --detector DIR"
        return Finding("detector", False, f"download {_CHECKPOINT} (about 275 MB), {convert}")
    try:
        identity = identity_of(name)
    except (ValueError, OSError) as error:
        return Finding("detector", False, str(error))
    resize, kind = identity["preprocessing"]["resize"], NOT_COMPARABLE
    if identity["is_original"]:
        kind = "GenEval's own checkpoint" + ("" if resize == "cv2" else f"; {NOT_COMPARABLE} without opencv")
    known = _named_classes(detector_folder(name))
    return Finding("detector", True, f"{name}: sha256 {identity['weights']}, resize {resize}, {kind}; {known}")


def _named_classes(folder: Path) -> str:
    """The classes that a detector's config names, as far as prompts can ask for them."""
    names = set(read_object(folder / "config.json").get("id2label", {}).values())
    known = [name for name in OBJECTS if name in names] or sorted(map(str, names))
    return (
        f"{len(known)} classes: {', '.join(known)}"
        if len(known) < len(OBJECTS)
        else f"GenEval's {len(OBJECTS)} classes"
    )


def _colors(name: str | Path) -> Finding:
    try:
        identity = find_clip(name).identity
    except (ValueError, OSError) as error:
        return Finding("colors", False, str(error))
    kind = "" if is_original_clip(identity["name"]) else f", {NOT_COMPARABLE}"
    colors = f"{len(COLORS)} colors: {', '.join(COLORS)}"
    return Finding("colors", True, f"{identity['name']}: sha256 {identity['weights']}{kind}; {colors}")
