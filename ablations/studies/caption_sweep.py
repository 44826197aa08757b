"""Do long captions train a better model than short ones, at equal images, when it is asked short prompts?

Dense captions tell the color of every object and where it lies, asked for or not; mixed sets have half of each.
"""

from __future__ import annotations

from typing import Any

from ablations.data import IconData
from ablations.recipes import judged, study, trained
from ablations.runner.study import Contrast, Variant
from ablations.settings import SETTINGS, Setting
from lightgen.disk.config import override

CUT = 9  # text positions: a dense caption of two objects is cut after the first one's relation
KINDS = (
    ("short", "captions as asked"),
    ("dense", "captions that tell all that is to be seen"),
    ("mixed", "half short, half dense captions"),
)


def variants(setting: Setting, seed: int) -> list[Variant]:
    """Each kind of caption over the same pictures; dense ones cut short, too."""
    why_not = "" if isinstance(setting.data, IconData) else "one's own pictures have the captions that they have"
    rows: list[tuple[str, str, dict[str, Any]]] = [(name, label, {"data.captions_kind": name}) for name, label in KINDS]
    cut = {"data.captions_kind": "dense", "model.max_text_length": CUT}
    rows.append(("dense-cut", f"dense captions, cut after {CUT} text positions", cut))
    rows.append(("short-cut", f"captions as asked, cut after {CUT} text positions", {"model.max_text_length": CUT}))
    return [
        Variant(
            name=name,
            label=label,
            factors={"captions": name},
            ends=() if why_not else judged(setting, trained(setting, seed, changes=changes)),
            why_not=why_not,
        )
        for name, label, changes in rows
    ]


def _minus(name: str, a: str, b: str, label: str, claim: str, **more: Any) -> Contrast:
    return Contrast(name=name, label=label, a=a, b=b, claim=claim, **more)


_CONTRASTS = [
    _minus("dense", "dense", "short", "dense minus short captions", "H14: long captions train a better model.",
           primary=True),
    _minus("mixed", "mixed", "short", "mixed minus short captions", "H14: mixed captions train a better model."),
    _minus("dense-color", "dense", "short", "dense minus short captions: color attribution",
           "H14: long captions teach which object has which color.", metric="geneval/color_attr"),
    _minus("dense-position", "dense", "short", "dense minus short captions: position",
           "H14: long captions teach positions.", metric="geneval/position"),
    _minus("cut-dense", "dense", "dense-cut", "dense captions whole minus cut", "H14: max_text_length matters."),
    _minus("cut-short", "short", "short-cut", "short captions whole minus cut",
           "H14: max_text_length matters for short captions, too."),
]  # fmt: skip

CHANGES: dict[str, dict[str, Any]] = {
    "smoke": {}, "cpu": {"train.samples_seen": 60_000}, "gpu": {}, "paper": {},
}  # fmt: skip

STUDY = study(
    name="caption_sweep",
    title="Short and long captions",
    question="At equal images, do long captions train a model that follows prompts better?",
    claim="Captions of various lengths are mixed; models do better on short prompts than on long ones.",
    source="LightGen (arXiv 2503.08619), no ablation; TIIF-Bench: LightGen 53.2 short, 43.4 long",
    variants=variants,
    contrasts=_CONTRASTS,
    settings={name: override(setting, CHANGES[name]) for name, setting in SETTINGS.items()},
)
