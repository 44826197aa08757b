"""Text-to-image pipelines from folders and Hub names: diffusers' own classes, and those of one table. A folder's files
name classes as data; nothing else that they name is imported."""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from geneval.finite import refuse_not_finite
from geneval.json_files import read_object
from geneval.weight_files import check_sizes

# Class that a folder names -> what loads such a folder. Imported only when that very name is asked for.
OTHERS = {
    "LightGenPipeline": "lightgen.model.folder:load_pipeline",
    "MAR": "lightgen.model.folder:load_pipeline",  # a transformer alone, with components.json beside its config.json
}
_LIBRARIES = ("diffusers", "transformers")
_OTHER_LIBRARIES = (*_LIBRARIES, "lightgen")  # of the components of a pipeline in OTHERS, which loads them by itself


def load_pipeline(name: str, device: str | None = None, dtype: str | None = None) -> Any:
    """The pipeline of a folder (a diffusers pipeline, or a model that names its components) or of a Hub name."""
    import torch
    from transformers import PreTrainedTokenizerBase

    kwargs: dict[str, Any] = {} if dtype is None else {"torch_dtype": getattr(torch, dtype)}
    folder = Path(name)
    for part in (folder, *folder.glob("*/")) if folder.is_dir() else ():
        check_sizes(part)
    is_model = (folder / "components.json").is_file() and not (folder / "model_index.json").is_file()
    load = _model_loader(folder / "config.json") if is_model else _loader(name)
    try:
        pipeline = load(name, **kwargs)
    except (ValueError, OSError, ImportError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # damaged weights and settings raise anything from KeyError to SafetensorError
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ValueError(f"{name}: cannot be loaded as a pipeline ({reason})") from error
    for component in pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            refuse_not_finite(component, name)
        elif isinstance(component, PreTrainedTokenizerBase):
            try_tokenizer(component, name)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device) if device else pipeline


def try_tokenizer(tokenizer: Any, where: object) -> None:
    """ValueError for a tokenizer whose settings cannot be used: they are not looked at before its first text."""
    try:
        tokenizer(["a", "two Zebras, \u00e9 \u03a9 \u6f22 \U0001f600"])  # what no vocabulary holds, too
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # anything from TypeError to the panic of the Rust library
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ValueError(f"{where}: its tokenizer cannot be used ({reason}); copy it again") from None


def _loader(name: str) -> Any:
    """What loads a pipeline whose model_index.json names allowed classes only."""
    import diffusers

    index = Path(name) / "model_index.json"
    if Path(name).exists() and not index.is_file():
        raise FileNotFoundError(f"{index}: missing; {name} is no pipeline folder, nor has it components.json")
    record = read_object(index) if index.is_file() else diffusers.DiffusionPipeline.load_config(name)
    kind = record.get("_class_name")
    if isinstance(kind, str) and kind in OTHERS:
        _check_components(record, _OTHER_LIBRARIES, index)
        return _other(kind, index)
    if not isinstance(kind, str) or kind not in dir(diffusers):
        raise ValueError(f"{index}: class {kind!r} is neither diffusers' nor one of {', '.join(OTHERS)}")
    _check_components(record, _LIBRARIES, index)
    return lambda name, **kwargs: diffusers.DiffusionPipeline.from_pretrained(name, use_safetensors=True, **kwargs)


def _check_components(record: Mapping[str, Any], libraries: tuple[str, ...], index: Path) -> None:
    """Refuse a component of another package before anything of it is imported."""
    from diffusers import pipelines

    for name, value in record.items():
        if not isinstance(value, list | tuple) or not value or not isinstance(value[0], str):
            continue  # a setting, or a component that the folder leaves out
        # A pipeline's own classes stand under its module's name, as ["stable_diffusion", "...SafetyChecker"].
        is_own = value[0].isidentifier() and hasattr(pipelines, value[0])
        if not is_own and value[0].split(".")[0] not in libraries:
            raise ValueError(
                f"{index}: component {name!r} is of {json.dumps(value)}; allowed are classes of {', '.join(libraries)}"
            )


def _model_loader(config: Path) -> Any:
    if not config.is_file():
        raise FileNotFoundError(f"{config}: missing beside components.json")
    return _other(read_object(config).get("_class_name"), config)


def _other(kind: Any, path: Path) -> Any:
    """What loads a folder of a class in OTHERS."""
    if not isinstance(kind, str) or kind not in OTHERS:
        raise ValueError(f"{path}: class {kind!r} is none of {', '.join(OTHERS)}")
    module, _, function = OTHERS[kind].partition(":")
    return getattr(import_module(module), function)
