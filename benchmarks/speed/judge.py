"""How fast pictures are judged: in a process, as a folder by `detect` and `score`, and through the reward service.

All three take the same pictures in the same batches. Networks are loaded once for the first and the last; `detect`
loads its own each time, which is measured alone and taken off. Processor time, with the clients', and wall time.
"""

import base64
import contextlib
import io
import json
import shutil
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.speed.config import JudgeSpeed
from benchmarks.speed.report import Report
from benchmarks.speed.timer import in_turn, ratio, summary
from geneval.detect import detect_images
from geneval.embedded import CLIPS
from geneval.judge import Judge
from geneval.layout import sample_path, write_prompt_folder
from geneval.prompts import Prompt, prompt_suite
from geneval.scores import score_folder

_PIXELS = 32  # a side
_CLIENTS = 4


def run_benchmark(config: JudgeSpeed) -> dict[str, Any]:
    """Images a second of the three ways, and the ratios of their times."""
    report = Report("judge", config, threads=config.threads)
    clip = config.clip or CLIPS["icon-clip"]
    detector = config.detector or CLIPS["icon-clip"].with_name("detector")
    judge = Judge.from_pretrained(detector, clip, "cpu", batch_size=config.batch_size)
    prompts = _prompts(judge, config.images)
    pictures = _pictures(config.images)
    with tempfile.TemporaryDirectory() as temporary, _service(judge) as post:
        root = Path(temporary) / "images"
        for i, (picture, prompt) in enumerate(zip(pictures, prompts)):
            write_prompt_folder(root, i, prompt)
            picture.save(sample_path(root, i, 0))

        def folder() -> None:
            (root / "detections.jsonl").unlink(missing_ok=True)
            detect_images(root, detector, clip, batch_size=config.batch_size, device="cpu")
            score_folder(root, root / "results.jsonl", prompts=prompts)

        requests = _requests(pictures, prompts, config.batch_size)

        def service() -> None:
            with ThreadPoolExecutor(_CLIENTS) as clients:
                list(clients.map(post, requests))

        tasks = {
            "in_process": lambda: judge(pictures, prompts),
            "loading": lambda: Judge.from_pretrained(detector, clip, "cpu"),
            "detect_and_score": folder,
            "service": service,
        }
        for task in tasks.values():
            task()
        clocks = time.process_time, time.perf_counter
        for kind, seconds in zip(("processor", "wall"), in_turn(tasks, config.repetitions, *clocks)):
            folders = zip(seconds["detect_and_score"], seconds.pop("loading"))
            seconds["detect_and_score"] = [whole - loading for whole, loading in folders]
            _add(report, kind, seconds, config.images)
        shutil.rmtree(root)
    return report.finish()


def _add(report: Report, kind: str, seconds: dict[str, list[float]], num_images: int) -> None:
    found = {name: summary(values) for name, values in seconds.items()}
    rates = {name: round(num_images / values["median"], 1) for name, values in found.items()}
    ratios = {name: ratio(seconds, name, "in_process") for name in ("detect_and_score", "service")}
    line = ", ".join(f"{name} {rate:.0f} images/s" for name, rate in rates.items())
    line += "".join(f"; {name} takes {r['median']:.2f} of in_process' time" for name, r in ratios.items())
    report.add(f"{kind}: {line}", **{kind: {"seconds": found, "images_per_second": rates, "ratios": ratios}})


def _prompts(judge: Judge, count: int) -> list[Prompt]:
    suite = prompt_suite(judge.detector.names, num_prompts=max(2, count))
    return [suite[i * len(suite) // count] for i in range(count)]


def _pictures(count: int) -> list[Image.Image]:
    """Gray pictures with a few colored rectangles."""
    rng, pictures = np.random.default_rng(0), []
    for _ in range(count):
        pixels = np.full((_PIXELS, _PIXELS, 3), 160, np.uint8)
        for _ in range(3):
            x, y = rng.integers(0, _PIXELS // 2, 2)
            pixels[y : y + _PIXELS // 3, x : x + _PIXELS // 3] = rng.integers(0, 256, 3)
        pictures.append(Image.fromarray(pixels))
    return pictures


def _requests(pictures: list[Image.Image], prompts: list[Prompt], size: int) -> list[bytes]:
    texts = []
    for picture in pictures:
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG")
        texts.append(base64.b64encode(buffer.getvalue()).decode())
    bodies = [
        {"images": texts[i : i + size], "meta_datas": [p.metadata() for p in prompts[i : i + size]]}
        for i in range(0, len(texts), size)
    ]
    return [json.dumps(body).encode() for body in bodies]


@contextlib.contextmanager
def _service(judge: Judge) -> Iterator[Any]:
    """A function that posts a body to the service, which runs in a thread on loopback."""
    import uvicorn

    from geneval.service import ServiceConfig, create_app

    server = uvicorn.Server(uvicorn.Config(create_app(judge, ServiceConfig(port=0)), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]

    def post(body: bytes) -> dict[str, Any]:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=300) as answer:
            return json.load(answer)

    try:
        yield post
    finally:
        server.should_exit = True
        thread.join(timeout=20)
