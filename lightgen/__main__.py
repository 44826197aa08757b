"""`python -m lightgen VERB`: teach or import, encode, train, prefer, generate; each verb can be run again."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import OmitArgPrefixes, OmitSubcommandPrefixes, Positional, arg

from lightgen import data_verbs, pair_verbs
from lightgen.console import (
    Device,
    Json,
    KeyValues,
    component,
    finish,
    progress_lines,
    report,
    row_lines,
    stop_on_signals,
)
from lightgen.console import json_pairs as parsed
from lightgen.model.config import MARConfig
from lightgen.training.config import LoopConfig

_Set = Annotated[tuple[str, ...], arg(name="set", metavar="NAME=VALUE ...")]


def train(
    latents: Positional[Path],
    out: Path,
    vae: Path,
    text_encoder: Path,
    preset: str = "tiny",
    switches: Literal["released", "corrected"] | None = None,
    values: _Set = (),
    weights: Literal["ema", "raw"] | None = None,
    start: Path | None = None,
    subset: Path | None = None,
    evaluate_every: int = 0,
    evaluate: KeyValues = (),
    loop: LoopConfig = LoopConfig(),  # noqa: B008
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Train a model, its shapes the latents'; run again to resume. Ctrl-C saves first.

    Args:
        latents: folder from `prepare`
        out: folder of the run; OUT/model is the model
        vae: the folder the latents were encoded with
        text_encoder: the folder the latents were encoded with
        preset: tiny, small, released, corrected, released-1024, released-base, released-huge, paper-256 or paper-512
        switches: set every quirk of the release on (released) or off (corrected), before --set (default: the preset's)
        values: changes of the preset, as train.learning_rate=1e-4 model.width=128 sampling.guidance_scale=3
        weights: averaged or last weights in OUT/model (default: the preset's)
        start: model or pipeline folder to start from (default: fresh weights)
        subset: file from `subset` with the samples to train on (default: all)
        evaluate_every: steps between two GenEval scores of the model, in OUT/evaluations.jsonl (default: never)
        evaluate: who scores, and what, as detector=FOLDER clip=NAME prompts=FILE copies=2
    """
    from lightgen.data.subsets import read_subset
    from lightgen.device import choose_device
    from lightgen.disk.config import override
    from lightgen.presets import preset as named
    from lightgen.presets import switched
    from lightgen.training.train import train as run

    vae, text_encoder = component(vae, "vae"), component(text_encoder, "text")
    row = named(preset) if switches is None else switched(named(preset), switches)
    chosen = override(row, parsed(values))
    choose_device(device)  # one that is not there is told first
    if start is None:
        chosen = override(chosen, _shapes(latents, chosen, parsed(values)))
    _refuse_other_flips(latents, chosen.flips)
    _refuse_other_size(latents, chosen.model)
    parts: dict[str, Any] = {"vae": vae, "text_encoder": text_encoder, "sampling": chosen.sampling, "start": start}
    pace: dict[str, Any] = {"loop": loop, "device": device, "stop": stop_on_signals()}
    pace["on_step"] = pace["on_pace"] = row_lines(chosen.train.steps)
    weights = weights or chosen.weights
    parts["ids"] = None if subset is None else read_subset(subset, _index(latents).get("identity", ""))
    if evaluate_every or evaluate:
        pace["evaluation"] = _evaluation(evaluate_every, parsed(evaluate), vae, text_encoder, chosen.sampling, device)
    finish(run(chosen.training, chosen.model, latents, out, weights=weights, **parts, **pace), out, json)


def dpo(
    model: Positional[Path],
    pairs: Path,
    out: Path,
    reference: Path | None = None,
    drift_from: Path | None = None,
    policies: int = 1,
    extrapolation: float = 1.0,
    preset: str = "tiny",
    values: _Set = (),
    loop: LoopConfig = LoopConfig(),  # noqa: B008
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Train a model on preference pairs; run again to resume. Ctrl-C saves first.

    Args:
        model: model or pipeline folder to start from
        pairs: pairs.jsonl
        out: folder of the run; OUT/model is the model
        reference: folder of the model that margins are measured from, an ancestor of the model (default: the model)
        drift_from: folder of the model that the drift in the result is measured from, an ancestor too (default: the
            reference)
        policies: as many are trained, in OUT/policy_0 and so on, and OUT/model is the average of their weights
        extrapolation: how far OUT/model goes from the start, in the distance that training went
        preset: tiny or paper
        values: changes of the preset, as beta=200 learning_rate=1e-5 guidance_scale=3 kind=ipo train=head lora_rank=8
    """
    from lightgen.disk.config import override
    from lightgen.preference.dpo import train_dpo
    from lightgen.presets import preference_preset

    config = override(preference_preset(preset), parsed(values))
    models: dict[str, Any] = {"reference": reference, "drift_from": drift_from}
    models |= {"policies": policies, "extrapolation": extrapolation}
    pace: dict[str, Any] = {"loop": loop, "device": device, "stop": stop_on_signals()}
    pace["on_step"] = pace["on_pace"] = row_lines(config.steps * policies)
    finish(train_dpo(config, model, pairs, out, **models, **pace), out, json)


def generate(
    model: Positional[Path],
    out: Path,
    prompts: Path | None = None,
    prompt: Annotated[tuple[str, ...], arg(metavar="TEXT ...")] = (),
    copies: int = 1,
    seed: int = 0,
    batch_size: int = 8,
    device: Device = "auto",
    exact: bool = False,
    call: KeyValues = (),
    json: Json = False,
) -> None:
    """Images of prompts: OUT/00000-0.png, ... and OUT/images.json; run again to resume.

    Args:
        model: model or pipeline folder
        out: folder of images
        prompts: file of prompts, .txt, .jsonl or .json
        prompt: prompts given here
        copies: images a prompt
        seed: each image's seed comes from it, the prompt and the copy
        batch_size: images a pass; halved where memory does not suffice
        exact: float32 on a GPU too, where trunk and head run in bf16 otherwise
        call: the pipeline's keyword arguments in JSON, as guidance_scale=3 num_inference_steps=16
    """
    from lightgen.data.captions import read_captions
    from lightgen.data.images import save_image
    from lightgen.data.painters import DiffusersPainter
    from lightgen.device import choose_device, in_batches
    from lightgen.disk.folders import claim_folder
    from lightgen.disk.json_files import write_json
    from lightgen.disk.seeds import derive_seed
    from lightgen.model.folder import model_identity
    from lightgen.model.pipeline import hasten

    texts = [*prompt, *(read_captions(prompts) if prompts is not None else [])]
    if not texts:
        raise ValueError("no prompts; give --prompt TEXT or --prompts FILE")
    if copies < 1 or batch_size < 1:
        raise ValueError(f"copies and batch_size must be at least 1; got {copies}, {batch_size}")
    place = choose_device(device)
    settings = {"model": model_identity(model), "prompts": texts, "copies": copies, "seed": seed, "call": list(call)}
    is_fast = place.type == "cuda" and not exact
    claim_folder(out, {**settings, **({"precision": "bf16"} if is_fast else {})})
    entries: list[dict[str, Any]] = [
        {"file": f"{number:05d}-{copy}.png", "prompt": text, "seed": derive_seed(seed, text, copy)}
        for number, text in enumerate(texts)
        for copy in range(copies)
    ]
    todo = [entry for entry in entries if not (out / entry["file"]).is_file()]
    painter = DiffusersPainter.from_pretrained(model, device=place, call=parsed(call))
    if is_fast:
        hasten(painter.pipeline)

    def paint(batch: Sequence[dict[str, Any]]) -> Sequence[Any]:
        return painter([entry["prompt"] for entry in batch], [entry["seed"] for entry in batch])

    show, made = progress_lines("images"), len(entries) - len(todo)
    for batch, images in in_batches(todo, batch_size, paint, lambda line: print(line, file=sys.stderr)):
        for entry, image in zip(batch, images):
            save_image(image, out / entry["file"])
        made += len(batch)
        show(made, len(entries))
    write_json(out / "images.json", entries)
    report(f"{len(entries)} images in {out}", {"images": len(entries), "out": str(out)}, json)


def export(model: Positional[Path], out: Path, vae: Path | None = None, text_encoder: Path | None = None) -> None:
    """A whole diffusers pipeline of a trained model: every part in one folder, which needs no other.

    Args:
        model: OUT/model of `train` or `dpo`
        out: pipeline folder to write
        vae: where the image tokenizer that it was trained with lies now (default: where the model says)
        text_encoder: where its text encoder lies now (default: where the model says)
    """
    from lightgen.disk.weight_files import check_sizes
    from lightgen.model.folder import export as run

    for part in (model, *model.glob("*/")):
        check_sizes(part)
    print(f"pipeline in {run(model, out, vae=vae, text_encoder=text_encoder)}")


def convert(
    checkpoint: Positional[Path],
    out: Path,
    weights: Literal["model", "model_ema"] = "model",
    heads: int = 16,
    max_text_length: int = 128,
    patch_size: int = 2,
) -> None:
    """A released .pth checkpoint as a folder of its weights (the transformer of a pipeline).

    Args:
        checkpoint: LightGen's released .pth
        out: folder to write
        weights: raw weights, which the released scripts sample from, or their moving average
        heads: attention heads, which no tensor tells (12 for the base size)
        max_text_length: text positions it was trained with
        patch_size: latent positions a token's side
    """
    from lightgen.disk.zip_files import check_sums
    from lightgen.model.convert import convert as run

    check_sums(checkpoint)
    sizes: dict[str, Any] = {"heads": heads, "max_text_length": max_text_length, "patch_size": patch_size}
    config = run(checkpoint, out, weights=weights, **sizes)
    print(f"width {config.width}, depths {config.encoder_depth}/{config.decoder_depth}/{config.cross_depth} in {out}")


VERBS: dict[str, Callable[..., None]] = {
    "distill": data_verbs.distill,
    "compose": data_verbs.compose,
    "import": data_verbs.import_images,
    "prepare": data_verbs.prepare,
    "subset": data_verbs.subset,
    "train": train,
    "pairs": pair_verbs.pairs,
    "dpo": dpo,
    "generate": generate,
    "export": export,
    "convert": convert,
}


def main() -> None:
    """Run one verb; a user's mistake is one line on stderr and exit code 2."""
    style = (OmitArgPrefixes, OmitSubcommandPrefixes)
    try:
        tyro.extras.subcommand_cli_from_dict(VERBS, prog="python -m lightgen", description=__doc__, config=style)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def _evaluation(every: int, asked: dict[str, Any], vae: Path, text_encoder: Path, sampling: Any, device: str) -> Any:
    from lightgen.training.evaluation import Evaluation, installed_evaluation

    parts: dict[str, Any] = {"vae": vae, "text_encoder": text_encoder, "sampling": sampling, "device": device}
    return Evaluation(function=installed_evaluation("geneval", asked=asked, **parts), every=every)


def _refuse_other_flips(latents: Path, wanted: bool) -> None:
    if (found := _index(latents).get("flips", wanted)) != wanted:
        ways = ("has none", "--set flips=false") if wanted else ("has them", "--set flips=true")
        raise ValueError(
            f"the preset trains {'with' if wanted else 'without'} flips, {latents} {ways[0]} (flips: {found});"
            f" prepare again, or give {ways[1]}"
        )


def _refuse_other_size(latents: Path, model: MARConfig) -> None:
    """Refuse latents of another size than the model generates by default."""
    side = model.position_grid * model.patch_size
    if (found := _index(latents).get("grid", [side, side])) != [side, side]:
        stride, fits = model.vae_stride, found[0] == found[1] and found[0] % model.patch_size == 0
        way = f", or give --set model.position_grid={found[0] // model.patch_size}" if fits else ""
        raise ValueError(
            f"{latents} is of images of {found[1] * stride}x{found[0] * stride} px, and the preset generates"
            f" {side * stride}x{side * stride}: import the images at that size{way}"
        )


def _shapes(latents: Path, chosen: Any, given: dict[str, Any]) -> dict[str, Any]:
    """What the latents change of a preset; said on stderr."""
    from lightgen.training.shapes import from_latents

    index = _index(latents)
    found = from_latents(index, chosen.model, chosen.sampling, given) if index else {}
    if found:
        changes = " ".join(f"{name}={value}" for name, value in found.items())
        print(f"from the latents: {changes}", file=sys.stderr)
    return found


def _index(latents: Path) -> dict[str, Any]:
    from lightgen.disk.json_files import read_object

    return read_object(latents / "index.json") if (latents / "index.json").is_file() else {}


if __name__ == "__main__":
    main()
