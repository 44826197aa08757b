"""Folders of weights and checkpoints as commands are given them, and requests to the reward service."""

import argparse
import base64
import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from tests.damage.format import Format
from tests.geneval import tiny as judges

GOLDEN = Path(__file__).parents[1] / "golden"
BOUNDARY = "a-line-between-parts"


def networks(root: Path, tiny: SimpleNamespace) -> list[Format]:
    """Needs the formats of `formats.build` in `root`: the pictures to judge and the trained model."""
    return [*_judges(root), *_encoders(root, tiny), *_checkpoints(root), *_requests(root)]


def _judges(root: Path) -> list[Format]:
    from geneval.layout import sample_path, write_prompt_folder
    from geneval.prompts import prompt_suite

    rng = np.random.default_rng(0)
    images = root / "judged/images"
    asked = prompt_suite(["cat", "dog"], colors=["red", "blue"], num_prompts=2)
    of_cats = [prompt for prompt in asked if {wish.class_name for wish in prompt.include} == {"cat"}]  # all know these
    for index, prompt in enumerate(of_cats[:2]):
        write_prompt_folder(images, index, prompt)
        noise = Image.fromarray(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)).resize((40, 32))
        noise.save(sample_path(images, index, 0))
    folders = {name: root / name for name in ("masks", "boxes", "colors")}
    for folder in folders.values():
        shutil.copytree(images, folder / "images")
    judges.make_detector(folders["masks"] / "detector")
    judges.make_box_detector(folders["boxes"] / "detector")
    judges.make_clip(folders["colors"] / "clip")
    lines = ("images/detections.jsonl",)
    common = {"given": ("*",), "written": lines}
    detect = "detect ROOT/images --device cpu --detector"
    return [
        Format("detect", "geneval", f"{detect} ROOT/detector --clip icon-clip", folders["masks"], **common),
        Format("detect boxes", "geneval", f"{detect} ROOT/detector --clip icon-clip", folders["boxes"], **common),
        Format("detect colors", "geneval", f"{detect} {folders['masks'] / 'detector'} --clip ROOT/clip",
               folders["colors"], **common),
    ]  # fmt: skip


def _encoders(root: Path, tiny: SimpleNamespace) -> list[Format]:
    from lightgen.model.folder import export

    export(root / "whole/model", root / "exported/pipeline")
    parts = root / "parts"
    shutil.copytree(tiny.vae, parts / "vae")
    shutil.copytree(tiny.text_encoder, parts / "text")
    features = root / "extracted"
    shutil.copytree(root / "pictures/a", features / "images")
    shutil.copytree(root / "colors/clip", features / "clip")
    return [
        Format("prepare parts", "lightgen",
               f"prepare {tiny.dataset} --vae ROOT/vae --text-encoder ROOT/text --max-length 12 --out OUT/l "
               "--device cpu", parts, given=("*",), outputs=("l/*.safetensors",)),
        Format("generate pipeline", "lightgen",
               "generate ROOT/pipeline --prompt hello --out OUT/i --device cpu --call num_inference_steps=1",
               root / "exported", given=("*",), spared=("README.md", "pipeline.py"), outputs=("i/*.png",)),
        Format("geneval generate", "geneval",
               f"generate ROOT/pipeline --prompts {root / 'geneval/evaluation_metadata.jsonl'} --copies 1 --steps 1 "
               "--out OUT/i --device cpu", root / "exported", given=("*",), spared=("README.md", "pipeline.py"),
               outputs=("i/*/samples/*.png",)),
        Format("features", "benchmarks",
               "quality features ROOT/images --extractor ROOT/clip --out OUT/f.safetensors --device cpu", features,
               given=("*",)),
    ]  # fmt: skip


def sizes() -> str:
    """What no tensor of the released checkpoint tells, as its conversion is told."""
    settings = json.loads((GOLDEN / "lightgen_official_small/config.json").read_text())
    return f"--heads {settings['heads']} --max-text-length {settings['max_length']}"


def _checkpoints(root: Path) -> list[Format]:
    from safetensors.torch import load_file

    golden = GOLDEN / "lightgen_official_small"
    state = load_file(golden / "weights.safetensors")
    content = {"model": state, "args": argparse.Namespace(model="fluid_large"), "epoch": 8}
    mmdet = judges.mmdet_tensors(GOLDEN / "mmdet")
    asked = f"convert ROOT/c.pth --out OUT/m {sizes()}"
    found = []
    for name, is_zip in (("", True), (" old", False)):
        ours, theirs = root / f"released{name}", root / f"mmdet{name}"
        ours.mkdir()
        theirs.mkdir()
        torch.save(content, ours / "c.pth", _use_new_zipfile_serialization=is_zip)
        judges.write_mmdet(theirs / "c.pth", mmdet, _use_new_zipfile_serialization=is_zip)
        # The older layout holds no checksum: other bits are another checkpoint.
        given = () if is_zip else ("*",)
        found += [
            Format(f"convert{name}", "lightgen", asked, ours, given=given, outputs=("m/*.safetensors",)),
            Format(f"geneval convert{name}", "geneval", "convert ROOT/c.pth --out OUT/m", theirs, given=given,
                   outputs=("m/*.safetensors",)),
        ]  # fmt: skip
    return found


def _requests(root: Path) -> list[Format]:
    file = io.BytesIO()
    Image.new("RGB", (32, 32), (200, 30, 30)).save(file, "PNG")
    asked = {"tag": "colors", "include": [{"class": "cup", "count": 1, "color": "red"}], "prompt": "a red cup"}
    text = {"images": [base64.b64encode(file.getvalue()).decode()], "meta_datas": [asked], "only_strict": False}
    body, form = root / "body", root / "form"
    body.mkdir()
    form.mkdir()
    (body / "request.json").write_text(json.dumps(text))
    parts = (
        (b'name="images"; filename="a.png"\r\nContent-Type: image/png', file.getvalue()),
        (b'name="meta_datas"', json.dumps(asked).encode()),
    )
    line = b"--" + BOUNDARY.encode()
    data = b"".join(line + b"\r\nContent-Disposition: form-data; " + a + b"\r\n\r\n" + b + b"\r\n" for a, b in parts)
    (form / "request.form").write_bytes(data + line + b"--\r\n")
    return [
        Format("serve", "serve", "ROOT/request.json application/json", body, given=("*",), special=False),
        Format("serve form", "serve", f"ROOT/request.form multipart/form-data;boundary={BOUNDARY}", form, given=("*",),
               special=False),
    ]  # fmt: skip
