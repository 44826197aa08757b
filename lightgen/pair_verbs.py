"""`python -m lightgen pairs SOURCE`: preference pairs, from wherever they come; each source with its own options."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Union

from tyro.conf import Positional, arg, subcommand

from lightgen.console import Device, Json, KeyValues, component, json_pairs, progress_lines, report

_Dataset = Annotated[Positional[Path], arg(help="folder of shards")]
_Out = Annotated[Path, arg(help="folder of the pairs, OUT/pairs.jsonl")]
_Limit = Annotated[int, arg(help="most pairs")]
_BatchSize = Annotated[int, arg(help="images at once")]


def teacher(
    dataset: _Dataset,
    out: _Out,
    model: Path,
    limit: _Limit = 1000,
    batch_size: _BatchSize = 16,
    seed: int = 0,
    device: Device = "auto",
    call: KeyValues = (),
    json: Json = False,
) -> None:
    """A data set's image against the model's own sample for its caption; run again to resume.

    Args:
        model: model or pipeline folder
        seed: of the model's images
        call: the pipeline's keyword arguments in JSON
    """
    from lightgen.data.painters import DiffusersPainter
    from lightgen.device import choose_device
    from lightgen.model.folder import model_identity
    from lightgen.preference.pair_sources import teacher_pairs

    own = DiffusersPainter.from_pretrained(model, device=choose_device(device), call=json_pairs(call))
    options: dict[str, Any] = {"limit": limit, "batch_size": batch_size, "seed": seed}
    options |= {"identity": model_identity(model), "progress": progress_lines("pairs")}
    _report(teacher_pairs(dataset, own, out, **options), json)


def verifier(
    results: Positional[Path],
    out: _Out,
    images: Path | None = None,
    exclude: Path | None = None,
    per_prompt: int = 1,
    min_gap: float = 1e-9,
    per_task: int | None = None,
    seed: int = 0,
    json: Json = False,
) -> None:
    """The best against the worst of a model's own samples of a prompt, by score.

    Args:
        results: JSON lines with filename, prompt, and score or correct
        images: folder the file names are relative to (default: that of the results)
        exclude: prompts of the benchmark (.txt, .jsonl or .json), of which no pair is made
        per_prompt: most pairs a prompt
        min_gap: least difference of scores
        per_task: most pairs a task
        seed: of the choice within a task
    """
    from lightgen.data.captions import read_captions
    from lightgen.preference.pair_sources import ranked_pairs, read_groups
    from lightgen.preference.pairs import write_pairs

    groups, tasks = read_groups(results, images or results.parent)
    excluded = set(read_captions(exclude)) if exclude is not None else set()
    kept = {prompt: samples for prompt, samples in groups.items() if prompt not in excluded}
    if excluded:
        print(f"{len(groups) - len(kept)} of {len(groups)} prompts are excluded", file=sys.stderr)
    options: dict[str, Any] = {"per_prompt": per_prompt, "min_gap": min_gap, "per_category": per_task, "seed": seed}
    ranked = ranked_pairs(kept, categories=tasks, **options)
    if not ranked:
        raise ValueError(f"{results}: no prompt has samples of different scores, so there is no pair")
    _report(write_pairs(ranked, out / "pairs.jsonl"), json)


def detail(
    dataset: _Dataset,
    out: _Out,
    damages: tuple[str, ...] = ("blur", "noise"),
    vae: Path | None = None,
    limit: _Limit = 1000,
    batch_size: _BatchSize = 16,
    seed: int = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """A data set's image against itself with its fine detail damaged; run again to resume.

    Args:
        damages: of blur, noise, vae; one image each, from the first again after the last
        vae: VAE folder for the damage vae
        seed: of the noise
    """
    from lightgen.device import choose_device
    from lightgen.preference.pair_sources import detail_pairs

    tokenizer = None
    if vae is not None:
        vae = component(vae, "vae")
        from lightgen.model.encoders import ImageTokenizer

        tokenizer = ImageTokenizer.from_pretrained(vae).to(choose_device(device))
    options: dict[str, Any] = {"limit": limit, "batch_size": batch_size, "seed": seed}
    options |= {"damages": damages, "tokenizer": tokenizer, "progress": progress_lines("pairs")}
    _report(detail_pairs(dataset, out, **options), json)


def layout(dataset: _Dataset, out: _Out, against: Path, limit: _Limit = 1000, json: Json = False) -> None:
    """A data set's image against one of the same objects placed wrongly; run again to resume.

    Args:
        against: folder of shards with the same keys and captions and a wrong layout
    """
    from lightgen.preference.pair_sources import layout_pairs

    _report(layout_pairs(dataset, against, out, limit=limit, progress=progress_lines("pairs")), json)


def random(pairs: Positional[Path], out: _Out, seed: int = 0, json: Json = False) -> None:
    """A file's pairs, half of them swapped: preferences that mean nothing.

    Args:
        pairs: a pairs.jsonl
        seed: of the choice of the swapped
    """
    from lightgen.preference.pair_sources import shuffled_pairs
    from lightgen.preference.pairs import write_pairs

    _report(write_pairs(shuffled_pairs(_checked(pairs), seed=seed), out / "pairs.jsonl"), json)


def check(pairs: Positional[Path], out: _Out, json: Json = False) -> None:
    """A file's pairs, after every image was read and checked.

    Args:
        pairs: a pairs.jsonl with prompt, chosen, rejected
        out: folder of the copy, OUT/pairs.jsonl
    """
    from lightgen.preference.pairs import write_pairs

    _report(write_pairs(_checked(pairs), out / "pairs.jsonl"), json)


SOURCES: dict[str, Callable[..., None]] = {
    verb.__name__: verb for verb in (teacher, verifier, detail, layout, random, check)
}


def pairs(source: Any) -> None:
    """Preference pairs from a teacher, a verifier, damaged detail, wrong layouts, a coin, or a file."""


pairs.__annotations__["source"] = Union[  # noqa: UP007 - made of a table
    tuple(Annotated[Any, subcommand(name=name, constructor=verb)] for name, verb in SOURCES.items())
]


def _checked(path: Path) -> list[Any]:
    from lightgen.preference.pairs import pair_images, read_pairs

    listed = read_pairs(path)
    for _ in pair_images(listed):
        pass  # every image is read and checked
    return listed


def _report(path: Path, as_json: bool) -> None:
    from lightgen.preference.pairs import read_pairs

    count = len(read_pairs(path))
    report(f"{count} pairs in {path}", {"pairs": count, "out": str(path)}, as_json)
