"""Every kind of file that a command reads, undamaged and small, with the command and what it gives."""

import gzip
import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from lightgen.disk.json_files import read_json, write_sealed
from tests.damage.format import Format
from tests.damage.networks import networks
from tests.lightgen import squares
from tests.reports.conftest import write_study


def build(root: Path) -> list[Format]:
    """All of them, in folders of their own under `root`."""
    tiny = squares.build(root / "tiny")
    return [
        *_geneval(root),
        *_data(root, tiny),
        *_training(root, tiny),
        *_quality(root),
        *_reports(root),
        *_runner(root),
        *networks(root, tiny),
    ]


# --- geneval --------------------------------------------------------------------------------------------------------


def _geneval(root: Path) -> list[Format]:
    from geneval.detections import ImageDetections
    from geneval.layout import sample_path, write_prompt_folder
    from geneval.prompts import prompt_suite, write_prompts
    from geneval.scores import score_folder

    folder = root / "geneval"
    asked = prompt_suite(["cat", "dog", "bus"], colors=["red", "blue"], num_prompts=2)
    write_prompts(asked, folder)
    lines: list[str] = []
    for index, prompt in enumerate(asked):
        write_prompt_folder(folder / "images", index, prompt)
        for number in range(2):
            path = sample_path(folder / "images", index, number)
            Image.new("RGB", (32, 32), (index * 7, number * 90, 9)).save(path)
            found = {c.class_name: [[2.0, 2.0, 14.0, 30.0 - index, 0.5 + 0.4 * number]] for c in prompt.include}
            colors = {name: ["red" if index % 2 else "blue"] for name in found}
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            name = path.relative_to(folder / "images").as_posix()
            detector = {"weights": "w", "clip": None, "crop": {}}
            line = ImageDetections(name, (32, 32), found, colors, detector, digest, prompt.prompt)
            lines.append(line.line())
    (folder / "images/detections.jsonl").write_text("".join(f"{line}\n" for line in lines))
    protocol = {"pipeline": "p", "seed": 1, "protocol": {"steps": 4, "guidance": 3.0}, "processes": 1}
    (folder / "images/generation.json").write_text(json.dumps(protocol))
    results = root / "results"
    results.mkdir()
    score_folder(folder / "images", results / "a.jsonl", prompts=asked)
    score_folder(folder / "images", results / "b.jsonl", prompts=asked, options={"threshold": 0.7})
    pairs = root / "verified"
    shutil.copytree(folder / "images", pairs / "images")
    (pairs / "images/detections.jsonl").unlink()
    rows = [json.loads(line) for line in lines]
    graded = [
        {"filename": r["filename"], "prompt": r["prompt"], "tag": "t", "score": i % 2 / 2} for i, r in enumerate(rows)
    ]
    (pairs / "grades.jsonl").write_text("".join(json.dumps(row) + "\n" for row in graded))
    prompts = "ROOT/evaluation_metadata.jsonl"
    unread = ("generation_prompts.txt",)
    return [
        Format("score", "geneval", f"score ROOT/images --prompts {prompts} --out OUT/r.jsonl", folder, spared=unread,
               outputs=("r.jsonl",)),
        Format("summary", "geneval", "summary ROOT/a.jsonl", results, optional=("*.jsonl.json",)),
        Format("compare", "geneval", "compare ROOT/a.jsonl ROOT/b.jsonl", results, optional=("*.jsonl.json",)),
        Format("pairs verifier", "lightgen", "pairs verifier ROOT/grades.jsonl --images ROOT/images --out OUT", pairs,
               given=("grades.jsonl", "metadata.jsonl", "*.png", "generation.json"), outputs=("pairs.jsonl",)),
    ]  # fmt: skip


# --- data sets ------------------------------------------------------------------------------------------------------


def _data(root: Path, tiny: SimpleNamespace) -> list[Format]:
    shards = root / "shards"
    shutil.copytree(tiny.dataset, shards / "dataset")
    words = [f"a {name} square" for name in ("red", "blue")]
    (shards / "captions.txt").write_text("\n".join(words) + "\n")
    own = root / "own"
    (own / "in").mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (20 + number, 18), (number * 60, 90, 9)).save(own / f"in/{number}.png")
    rows = [{"file_name": f"{n}.png", "text": f"number {n}", "aesthetic": n / 2} for n in range(3)]
    (own / "in/metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = root / "table"
    shutil.copytree(own / "in", table / "in")
    (table / "in/metadata.jsonl").unlink()
    (table / "in/metadata.csv").write_text("file_name,text\n" + "".join(f"{n}.png,number {n}\n" for n in range(3)))
    parquet, named, saved = root / "parquet", root / "named", root / "saved"
    _write_tables(own / "in", parquet / "in", named / "in", saved / "in")
    tars = root / "tars"
    (tars / "in").mkdir(parents=True)
    shutil.copyfile(shards / "dataset/data_000000.tar", tars / "in/data_000000.tar")
    pairs = root / "pairs"
    shutil.copytree(own / "in", pairs)
    (pairs / "metadata.jsonl").unlink()
    for number in range(2):
        Image.new("RGB", (20, 18), (9, number * 60, 9)).save(pairs / f"{number}.png")
    row = {"prompt": "a square", "chosen": "0.png", "rejected": "1.png", "source": "file", "scores": [1.0, 0.0]}
    (pairs / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    imported = "import ROOT/in --out OUT/d --size 16 --max-rejected 0"
    return [
        Format("distill", "lightgen", "distill ROOT/captions.txt --teacher ROOT/dataset --out OUT/d --device cpu",
               shards, given=("captions.txt",), outputs=("d/*.tar",)),
        Format("import folder", "lightgen", imported, own, given=("*.png", "metadata.jsonl"), outputs=("d/*.tar",)),
        Format("import table", "lightgen", imported, table, given=("*.png", "metadata.csv"), outputs=("d/*.tar",)),
        Format("import parquet", "lightgen", imported, parquet, given=("*",), outputs=("d/*.tar",)),
        Format("import named", "lightgen", imported, named, given=("*",), outputs=("d/*.tar",)),
        Format("import saved", "lightgen", imported, saved, given=("*",), outputs=("d/*.tar",)),
        Format("import tars", "lightgen", imported, tars, given=("*.tar",), outputs=("d/*.tar",)),
        Format("pairs check", "lightgen", "pairs check ROOT/pairs.jsonl --out OUT", pairs,
               given=("*.png", "pairs.jsonl"), outputs=("pairs.jsonl",)),
        Format("prepare", "lightgen",
               f"prepare ROOT/dataset --vae {tiny.vae} --text-encoder {tiny.text_encoder} --max-length 12 --out OUT/l "
               "--device cpu",
               _linked(root / "prepare", dataset=tiny.dataset), outputs=("l/*.safetensors",)),
    ]  # fmt: skip


def _write_tables(source: Path, pictures: Path, named: Path, saved: Path) -> None:
    """The same three pictures in a parquet file, beside one that names them, and as the datasets library saves them."""
    import datasets
    import pyarrow
    from pyarrow import parquet

    files = sorted(source.glob("*.png"))
    texts = [f"number {path.stem}" for path in files]
    pictures.mkdir(parents=True)
    cells = [{"bytes": path.read_bytes(), "path": path.name} for path in files]
    table = pyarrow.table({"image": cells, "text": texts})
    parquet.write_table(table, pictures / "a.parquet", write_page_checksum=True)
    shutil.copytree(source, named)
    (named / "metadata.jsonl").unlink()
    names = pyarrow.table({"file_name": [path.name for path in files], "text": texts})
    parquet.write_table(names, named / "metadata.parquet")
    datasets.disable_progress_bars()
    rows = {"image": [path.as_posix() for path in files], "text": texts}
    datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image()).save_to_disk(saved)


def _linked(folder: Path, **parts: Path) -> Path:
    for name, source in parts.items():
        shutil.copytree(source, folder / name)
    return folder


# --- training -------------------------------------------------------------------------------------------------------


def _training(root: Path, tiny: SimpleNamespace) -> list[Format]:
    from lightgen.data.config import SubsetConfig
    from lightgen.data.subsets import draw_subset
    from lightgen.training.config import LoopConfig, TrainConfig
    from lightgen.training.train import train

    config = TrainConfig(samples_seen=16, batch_size=4, warmup_steps=1)
    parts: dict[str, Any] = {"vae": tiny.vae, "text_encoder": tiny.text_encoder, "sampling": tiny.sampling}
    train(config, tiny.model, tiny.latents, root / "whole", device="cpu", **parts)
    stops = iter([False, False, True])
    train(config, tiny.model, tiny.latents, root / "begun/run", device="cpu", stop=lambda: next(stops, True),
          loop=LoopConfig(log_every=1), **parts)  # fmt: skip
    model = _linked(root / "model", model=root / "whole/model")
    drawn = root / "drawn"
    drawn.mkdir()
    draw_subset(tiny.latents, drawn / "ids.json", SubsetConfig(images=8, clusters=2))
    return [
        Format("subset", "lightgen", "subset ROOT/latents --out OUT/s.json --images 8 --clusters 2",
               _linked(root / "cache", latents=tiny.latents), spared=("settings.json",), outputs=("s.json",)),
        Format("generate", "lightgen",
               "generate ROOT/model --prompt hello --out OUT/i --device cpu --call num_inference_steps=1", model,
               spared=("README.md",), outputs=("i/*.png",)),
        Format("subset ids", "ids", f"{tiny.latents} ROOT/ids.json", drawn),
        Format("train", "train", "ROOT/latents OUT/run", _linked(root / "learn", latents=tiny.latents),
               spared=("settings.json",), outputs=("run/model/*.safetensors",)),
        Format("resume", "resume", f"{tiny.latents} ROOT/run", root / "begun", written=("run/model/*.safetensors",)),
    ]  # fmt: skip


# --- image quality --------------------------------------------------------------------------------------------------


def _quality(root: Path) -> list[Format]:
    from benchmarks.quality.features import Features, save_features
    from benchmarks.quality.moments import Statistics, save_statistics

    rng = np.random.default_rng(0)
    folder, other, pictures = root / "features", root / "statistics", root / "pictures"
    for place in (folder, other):
        place.mkdir()
    extractor = {"name": "x", "weights": "w", "resize": "none", "implementation": "i"}
    meta = {"extractor": extractor, "images": "ab" * 32, "containers": ["PNG"], "skipped": 0}
    values = rng.normal(size=(40, 6)).astype(np.float32)
    ids = [f"{i:05}.png" for i in range(40)]
    save_features(Features(values=values, ids=ids, meta=meta), folder / "a.safetensors")
    save_features(Features(values=values + 1, ids=ids, meta=meta), folder / "b.safetensors")
    shutil.copyfile(folder / "a.safetensors", other / "a.safetensors")
    save_statistics(Statistics.of(values, meta), other / "s.safetensors")
    npz = root / "npz"
    npz.mkdir()
    shutil.copyfile(folder / "a.safetensors", npz / "a.safetensors")
    np.savez(npz / "s.npz", mu=values.mean(0), sigma=np.cov(values.T))
    for side in ("a", "b"):
        (pictures / side).mkdir(parents=True)
        for number in range(3):
            noise = rng.integers(0, 255, (32, 32, 3)).astype(np.uint8)
            Image.fromarray(noise).save(pictures / f"{side}/{number}.png")
    captioned = _linked(root / "captioned", a=pictures / "a")
    rows = [{"file": f"{n}.png", "prompt": f"number {n}"} for n in range(3)]
    (captioned / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [
        Format("fid", "benchmarks", "quality fid ROOT/a.safetensors ROOT/b.safetensors", folder),
        Format("fid statistics", "benchmarks", "quality fid ROOT/a.safetensors ROOT/s.safetensors", other),
        Format("fid npz", "benchmarks", "quality fid ROOT/a.safetensors ROOT/s.npz", npz),
        Format("detail", "benchmarks", "quality detail ROOT/a ROOT/b", pictures, given=("*.png",)),
        Format("clip-score", "benchmarks",
               "quality clip-score ROOT/a --clip icon-clip --captions ROOT/c.jsonl --device cpu", captioned,
               given=("*.png", "c.jsonl")),
    ]  # fmt: skip


# --- reports --------------------------------------------------------------------------------------------------------


def sealed(folder: Path) -> Path:
    """A study as the runner writes it: with the files' hashes in the records, and sealed."""
    from geneval.statistics import summarize

    write_sealed(folder / "study.json", read_json(folder / "study.json"))
    for cell in folder.glob("cells/*"):
        record = read_json(cell / "result.json")
        rows = [json.loads(line) for line in (cell / "results.jsonl").read_text().splitlines()]
        made = summarize(rows)
        for name, estimate in {"overall": made["overall"], **made["tasks"]}.items():
            record["metrics"][f"geneval/{name}"] |= estimate
        names = [p.relative_to(cell).as_posix() for p in cell.rglob("*") if p.is_file() and p.name != "result.json"]
        digests = {name: hashlib.sha256((cell / name).read_bytes()).hexdigest() for name in sorted(names)}
        write_sealed(cell / "result.json", {**record, "files": digests})
    return folder


def _whole(study: Path, folder: Path) -> Path:
    """The study with those cells alone that are there."""
    shutil.copytree(study, folder)
    record = read_json(folder / "study.json")
    there = {cell.name for cell in folder.glob("cells/*")}
    record["variants"] = [one for one in record["variants"] if f"{one['name']}-s0" in there]
    names = {one["name"] for one in record["variants"]}
    record["contrasts"] = [one for one in record["contrasts"] if {one["a"], one["b"], *one.get("minus", ())} <= names]
    record["seeds"] = [0]
    write_sealed(folder / "study.json", record)
    return folder


def _reports(root: Path) -> list[Format]:
    from reports.pack import pack
    from reports.quote import write_quotes

    study = write_study(root / "study", per_task=3, copies=1)
    kept = ("small-diverse-none-s0", "small-narrow-none-s0", "small-diverse-dpo-s0", "untrained-s0")
    for cell in study.glob("cells/*"):
        if cell.name not in kept:
            shutil.rmtree(cell)
            continue
        for path in sorted(cell.glob("samples/*"))[3:]:
            path.unlink()
        shown = json.loads((cell / "samples.json").read_text())
        names = {path.relative_to(cell).as_posix() for path in cell.glob("samples/*")}
        (cell / "samples.json").write_text(json.dumps([one for one in shown if one["file"] in names]))
    sealed(study)
    packed = _linked(root / "packed", study=study) / "study"
    for path in packed.glob("cells/*/*.jsonl"):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        path.unlink()
    a, b = "small-diverse-none", "small-narrow-none"
    slim = root / "slim"
    pack(_whole(study, root / "all"), slim / "study", slim=True)
    shutil.rmtree(slim / "study/report")
    claims = root / "claims"
    shutil.copytree(slim / "study", claims / "diversity_sweep-cpu")
    seconds = {a: [0.01, 0.02], b: [0.1, 0.12], "small-diverse-dpo": [0.3]}
    write_sealed(claims / "diversity_sweep-cpu/speed.json", {"seconds": seconds})
    name = json.loads((study / "study.json").read_text())["contrasts"][2]["name"]
    (claims / "facts.json").write_text(json.dumps({"sentences": ["792 M parameters"]}))
    (claims / "claims.toml").write_text(
        'title = "Claims"\npaper = "A paper"\n'
        '[[claim]]\nid = "a"\nclaim = "More"\nplace = "here"\nchange = "seeds"\nstudy = "diversity_sweep"\n'
        f'contrasts = ["{name}"]\nfront = true\n'
        '[[claim]]\nid = "b"\nclaim = "Large"\nplace = "here"\nchange = "none"\nfacts = "facts.json"\n'
    )
    page = f"<!-- quote diversity_sweep-cpu scores {a} -->\n<!-- end of quote -->\n"
    (claims / "page.md").write_text(page)
    write_quotes(claims / "page.md")
    return [
        Format("reports check", "reports", "check ROOT", study, code=1),
        Format("reports check packed", "reports", "check ROOT", packed, code=1),
        Format("reports check slim", "reports", "check ROOT", slim / "study"),
        Format("reports claims", "reports", "claims ROOT", claims, given=("claims.toml", "facts.json"),
               optional=("result.json", "training.jsonl.gz", "speed.json"), spared=("page.md",),
               written=("claims/claims.md",)),
        Format("reports quote", "reports", "quote --check ROOT/page.md", claims, given=("page.md",),
               spared=("claims.toml", "facts.json")),
        Format("reports difference", "reports", f"difference ROOT {a} {b}", study),
        Format("reports gallery", "gallery", "ROOT", study, code=1),
    ]  # fmt: skip


# --- the runner -----------------------------------------------------------------------------------------------------


def _runner(root: Path) -> list[Format]:
    from ablations.run import main

    file = Path(__file__).parents[1] / "ablations/counting_study.py"
    out = root / "counting"
    assert main([str(file), "--scale", "smoke", "--out", str(out), "--only", "few"]) == 0
    for path in [*out.rglob("*.lock"), *out.rglob(".guard"), *out.glob(".*")]:
        if path.is_file():
            path.unlink()
    shutil.rmtree(out / "report")
    spared = ("*.txt", "*.log", "progress.json", "job.json", "cell.json", "report/*", ".*")
    return [
        Format(
            "plan",
            "ablations",
            f"{file} --scale smoke --out ROOT --only few many --plan",
            out,
            spared=spared,
            given=("*",),
        ),  # what is gone is to be made: a plan and a status say so
        Format("status", "status", "ROOT", out, spared=spared, given=("*",)),
    ]
