"""The weight files that the named extractors need, and whether they are here."""

from collections.abc import Sequence

from geneval.clip import WEIGHTS, find_clip, is_clip_name
from geneval.doctor import Finding
from geneval.embedded import CLIPS
from geneval.weights import WeightFile, examine

PACKAGES = {"torch": "", "open-clip-torch": "", "transformers": "", "torch-fidelity": "only the Inception needs it"}

INCEPTION = WeightFile(
    file="weights-inception-2015-12-05-6726825d.pth",
    url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    megabytes=96,
    sha256_start="6726825d",
)
DINOV2 = WeightFile(
    file="model.safetensors",
    repository="facebook/dinov2-large",
    megabytes=1218,
    companions=("config.json", "preprocessor_config.json"),
)
KNOWN = {
    "inception-v3-compat": INCEPTION,
    "inception-v3-compat-clean": INCEPTION,
    "clip-ViT-L-14": WEIGHTS["ViT-L-14-quickgelu:openai"],
    "clip-ViT-B-32": WEIGHTS["ViT-B-32-quickgelu:openai"],
    "dinov2-vitl14": DINOV2,
}


def findings(extractors: Sequence[str] = (), *, verify: bool = False) -> list[Finding]:
    """Whether the weights of these extractors (default: all known) are here; with `verify` sha256s are compared."""
    return [_finding(name, verify) for name in extractors or KNOWN]


def _finding(name: str, verify: bool) -> Finding:
    if name in KNOWN:
        return Finding(name, *examine(KNOWN[name], verify=verify))
    if not is_clip_name(name):
        raise ValueError(f"no extractor {name}; valid: {', '.join((*KNOWN, *CLIPS))}, clip-MODEL@TAG")
    try:
        return Finding(name, True, str(find_clip(name).file))
    except (ValueError, OSError) as error:
        return Finding(name, False, str(error))
