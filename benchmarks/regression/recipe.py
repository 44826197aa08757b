"""The fixed recipe: squares -> shards -> latents -> training -> images -> GenEval verdicts and FID, as numbers."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.quality.frechet import fid
from benchmarks.regression import squares
from benchmarks.regression.components import TEXT_CHANNELS, VAE_STRIDE, write_text_encoder, write_vae
from lightgen.data.config import EncodeConfig
from lightgen.data.encoding import encode_dataset
from lightgen.data.shards import Sample, write_shards
from lightgen.model.config import MARConfig, SamplingConfig
from lightgen.model.encoders import ImageTokenizer, TextEncoder
from lightgen.model.folder import load_pipeline
from lightgen.model.mar import MAR
from lightgen.model.sampling import generate_latents
from lightgen.training.config import LoopConfig, TrainConfig
from lightgen.training.train import train

IMAGES = 960
COPIES = 4
MODEL = MARConfig(
    width=64,
    encoder_depth=1,
    decoder_depth=1,
    cross_depth=2,
    heads=4,
    text_depth=1,
    text_channels=TEXT_CHANNELS,
    max_text_length=16,
    vae_channels=3,
    vae_stride=VAE_STRIDE,
    patch_size=2,
    position_grid=squares.GRID,
    head_depth=2,
    head_width=128,
    diffusion_steps=50,  # as many as sampled: leaving steps out would magnify so small a network's errors
    attend_to_padding=False,
)
TRAIN = TrainConfig(samples_seen=64 * 400, batch_size=64, learning_rate=2e-3, warmup_steps=20, ema_decay=0.98, seed=1)
SAMPLING = SamplingConfig(num_steps=3, num_head_steps=50, guidance_scale=1.5)


def run(folder: Path, *, steps: int | None = None) -> dict[str, Any]:
    """The recipe's numbers; with `steps` only those of sampling at fixed weights and of the first training steps."""
    with _one_thread():
        vae, text = write_vae(folder / "vae"), write_text_encoder(folder / "text")
        numbers: dict[str, Any] = {"fixed_weights": _fixed_weight_latents(text)}
        latents = _latents(folder, vae, text)
        rows = _train(folder, latents, vae, text, steps)
        numbers |= {name: [row[name] for row in rows] for name in ("step", "loss", "mse", "grad_norm")}
        if steps is None:
            numbers |= _judged(folder, load_pipeline(folder / "train" / "model"))
        return numbers


def _fixed_weight_latents(text: Path) -> list[float]:
    """Latents sampled from a network of seeded random weights: the sampler alone, free of what training adds up."""
    generator = torch.Generator().manual_seed(0)
    model = MAR(MODEL).eval()
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * (0.1 if tensor.ndim < 2 else 0.08))
    features, lengths = TextEncoder.from_pretrained(text, MODEL.max_text_length)(
        [squares.caption(1, "red"), squares.caption(3, "blue")]
    )
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    latents = generate_latents(model, features, lengths, (squares.GRID, squares.GRID), SAMPLING, generators)
    return [round(value, 6) for value in latents.flatten().tolist()]


def _latents(folder: Path, vae: Path, text: Path) -> Path:
    samples = (
        Sample(key=f"{index:06d}", image=image, record={"prompt": caption})
        for index, (caption, image) in enumerate(squares.dataset(IMAGES, seed=0))
    )
    write_shards(samples, folder / "dataset")
    encoder = TextEncoder.from_pretrained(text, MODEL.max_text_length)
    exact, tokenizer = EncodeConfig(dtype="float32", once=True), ImageTokenizer.from_pretrained(vae)
    encode_dataset(folder / "dataset", folder / "latents", exact, tokenizer=tokenizer, text=encoder)
    return folder / "latents"


def _train(folder: Path, latents: Path, vae: Path, text: Path, steps: int | None) -> list[dict[str, Any]]:
    """The logged rows, each the mean over the steps since the one before."""
    rows: list[dict[str, Any]] = []
    train(
        TRAIN,
        MODEL,
        latents,
        folder / "train",
        vae=vae,
        text_encoder=text,
        sampling=SAMPLING,
        loop=LoopConfig(log_every=5),
        stop=lambda: steps is not None and bool(rows) and rows[-1]["step"] >= steps,
        on_step=rows.append,
    )
    return rows


def _judged(folder: Path, pipeline: Any) -> dict[str, Any]:
    """Hash and cell colors of the samples, their FID against data set pictures, and GenEval's summary."""
    images = _generate(folder / "images", pipeline)
    cells = np.stack([squares.cell_colors(image).ravel() for image in images])
    reference = np.stack([squares.cell_colors(image).ravel() for _, image in squares.dataset(IMAGES, seed=2)])
    weights = b"".join(tensor.numpy().tobytes() for _, tensor in sorted(pipeline.transformer.state_dict().items()))
    return {
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "images_sha256": hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest(),
        "mean_color": [round(value, 4) for value in cells.mean(0)],
        "fid": round(fid(cells / 255, reference / 255), 6),
        "geneval": _geneval(folder / "images"),
    }


def _generate(root: Path, pipeline: Any) -> list:
    """COPIES images a prompt in GenEval's layout, with the exact judge's detections.jsonl."""
    images, lines = [], []
    pipeline.set_progress_bar_config(disable=True)
    for index, metadata in enumerate(squares.prompts()):
        folder = root / f"{index:05d}"
        (folder / "samples").mkdir(parents=True)
        (folder / "metadata.jsonl").write_text(json.dumps(metadata) + "\n", encoding="utf-8")
        generators = [torch.Generator().manual_seed(100 * index + copy) for copy in range(COPIES)]
        output: Any = pipeline([metadata["prompt"]] * COPIES, generator=generators)
        for copy, image in enumerate(output.images):
            name = f"{index:05d}/samples/{copy:05d}.png"
            image.save(root / name)
            images.append(image)
            lines.append(json.dumps(squares.detections(image, name)))
    (root / "detections.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return images


def _geneval(images: Path) -> dict[str, float]:
    """Overall and task scores from GenEval's own command line, the way any other model is scored."""
    prompts = images.with_name("evaluation_metadata.jsonl")
    prompts.write_text("".join(json.dumps(prompt) + "\n" for prompt in squares.prompts()), encoding="utf-8")
    results = images.with_name("results.jsonl")
    _command("score", str(images), "--out", str(results), "--prompts", str(prompts))
    summary = json.loads(_command("summary", str(results), "--json"))
    tasks = {name: task["value"] for name, task in summary["tasks"].items()}
    return {"overall": summary["overall"]["value"], **tasks}


def _command(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "geneval", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"python -m geneval {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread, and the caller's random state untouched: sums then have one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            yield
    finally:
        torch.set_num_threads(threads)
