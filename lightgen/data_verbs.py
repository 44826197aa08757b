"""The verbs that make data: `distill`, `compose`, `import`; `prepare` them as latents, draw a `subset`."""

import sys
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from lightgen.console import Device, Json, KeyValues, component, parse_shard, progress_lines, report
from lightgen.console import json_pairs as parsed
from lightgen.data.config import ComposeConfig, DistillConfig, EncodeConfig, ImportConfig, SubsetConfig

Shard = Annotated[str, arg(metavar="I/N")]


def distill(
    captions: Positional[Path],
    out: Path,
    teacher: Path,
    config: DistillConfig = DistillConfig(),  # noqa: B008
    device: Device = "auto",
    call: KeyValues = (),
    json: Json = False,
) -> None:
    """A data set of a teacher's images of the captions; run again to resume.

    Args:
        captions: .txt (one a line), .jsonl ({"prompt": ...}) or .json
        out: folder of the data set
        teacher: model folder, diffusers pipeline folder, or a folder of shards whose images are taken over
        call: the teacher's keyword arguments in JSON, as guidance_scale=3.5 height=512
    """
    from lightgen.data.captions import read_captions
    from lightgen.data.distill import distill as run
    from lightgen.data.painters import load_painter
    from lightgen.device import choose_device

    texts = read_captions(captions)
    asked = parsed(call)
    painter = load_painter(teacher, device=choose_device(device), call=asked)
    # Only where there is one, so that a folder begun without goes on.
    told = {"call": asked} if asked else {}
    manifest = run(painter, texts, out, config, manifest=told, progress=progress_lines("images"))
    count = manifest["num_samples"]
    report(f"{count} images in {out}", {"images": count, "out": str(out)}, json)


def compose(
    cutouts: Positional[Path],
    out: Path,
    config: ComposeConfig = ComposeConfig(),  # noqa: B008
    json: Json = False,
) -> None:
    """A folder of captioned pictures, of captioned cut-outs on grounds, to try `import` on; run again to resume.

    Args:
        cutouts: folder of transparent PNGs, nested or not, with a caption in the first line of NAME.txt beside each
        out: folder of the pictures, NAME.jpg with NAME.txt
    """
    from lightgen.data.compose import compose as run

    count = run(cutouts, out, config, progress=progress_lines("pictures"))
    line = f"{config.images} pictures of {count} cut-outs in {out}"
    report(line, {"images": config.images, "cutouts": count, "out": str(out)}, json)


def import_images(
    source: Positional[Path],
    out: Path,
    config: ImportConfig = ImportConfig(),  # noqa: B008
    shard: Shard = "0/1",
    json: Json = False,
) -> None:
    """A data set of captioned pictures of any size; run again to resume.

    Args:
        source: folder of pictures with NAME.txt or metadata.jsonl, .csv or .parquet; parquet files; WebDataset tars
        out: folder of the data set
        shard: this process's part of the work; the one that finishes last writes the manifest
    """
    from lightgen.data.importing import import_images as run

    manifest = run(source, out, config, shard=parse_shard(shard), progress=progress_lines("images"))
    if manifest is None:
        report(f"part {shard} is done; the others' are not yet", {"complete": False, "out": str(out)}, json)
        return
    facts = {"images": manifest["num_samples"], "rejected": manifest["rejected"]}
    if facts["rejected"]:
        print(f"{facts['rejected']} were left out, see {out / 'rejected.jsonl'}", file=sys.stderr)
    line = f"{facts['images']} images of {config.size} px in {out}, {facts['rejected']} left out"
    report(line, {"complete": True, **facts, "out": str(out)}, json)


def prepare(
    dataset: Positional[Path],
    out: Path,
    vae: Path,
    text_encoder: Path,
    preset: str | None = None,
    max_length: int = 0,
    config: EncodeConfig = EncodeConfig(),  # noqa: B008
    device: Device = "auto",
    shard: Shard = "0/1",
    json: Json = False,
) -> None:
    """Latents and text features of a data set; run again to resume.

    Args:
        dataset: folder of shards
        out: folder of the cache
        vae: folder of an AutoencoderKL, AutoencoderTiny or AutoencoderDC of diffusers, or icons: the embedded one
        text_encoder: folder of a text model of transformers (T5, CLIP, ModernBERT, Qwen, ...) with its fast tokenizer,
            or icons: the embedded one
        preset: give max-length, flips and keep-padding the values that training by this preset needs
        max_length: text positions; longer captions are cut and counted (default: the preset's, or 128)
        shard: this process's part of the work; the one that finishes last writes the index
    """
    from dataclasses import replace

    from lightgen.data.encoding import encode_dataset
    from lightgen.data.painters import try_tokenizer
    from lightgen.device import choose_device
    from lightgen.model.encoders import ImageTokenizer, TextEncoder

    if preset is not None:
        from lightgen.presets import preset as named

        row = named(preset)
        keep_padding = config.keep_padding or row.model.attend_to_padding
        config = replace(config, flips=config.flips or row.flips, keep_padding=keep_padding)
        max_length = max_length or row.model.max_text_length
    place = choose_device(device)
    vae, text_encoder = component(vae, "vae"), component(text_encoder, "text")
    tokenizer = ImageTokenizer.from_pretrained(vae).to(place)
    text = TextEncoder.from_pretrained(text_encoder, max_length or 128).to(place)
    try_tokenizer(text.tokenizer, text_encoder)
    shown = progress_lines("shards")
    options: dict[str, Any] = {"shard": parse_shard(shard), "progress": shown}
    index = encode_dataset(dataset, out, config, tokenizer=tokenizer, text=text, **options)
    if index is None:
        report(f"part {shard} is done; the others' are not yet", {"complete": False, "out": str(out)}, json)
        return
    facts = {name: index[name] for name in ("num_samples", "num_captions", "truncated", "rejected")}
    line = ", ".join(f"{value} {name}" for name, value in facts.items())
    report(f"{line} in {out}", {**facts, "out": str(out)}, json)


def subset(
    latents: Positional[Path],
    out: Path,
    config: SubsetConfig = SubsetConfig(),  # noqa: B008
    objects: Path | None = None,
    json: Json = False,
) -> None:
    """Ids of a narrow or diverse part of a cache, for `train --subset`; prints what differs from the whole.

    Args:
        latents: folder from `prepare`
        out: .json file of the ids, the balance and the measures of diversity
        objects: names of objects, a line each, whose mentions are counted and which compositions are of
    """
    from lightgen.data.captions import read_captions
    from lightgen.data.subsets import draw_subset, lines

    found = draw_subset(latents, out, config, objects=read_captions(objects) if objects else ())
    facts = {name: value for name, value in found.items() if name != "ids"}
    report("\n".join([*lines(found), f"ids in {out}"]), {**facts, "out": str(out)}, json)
