"""`python -m lightgen VERB`: teach, encode, train, prefer, generate; each verb one stage that can be run again."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg

from lightgen.console import default_device, finish, json_pairs, needed, progress_lines, row_lines, stop_on_signals

_Pairs = Annotated[tuple[str, ...], arg(metavar="KEY=VALUE ...")]
_Set = Annotated[tuple[str, ...], arg(name="set", metavar="NAME=VALUE ...")]


def distill(
    captions: Positional[Path],
    out: Path,
    teacher: Path,
    copies: int = 1,
    seed: int = 0,
    batch_size: int = 16,
    shard_size: int = 1000,
    device: str | None = None,
    call: _Pairs = (),
) -> None:
    """A data set of a teacher's images of the captions; run again to resume.

    Args:
        captions: .txt (one a line), .jsonl ({"prompt": ...}) or .json
        out: folder of the data set
        teacher: diffusers text-to-image pipeline folder, or a folder of shards whose images are taken over
        copies: images a caption
        seed: each image's seed comes from it, the caption and the copy
        batch_size: captions a call of the teacher
        shard_size: images a shard
        device: cpu, cuda, ... (default: a GPU where there is one)
        call: the teacher's keyword arguments in JSON, as guidance_scale=3.5 height=512
    """
    from lightgen.data.captions import read_captions
    from lightgen.data.painters import DiffusersTeacher, ShardTeacher
    from lightgen.data.painters import distill as run

    texts = read_captions(captions)
    drawer: Any
    if (teacher / "model_index.json").is_file():
        drawer = DiffusersTeacher.from_pretrained(teacher, device=default_device(device), call=json_pairs(call))
    else:
        drawer = ShardTeacher(teacher)
    options: dict[str, Any] = {"copies": copies, "seed": seed, "batch_size": batch_size, "shard_size": shard_size}
    manifest = run(drawer, texts, out, **options, progress=progress_lines("images"))
    print(f"{manifest['num_samples']} images in {out}")


def prepare(
    dataset: Positional[Path],
    out: Path,
    vae: Path,
    text_encoder: Path,
    preset: str | None = None,
    max_length: int = 0,
    flips: bool = False,
    keep_padding: bool = False,
    bf16: bool = False,
    skip_bad: bool = False,
    batch_size: int = 64,
    device: str | None = None,
) -> None:
    """Latents and text features of a data set; run again to resume.

    Args:
        dataset: folder of shards
        out: folder of the cache
        vae: diffusers AutoencoderKL folder
        text_encoder: transformers T5 encoder folder with its tokenizer
        preset: give the next three the values that training by this preset needs
        max_length: text positions; longer captions are cut and counted (default: the preset's, or 128)
        flips: also store mirrored images, with unchanged captions as released
        keep_padding: store padded text positions, for models that attend to them (the released ones)
        bf16: store moments and features in half the space, rounded to bfloat16
        skip_bad: leave unreadable samples out and count them
        batch_size: images a pass
        device: cpu, cuda, ... (default: a GPU where there is one)
    """
    from lightgen.data.latents import encode_dataset
    from lightgen.model.encoders import ImageTokenizer, TextEncoder

    if preset is not None:
        from lightgen.presets import preset as named

        row = named(preset)
        flips, keep_padding = flips or row.flips, keep_padding or row.model.attend_to_padding
        max_length = max_length or row.model.max_text_length
    tokenizer, text = ImageTokenizer.from_pretrained(vae), TextEncoder.from_pretrained(text_encoder, max_length or 128)
    tokenizer.vae.to(default_device(device))
    text.model.to(default_device(device))
    options: dict[str, Any] = {
        "flips": flips,
        "keep_padding": keep_padding,
        "dtype": "bfloat16" if bf16 else "float32",
        "skip_bad": skip_bad,
        "batch_size": batch_size,
    }
    index = encode_dataset(dataset, out, tokenizer=tokenizer, text=text, **options, progress=progress_lines("shards"))
    facts = ", ".join(f"{index[name]} {name}" for name in ("num_samples", "num_captions", "truncated", "rejected"))
    print(f"{facts} in {out}")


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
) -> None:
    """Train a model; run again to resume. Ctrl-C saves first.

    Args:
        latents: folder from `prepare`
        out: folder of the run; OUT/model is the pipeline
        vae: the folder the latents were encoded with
        text_encoder: the folder the latents were encoded with
        preset: tiny, small, released, corrected, released-1024, released-base, released-huge, paper-256 or paper-512
        switches: set every quirk of the release on (released) or off (corrected), before --set (default: the preset's)
        values: changes of the preset, as train.learning_rate=1e-4 model.width=128 sampling.guidance_scale=3
        weights: averaged or last weights in OUT/model (default: the preset's)
        start: pipeline folder to start from (default: fresh weights)
    """
    from lightgen.disk.config import override
    from lightgen.presets import preset as named
    from lightgen.presets import switched
    from lightgen.training.train.train import train as run

    row = named(preset) if switches is None else switched(named(preset), switches)
    chosen = override(row, json_pairs(values))
    _refuse_other_flips(latents, chosen.flips)
    stop = stop_on_signals()
    components: dict[str, Any] = {"vae": vae, "text_encoder": text_encoder, "sampling": chosen.sampling}
    options: dict[str, Any] = {"start": start, "stop": stop, "on_step": row_lines(chosen.train.steps)}
    options["weights"] = weights or chosen.weights
    finish(run(chosen.training, chosen.model, latents, out, **components, **options), out)


def pairs(
    source: Positional[Literal["teacher", "verifier", "detail", "layout", "random", "file"]],
    out: Path,
    dataset: Path | None = None,
    model: Path | None = None,
    results: Path | None = None,
    images: Path | None = None,
    exclude: Path | None = None,
    against: Path | None = None,
    vae: Path | None = None,
    file: Path | None = None,
    damages: tuple[str, ...] = ("blur", "noise"),
    limit: int = 1000,
    per_prompt: int = 1,
    min_gap: float = 1e-9,
    per_task: int | None = None,
    batch_size: int = 16,
    seed: int = 0,
    device: str | None = None,
    call: _Pairs = (),
) -> None:
    """Preference pairs: OUT/pairs.jsonl; run again to resume.

    Args:
        source: teacher (data set's image against own sample), verifier (best against worst own sample by score), detail
            (data set's image against itself damaged), layout (against the same objects placed wrongly), random (a
            file's pairs, half of them turned around) or file (check and copy one)
        out: folder of the pairs
        dataset: teacher, detail, layout: folder of shards
        model: teacher: pipeline folder
        results: verifier: JSON lines with filename, prompt, and score or correct
        images: verifier: folder the file names are relative to (default: that of the results)
        exclude: verifier: prompts of the benchmark (.txt, .jsonl or .json), of which no pair is made
        against: layout: folder of shards with the same keys and captions and a wrong layout
        vae: detail: VAE folder for the damage vae
        file: random, file: a pairs.jsonl with prompt, chosen, rejected
        damages: detail: of blur, noise, vae; taken in turn
        limit: teacher, detail, layout: most pairs
        per_prompt: verifier: most pairs a prompt
        min_gap: verifier: least difference of scores
        per_task: verifier: most pairs a task
        batch_size: teacher, detail: images at once
        seed: of images, damages, choices within tasks, turned pairs
        device: cpu, cuda, ... (default: a GPU where there is one)
        call: teacher: the pipeline's keyword arguments in JSON
    """
    from lightgen.preference.dpo import pair_sources as made
    from lightgen.preference.dpo.pairs import pair_images, read_pairs, write_pairs

    options: dict[str, Any] = {"limit": limit, "progress": progress_lines("pairs")}
    if source == "teacher":
        from lightgen.data.painters import DiffusersTeacher
        from lightgen.training.train.resume import folder_identity

        model = needed("model", model)
        own = DiffusersTeacher.from_pretrained(model, device=default_device(device), call=json_pairs(call))
        options |= {"batch_size": batch_size, "seed": seed, "identity": folder_identity(model)}
        path = made.teacher_pairs(needed("dataset", dataset), own, out, **options)
    elif source == "verifier":
        from lightgen.data.captions import read_captions

        results = needed("results", results)
        groups, tasks = made.read_groups(results, images or results.parent)
        asked = set(read_captions(exclude)) if exclude is not None else set()
        kept = {prompt: samples for prompt, samples in groups.items() if prompt not in asked}
        if asked:
            print(f"{len(groups) - len(kept)} of {len(groups)} prompts are excluded", file=sys.stderr)
        settings: dict[str, Any] = {"per_prompt": per_prompt, "min_gap": min_gap, "per_category": per_task}
        ranked = made.ranked_pairs(kept, categories=tasks, seed=seed, **settings)
        if not ranked:
            raise ValueError(f"{results}: no prompt has samples of different scores, so there is no pair")
        path = write_pairs(ranked, out / "pairs.jsonl")
    elif source == "detail":
        tokenizer = None
        if vae is not None:
            from lightgen.model.encoders import ImageTokenizer

            tokenizer = ImageTokenizer.from_pretrained(vae)
            tokenizer.vae.to(default_device(device))
        options |= {"damages": damages, "tokenizer": tokenizer, "batch_size": batch_size, "seed": seed}
        path = made.detail_pairs(needed("dataset", dataset), out, **options)
    elif source == "layout":
        path = made.layout_pairs(needed("dataset", dataset), needed("against", against), out, **options)
    else:
        listed = read_pairs(needed("file", file))
        for _ in pair_images(listed):
            pass  # every image is read and checked
        path = write_pairs(
            made.shuffled_pairs(listed, seed=seed) if source == "random" else listed, out / "pairs.jsonl"
        )
    print(f"{len(read_pairs(path))} pairs in {path}")


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
) -> None:
    """Train a pipeline on preference pairs; run again to resume. Ctrl-C saves first.

    Args:
        model: pipeline folder to start from
        pairs: pairs.jsonl
        out: folder of the run; OUT/model is the pipeline
        reference: pipeline folder that margins are measured from, an ancestor of the model (default: the model)
        drift_from: pipeline folder that the drift told at the end is measured from, an ancestor too (default: the
            reference)
        policies: as many are trained, in OUT/policy_0 and so on, and OUT/model is the average of their weights
        extrapolation: how far OUT/model goes from the start, in the distance that training went
        preset: tiny or paper
        values: changes of the preset, as beta=200 learning_rate=1e-5 guidance_scale=3 kind=ipo train=head lora_rank=8
    """
    from lightgen.disk.config import override
    from lightgen.preference.dpo.averaging import train_policies
    from lightgen.presets import preference_preset

    config = override(preference_preset(preset), json_pairs(values))
    options: dict[str, Any] = {"stop": stop_on_signals(), "on_step": row_lines(config.steps * policies)}
    options |= {"policies": policies, "extrapolation": extrapolation, "reference": reference, "drift_from": drift_from}
    finish(train_policies(config, model, pairs, out, **options), out)


def generate(
    model: Positional[Path],
    out: Path,
    prompts: Path | None = None,
    prompt: Annotated[tuple[str, ...], arg(metavar="TEXT ...")] = (),
    copies: int = 1,
    seed: int = 0,
    batch_size: int = 8,
    device: str | None = None,
    call: _Pairs = (),
) -> None:
    """Images of prompts: OUT/00000-0.png, ... and OUT/images.json; run again to resume.

    Args:
        model: pipeline folder
        out: folder of images
        prompts: file of prompts, .txt, .jsonl or .json
        prompt: prompts given here
        copies: images a prompt
        seed: each image's seed comes from it, the prompt and the copy
        batch_size: images a pass
        device: cpu, cuda, ... (default: a GPU where there is one)
        call: the pipeline's keyword arguments in JSON, as guidance_scale=3 num_inference_steps=16
    """
    from lightgen.data.captions import read_captions
    from lightgen.data.painters import DiffusersTeacher
    from lightgen.disk.json_files import write_json
    from lightgen.disk.seeds import derive_seed
    from lightgen.preference.dpo.pairs import claim_folder, save_image
    from lightgen.training.train.resume import folder_identity

    texts = [*prompt, *(read_captions(prompts) if prompts is not None else [])]
    if not texts:
        raise ValueError("no prompts; give --prompt TEXT or --prompts FILE")
    settings = {"model": folder_identity(model), "prompts": texts, "copies": copies, "seed": seed, "call": list(call)}
    claim_folder(out, settings)
    entries = [
        {"file": f"{number:05d}-{copy}.png", "prompt": text, "seed": derive_seed(seed, text, copy)}
        for number, text in enumerate(texts)
        for copy in range(copies)
    ]
    todo = [entry for entry in entries if not (out / str(entry["file"])).is_file()]
    drawer = DiffusersTeacher.from_pretrained(model, device=default_device(device), call=json_pairs(call))
    show = progress_lines("images")
    for first in range(0, len(todo), batch_size):
        batch: Sequence[dict[str, Any]] = todo[first : first + batch_size]
        for entry, image in zip(batch, drawer([e["prompt"] for e in batch], [e["seed"] for e in batch])):
            save_image(image, out / entry["file"])
        show(len(entries) - len(todo) + first + len(batch), len(entries))
    write_json(out / "images.json", entries)
    print(f"{len(entries)} images in {out}")


def convert(
    checkpoint: Positional[Path],
    out: Path,
    weights: Literal["model", "model_ema"] = "model",
    heads: int = 16,
    max_text_length: int = 128,
    patch_size: int = 2,
) -> None:
    """A released .pth checkpoint as a model folder (the transformer of a pipeline).

    Args:
        checkpoint: LightGen's released .pth
        out: folder to write
        weights: raw weights, which the released scripts sample from, or their moving average
        heads: attention heads, which no tensor tells (12 for the base size)
        max_text_length: text positions it was trained with
        patch_size: latent positions a token's side
    """
    from lightgen.model.convert import convert as run

    sizes: dict[str, Any] = {"heads": heads, "max_text_length": max_text_length, "patch_size": patch_size}
    config = run(checkpoint, out, weights=weights, **sizes)
    print(f"width {config.width}, depths {config.encoder_depth}/{config.decoder_depth}/{config.cross_depth} in {out}")


VERBS: dict[str, Callable[..., None]] = {
    verb.__name__: verb for verb in (distill, prepare, train, pairs, dpo, generate, convert)
}


def main() -> None:
    """Run one verb; a user's mistake is one line on stderr and exit code 2."""
    try:
        tyro.extras.subcommand_cli_from_dict(VERBS, prog="python -m lightgen", description=__doc__)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def _refuse_other_flips(latents: Path, wanted: bool) -> None:
    from lightgen.disk.json_files import read_json

    index = latents / "index.json"
    if index.is_file() and (found := read_json(index).get("flips", wanted)) != wanted:
        ways = ("has none", "--set flips=false") if wanted else ("has them", "--set flips=true")
        raise ValueError(
            f"the preset trains {'with' if wanted else 'without'} flips, {latents} {ways[0]} (flips: {found});"
            f" prepare again, or give {ways[1]}"
        )


if __name__ == "__main__":
    main()
