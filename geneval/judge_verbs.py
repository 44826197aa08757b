"""The verbs about the judge itself: its weights, whether it agrees with people and with others, and it as a service."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from geneval.comparability import NOT_COMPARABLE
from geneval.console import Pairs, pairs, print_json


def serve(
    detector: str,
    clip: str = "ViT-L-14-quickgelu",
    host: str = "127.0.0.1",
    port: int = 18085,
    token_file: Path | None = None,
    batch_size: int = 8,
    max_waiting: int = 512,
    max_images: int = 256,
    max_megabytes: int = 64,
    device: str = "auto",
    options: Pairs = (),
) -> None:
    """Rewards over HTTP until Ctrl-C: POST / takes JSON of images and metadata, and answers as flow_grpo's server.

    Args:
        detector: as for `detect`
        clip: as for `detect`
        host: address to listen on; any but a loopback one needs a token
        port: port to listen on
        token_file: file with the token that clients must send as `Authorization: Bearer TOKEN`
        batch_size: images of one size that go through the detector together
        max_waiting: images that may wait; more are answered 503, to come again
        max_images: images a request
        max_megabytes: size of a request
        device: auto, cpu, cuda, cuda:N or mps
        options: GenEval's options, as threshold=0.3
    """
    from geneval.json_files import read_text
    from geneval.judge import Judge
    from geneval.service import ServiceConfig
    from geneval.service import serve as run_service

    token = "" if token_file is None else read_text(token_file).strip()
    if token_file is not None and not token:
        raise ValueError(f"{token_file}: holds no token")
    limits = {"max_waiting": max_waiting, "max_images": max_images, "max_megabytes": max_megabytes}
    config = ServiceConfig(host=host, port=port, token=token, **limits)
    judge = Judge.from_pretrained(detector, clip, device, options=pairs(options), batch_size=batch_size)
    note_comparability(judge.identity)
    print(f"http://{host}:{port}  POST / with JSON; GET /health, /metrics", file=sys.stderr)
    run_service(judge, config)


def convert(checkpoint: Positional[Path], out: Path) -> None:
    """GenEval's mmdet checkpoint (.pth of mmdet 2 or 3) to a transformers folder; every tensor is used or it fails.

    Args:
        checkpoint: mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco_20220504_001756-743b7d99.pth or the mmdet 3 file
        out: folder to write
    """
    from geneval.convert import convert_checkpoint

    convert_checkpoint(checkpoint, out)
    print(f"{out}: use it as --detector {out}")


def validate(annotations: Positional[Path], images: Positional[Path], json: bool = False) -> None:
    """Agreement of the scores with GenEval's human annotators.

    Args:
        annotations: folder with annotations_clip.csv, annotations_sdv2.csv, annotations_if-xl.csv
        images: folder with clip/, sdv2/ and if-xl/, each with its detections.jsonl
        json: print JSON instead of the table
    """
    from geneval.validate import validate_folder, validation_text

    result = validate_folder(annotations, images)
    print_json(result) if json else print(validation_text(result), end="")


def agreement(a: Positional[Path], b: Positional[Path], json: bool = False) -> None:
    """Where two judges of the same images differ: by task and reason, with Cohen's kappa and its 95 % interval.

    Args:
        a: a results.jsonl
        b: another of the same images
        json: print JSON instead of the table
    """
    from geneval.agreement import agreement as agree
    from geneval.agreement import agreement_text
    from geneval.comparability import comparability
    from geneval.scores import read_provenance, read_results

    result = agree(read_results(a), read_results(b))
    made = [read_provenance(path).get("detector") for path in (a, b)]
    if json:
        return print_json({"judges": [None if one is None else comparability(one) for one in made], **result})
    print(agreement_text(result), end="")
    for path, one in zip((a, b), made):
        if one is not None and not one.get("comparable"):
            print(f"{path}: {NOT_COMPARABLE}", file=sys.stderr)


def doctor(detector: str | None = None, clip: str = "ViT-L-14-quickgelu") -> int:
    """What is here and what is missing: weights with their hashes, library versions with known traps.

    The exit code is 0 where all is here, 1 where something is missing.

    Args:
        detector: detector folder to look at
        clip: color classifier to look at
    """
    from geneval.doctor import PACKAGES, geneval_findings, report

    text, is_ready = report(PACKAGES, geneval_findings(detector, clip), "a GenEval score")
    print(text, end="")
    return 0 if is_ready else 1


def note_comparability(identity: Mapping[str, Any]) -> None:
    """One line on stderr where scores may not stand beside published ones."""
    if not identity.get("comparable"):
        print(f"{NOT_COMPARABLE}: another detector, resize or color classifier than the original's", file=sys.stderr)
