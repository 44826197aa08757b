"""How images were generated, as far as it changes a score: kept with the images, repeated beside every score."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from geneval.json_files import read_object
from geneval.prompts import Prompt

FILE_NAME = "generation.json"
REWRITTEN = "rewritten"  # field of a prompt's metadata: what the model is given; the prompt itself is what is judged


def protocol_of(pipeline: Any, call: Mapping[str, Any], seeding: str, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Steps, guidance, solver, size, dtype, seed rule and rewriting of a run; null is what nobody said."""
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(type(pipeline).__call__).parameters.items()
        if isinstance(parameter.default, int | float | str)
    }
    # Pipelines of this repository's kind register their sampling settings; diffusers' have a scheduler.
    config = getattr(pipeline, "config", None) or {}
    sampling = dict(config.get("sampling") or {}) if isinstance(config, Mapping) else {}
    scheduler = getattr(pipeline, "scheduler", None)
    said = {**defaults, **sampling, **{name: value for name, value in call.items() if value is not None}}
    return {
        "steps": call.get("num_inference_steps") or sampling.get("num_steps") or said.get("num_inference_steps"),
        "guidance": said.get("guidance_scale"),
        "solver": said.get("solver") or (type(scheduler).__name__ if scheduler is not None else None),
        "size": [said.get("width"), said.get("height")],
        "dtype": str(pipeline.dtype).removeprefix("torch.") if hasattr(pipeline, "dtype") else None,
        "seeding": seeding,
        "prompts_rewritten": sum(given_text(prompt) != prompt.prompt for prompt in prompts),
    }


def given_text(prompt: Prompt) -> str:
    """What the model is given: the prompt's rewritten text where its metadata has one."""
    text = dict(prompt.extra).get(REWRITTEN)
    return text if isinstance(text, str) and text else prompt.prompt


def read_generation(images: Path) -> dict[str, Any] | None:
    """What IMAGES/generation.json says, without the place where the pipeline lay; None of images made elsewhere."""
    path = images / FILE_NAME
    if not path.is_file():
        return None
    record = read_object(path)
    source = record.get("pipeline")
    return {**record, "pipeline": Path(source).name if isinstance(source, str) else None}


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """The parts of the protocol in which two scores' provenances differ, as far as both say them."""
    names = ["image sizes"] if a.get("sizes") and b.get("sizes") and a["sizes"] != b["sizes"] else []
    made = [record.get("generation") or {} for record in (a, b)]
    ours, theirs = (one.get("protocol") or {} for one in made)
    names += [name for name in ours if name in theirs and ours[name] != theirs[name]]
    if all("call" in one for one in made) and not names and made[0]["call"] != made[1]["call"]:
        names.append("call")
    return names
