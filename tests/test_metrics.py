"""The torchmetrics classes: the numbers of the functions they wrap, and the same from one process, two and three."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.quality.clip_score import clip_scores
from benchmarks.quality.extractors import clip_extractor
from benchmarks.quality.frechet import fid
from benchmarks.quality.kernels import kid
from benchmarks.quality.manifold import precision_recall, vendi
from benchmarks.quality.metrics import CLIPScore, FrechetDistance, KernelDistance, Vendi
from geneval.clip import load_clip
from geneval.judge import Judge
from geneval.metric import GenEval
from tests.metrics_run import ICONS, NUM_IMAGES, pictures, results

pytestmark = pytest.mark.filterwarnings("ignore:N = ", "ignore:The ``compute`` method")


@pytest.fixture(scope="module")
def one():
    return results(0, [range(NUM_IMAGES)])


@pytest.mark.slow
def test_two_processes_give_what_one_does(one, tmp_path):
    script = Path(__file__).with_name("metrics_run.py")
    words = ["2", str(tmp_path / "rendezvous"), str(tmp_path / "out.json")]
    # Beside the script lies tests/ablations, which would hide the package of that name.
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    running = [subprocess.Popen([sys.executable, str(script), str(rank), *words], env=env) for rank in range(2)]
    assert [process.wait(timeout=600) for process in running] == [0, 0]
    for both in json.loads((tmp_path / "out.json").read_text()):  # uneven shares, and all with one process
        assert both["geneval"] == one["geneval"] and one["geneval"]["images"] == NUM_IMAGES
        for name in ("frechet", "kernel", "vendi", "clip"):
            assert both[name] == pytest.approx(one[name], rel=1e-5), name
        assert both["precision_recall"] == pytest.approx(one["precision_recall"])


@pytest.mark.slow
def test_metrics_are_the_functions(one):
    clip = load_clip(ICONS / "clip", device="cpu")
    network, (images, texts) = clip_extractor(clip), pictures()
    values = network([network.prepare(image) for image in images])
    reference = np.random.default_rng(0).normal(size=(12, values.shape[1]))
    assert one["frechet"] == pytest.approx(fid(values, reference), rel=1e-6)
    clusters = [f"prompt {i // 2}" for i in range(12)]
    found = kid(values, reference, clusters_a=texts, clusters_b=clusters)
    assert one["kernel"] == pytest.approx(found.value, rel=1e-6)
    assert one["vendi"] == pytest.approx(vendi(values), rel=1e-6)
    assert one["precision_recall"] == pytest.approx(precision_recall(values, reference)._asdict())
    assert one["clip"] == pytest.approx(clip_scores(images, texts, clip).values.mean(), rel=1e-6)
    judge = Judge.from_pretrained(ICONS / "detector", ICONS / "clip", "cpu")
    verdicts, tags = judge(images, texts), [prompt.tag for prompt in judge.prompts(texts)]
    for tag in dict.fromkeys(tags):
        own = [verdict.correct for verdict, name in zip(verdicts, tags) if name == tag]
        assert one["geneval"][tag] == pytest.approx(np.mean(own))


def test_a_metric_forgets_and_refuses():
    network = clip_extractor(load_clip(ICONS / "clip", device="cpu"))
    images, texts = pictures()
    metric = Vendi(network)
    metric.update(images[:4])
    first = metric.compute()
    metric.reset()
    dimensions = network([network.prepare(images[0])]).shape[1]
    for empty in (metric, FrechetDistance(network, np.eye(dimensions)), CLIPScore(ICONS / "clip")):
        with pytest.raises(ValueError, match="picture"):
            empty.compute()
    metric.update(torch.stack([torch.from_numpy(np.array(i)).permute(2, 0, 1) for i in images[:4]]))
    assert metric.compute() == first
    with pytest.raises(ValueError, match="one prompt a picture"):
        KernelDistance(network, np.eye(3)).update(images[:2], texts[:1])


def test_a_geneval_metric_refuses():
    metric = GenEval(Judge.from_pretrained(ICONS / "detector", ICONS / "clip", device="cpu"))
    images, texts = pictures()
    with pytest.raises(ValueError, match="no picture was judged"):
        metric.compute()
    with pytest.raises(ValueError, match="one id an image"):
        metric.update(images[:2], texts[:2], [1])
    with pytest.raises(ValueError, match="over the tasks"):
        metric.update(images[:1], [{"tag": "own", "prompt": "p", "include": []}])
