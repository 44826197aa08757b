"""The card of a trained model's folder (README.md): what it is, what it was made from and how, scores, limits."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import ModelCardData

from lightgen.model.config import MARConfig

_USE = """```python
from lightgen import load_pipeline

pipeline = load_pipeline("FOLDER")  # this folder; `python -m lightgen export` makes one that needs no other
pipeline("a photo of a red car").images[0].save("car.png")
```"""
_LIMITS = """Written by a program that knows neither the pictures nor the captions that the model learned from: who
publishes it says what is in them, for whom it is meant, and what it must not be used for. It shows what its training
captions name, at the size that it was trained at, and errs in counts and positions."""
_LICENSE = """Not chosen by this program. The licenses of the training pictures (or of the teacher that drew them), of
the image tokenizer and of the text encoder apply to what is made from them: name one here and in `license` above."""


def model_card(
    model: MARConfig,
    parameters: int,
    settings: Mapping[str, Any],
    result: Mapping[str, Any],
    scores: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The text of a card; `settings` and `result` as in training.json, `scores` rows of evaluations.jsonl."""
    data = ModelCardData(
        license="other", library_name="diffusers", pipeline_tag="text-to-image", tags=["lightgen", "mar"]
    )
    side = model.position_grid * model.token_pixels
    recipe = {name: value for name, value in settings.items() if not _is_identity(value)}
    made_from = {name: value for name, value in settings.items() if _is_identity(value)}
    outcome = {name: result[name] for name in ("steps", "samples", "status") if name in result}
    parts = [
        f"---\n{data.to_yaml()}\n---\n\n# A LightGen model",
        f"Text to image: a masked autoregressive model with a diffusion head (arXiv 2503.08619), {parameters:,} "
        f"parameters, {side} x {side} px unless asked otherwise.",
        _USE,
        f"## Recipe\n\n{_json({**recipe, 'result': outcome})}",
        f"## Data and models it was made from\n\nSHA-256 of each:\n\n{_json(made_from)}\n\n"
        "Image tokenizer and text encoder: `components.json`, where it is a model folder.",
        f"## Scores\n\n{_scores(scores)}",
        f"## Limits\n\n{_LIMITS}",
        f"## License\n\n{_LICENSE}",
    ]
    return "\n\n".join(parts) + "\n"


def _is_identity(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64


def _json(value: Any) -> str:
    return f"```json\n{json.dumps(value, indent=1)}\n```"


def _scores(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "None yet: `python -m geneval generate FOLDER --out IMAGES`, then `detect` and `score`."
    return f"The last one on the way, over a few prompts (no GenEval score):\n\n{_json(dict(rows[-1]))}"
