"""A trained model on disk: its transformer alone, and the names of the frozen parts that it was trained with.

FOLDER/config.json and *.safetensors are the MAR's, in diffusers' layout; components.json names the image tokenizer and
the text encoder, each with the SHA-256 of its folder, and holds the default sampling; lineage.json lists the identities
of the models that this one was trained from, where there are any. A pipeline folder holds all parts (`export`); what
reads a model reads either kind.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from lightgen.disk.config import from_dict
from lightgen.disk.folders import file_sha256, folder_sha256, known_sha256, temporary_folder
from lightgen.disk.json_files import read_object, typed, write_json, write_sealed
from lightgen.model.config import MARConfig, SamplingConfig
from lightgen.model.encoders import (
    ImageTokenizer,
    TextEncoder,
    load_autoencoder,
    load_complete,
    load_text_model,
    load_tokenizer,
    quiet,
)
from lightgen.model.loading import Dtypes, load_options, one_dtype
from lightgen.model.mar import MAR, own_fields
from lightgen.model.pipeline import LightGenPipeline

SCHEMA = 1
CARD = "README.md"
# With it `DiffusionPipeline.from_pretrained(FOLDER, custom_pipeline=FOLDER, trust_remote_code=True)` finds the class.
_CUSTOM = 'from lightgen.model.pipeline import LightGenPipeline\n\n__all__ = ["LightGenPipeline"]\n'
MAX_SHARD = "20GB"  # one file for every released size


class Components(NamedTuple):
    """What a model needs beside its transformer."""

    vae: Path  # folder with an autoencoder of diffusers
    text_encoder: Path  # folder with a text model of transformers and its tokenizer
    sampling: SamplingConfig  # the defaults of generation


def write_model(
    model: MAR,
    folder: Path,
    *,
    vae: Path,
    text_encoder: Path,
    sampling: SamplingConfig,
    ancestors: Sequence[str] = (),
    card: str = "",
) -> None:
    """Write a model folder, whole or not at all; `ancestors` are the identities it was trained from, oldest first;
    `card` is the text of its README.md."""
    parts = {"vae": Path(vae), "text_encoder": Path(text_encoder)}
    named = {name: {"folder": str(path.resolve()), "sha256": folder_sha256(path)} for name, path in parts.items()}
    with temporary_folder(folder) as temporary:
        model.save_pretrained(temporary, max_shard_size=MAX_SHARD)
        _forget_paths(temporary)
        record = {"schema": SCHEMA, **named, "sampling": asdict(sampling), "transformer": _files(temporary)}
        write_sealed(temporary / "components.json", record)
        if ancestors:
            write_json(temporary / "lineage.json", {"ancestors": list(ancestors)})
        if card:
            (temporary / CARD).write_text(card, encoding="utf-8")


def load_transformer(folder: Path) -> MAR:
    """The model of a model or pipeline folder, in evaluation mode; no other part is read."""
    _check_transformer(folder)
    return load_complete(MAR, _transformer(folder))


def load_pipeline(
    folder: Path,
    *,
    vae: Path | None = None,
    text_encoder: Path | None = None,
    dtype: Dtypes = None,
    torch_dtype: Dtypes = None,
) -> LightGenPipeline:
    """The pipeline of a model or pipeline folder; `vae` and `text_encoder` are where the parts lie now, if moved.

    FileNotFoundError or ValueError where a part that the model names is missing or is not the one it was trained with.
    """
    folder = Path(folder)
    chosen = one_dtype(dtype, torch_dtype)
    if is_model(folder):
        components = read_components(folder, vae=vae, text_encoder=text_encoder)
        _check_transformer(folder)
        options = load_options(folder, chosen, None)
        return LightGenPipeline(
            vae=load_autoencoder(components.vae, **options["vae"]),
            text_encoder=load_text_model(components.text_encoder, **options["text_encoder"]),
            tokenizer=load_tokenizer(components.text_encoder),
            transformer=load_complete(MAR, folder, **options["transformer"]),
            sampling=components.sampling,
        )
    _transformer(folder)
    if vae is not None or text_encoder is not None:
        raise ValueError(f"{folder} is a pipeline folder with parts of its own; vae and text_encoder are a model's")
    return LightGenPipeline.from_pretrained(folder, dtype=chosen)


def load_encoders(
    folder: Path, *, vae: Path | None = None, text_encoder: Path | None = None
) -> tuple[ImageTokenizer, TextEncoder]:
    """The image tokenizer and the text encoder of a model or pipeline folder, without its transformer; `vae` and
    `text_encoder` are where they lie now, if moved."""
    parts = read_components(folder, vae=vae, text_encoder=text_encoder)
    text = TextEncoder.from_pretrained(parts.text_encoder, read_config(folder).max_text_length)
    return ImageTokenizer.from_pretrained(parts.vae), text


def read_config(folder: Path) -> MARConfig:
    """The config of a model or pipeline folder's transformer; no weight is read."""
    path = _transformer(folder) / "config.json"
    return from_dict(MARConfig, own_fields(read_object(path)), str(path))


def read_components(folder: Path, *, vae: Path | None = None, text_encoder: Path | None = None) -> Components:
    """What a model folder names, or a pipeline folder holds; each named folder is checked against its SHA-256."""
    folder = Path(folder)
    if not is_model(folder):
        _transformer(folder)
        index = folder / "model_index.json"
        sampling = typed(read_object(index).get("sampling") or {}, f"{index}: sampling")
        return Components(folder / "vae", folder / "text_encoder", from_dict(SamplingConfig, sampling, str(index)))
    path = folder / "components.json"
    record = read_object(path, vae=dict, text_encoder=dict, sampling=dict)
    if record.get("schema") != SCHEMA:
        raise ValueError(f"{folder} is a model folder of schema {record.get('schema')}, this version reads {SCHEMA}")
    given = {"vae": vae, "text_encoder": text_encoder}
    for name in given:
        typed(record[name], f"{path}: {name}", folder=str, sha256=str)
    places = {name: _checked(folder, name, record[name], place) for name, place in given.items()}
    return Components(**places, sampling=from_dict(SamplingConfig, record["sampling"], str(path)))


def is_model(folder: Path) -> bool:
    """Whether this is a model folder, not a pipeline's or another."""
    return (Path(folder) / "components.json").is_file()


def model_identity(folder: Path) -> str:
    """The SHA-256 of a model's config and weights, the same in a model folder and in each pipeline exported from it."""
    folder = _transformer(folder)
    config = own_fields(read_object(folder / "config.json"))
    weights = {path.name: file_sha256(path) for path in sorted(folder.glob("*.safetensors"))}
    return hashlib.sha256(json.dumps([config, weights], sort_keys=True).encode()).hexdigest()


def read_lineage(folder: Path) -> list[str]:
    """The identities of the models that a folder's was trained from, oldest first."""
    path = Path(folder) / "lineage.json"
    if not path.is_file():
        return []
    ancestors = read_object(path, ancestors=list)["ancestors"]
    if not all(isinstance(identity, str) for identity in ancestors):
        raise ValueError(f"{path}: ancestors: expected identities")
    return ancestors


def export(folder: Path, out: Path, *, vae: Path | None = None, text_encoder: Path | None = None) -> Path:
    """Write the pipeline folder OUT, which holds every part of the model in `folder` and needs no other folder; `vae`
    and `text_encoder` are where its parts lie now, if moved."""
    pipeline = load_pipeline(folder, vae=vae, text_encoder=text_encoder)
    with temporary_folder(out) as temporary, quiet():
        pipeline.save_pretrained(temporary, max_shard_size=MAX_SHARD)
        for part in (temporary, *temporary.iterdir()):
            _forget_paths(part)
        (temporary / "pipeline.py").write_text(_CUSTOM, encoding="utf-8")
        for name in ("lineage.json", CARD):
            if (Path(folder) / name).is_file():
                shutil.copyfile(Path(folder) / name, temporary / name)
    return Path(out)


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    """{file: its bytes and SHA-256} of a transformer's config and weights."""
    paths = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
    return {path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)} for path in paths}


def _check_transformer(folder: Path) -> None:
    """Refuse a model folder whose transformer is not the one that was written; older folders do not say."""
    folder = Path(folder)
    if not is_model(folder):
        return
    where = f"{folder / 'components.json'}: transformer"
    for name, said in typed(read_object(folder / "components.json").get("transformer") or {}, where).items():
        typed(said, f"{where}: {name}", bytes=int, sha256=str)
        path = folder / Path(name).name
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing, or no file; copy the model again")
        if path.stat().st_size != said["bytes"] or known_sha256(path) != said["sha256"]:
            raise ValueError(f"{path} was changed since the model was written (its size or SHA-256); copy it again")


def _transformer(folder: Path) -> Path:
    """Where the transformer of a model or pipeline folder lies."""
    folder = Path(folder)
    if is_model(folder):
        return folder
    if (folder / "model_index.json").is_file():
        return folder / "transformer"
    raise FileNotFoundError(
        f"{folder} is neither a model folder (components.json) nor a pipeline's (model_index.json); give the"
        " OUT/model of a training run, or a pipeline folder"
    )


def _checked(model: Path, name: str, record: dict[str, str], given: Path | None) -> Path:
    """The folder of a component, its own or the given one."""
    place = Path(record["folder"]) if given is None else Path(given)
    option = f"--{name.replace('_', '-')}"
    advice = (
        f"where the one that {model} was trained with lies now is given in Python by {name}=, and on the command line"
        f" by `python -m lightgen export {model} {option} FOLDER --out PIPELINE`"
    )
    if not place.is_dir():
        raise FileNotFoundError(f"the {name} folder {place} of {model} is missing; {advice}")
    if folder_sha256(place) != record["sha256"]:
        raise ValueError(f"the {name} folder {place} of {model} has changed (another SHA-256); {advice}")
    return place


def _forget_paths(folder: Path) -> None:
    """Take out of saved configs where their model was loaded from: it is not part of what a model is."""
    for name in ("config.json", "model_index.json"):
        path = folder / name
        if path.is_file() and "_name_or_path" in (config := read_object(path)):
            config.pop("_name_or_path")
            write_json(path, config)
