"""Run by tests/test_metrics.py in two processes: every metric over icon pictures, results as JSON from rank 0.

python metrics_run.py RANK WORLD RENDEZVOUS OUT
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

ICONS = Path(__file__).parents[1] / "ablations" / "icons" / "components"
NUM_IMAGES = 10


def pictures():
    """Pictures of the icon world and their prompts' texts."""
    from ablations.icons.teacher import IconTeacher
    from ablations.icons.world import WORLDS
    from geneval.prompts import prompt_suite

    prompts = prompt_suite(["cup", "car", "airplane", "umbrella"], colors=("red", "blue", "yellow"), num_prompts=2)
    texts = [prompt.prompt for prompt in prompts][: NUM_IMAGES // 2] * 2
    drawn = texts[:7] + texts[:3]  # the last ones show other prompts' objects
    return IconTeacher(WORLDS["components"])(drawn, range(len(drawn))), texts


def metrics(network, clip, reference):
    from benchmarks.quality import metrics as quality
    from geneval.judge import Judge
    from geneval.metric import GenEval

    return {
        "geneval": GenEval(Judge.from_pretrained(ICONS / "detector", ICONS / "clip", device="cpu")),
        "frechet": quality.FrechetDistance(network, reference),
        "kernel": quality.KernelDistance(network, reference, [f"prompt {i // 2}" for i in range(len(reference))]),
        "precision_recall": quality.PrecisionRecall(network, reference),
        "vendi": quality.Vendi(network),
        "clip": quality.CLIPScore(clip),
    }


def results(rank: int, shares: list) -> dict:
    """Every metric after each process took its share of the pictures; all of them also see picture 0 once more."""
    from benchmarks.quality.extractors import clip_extractor
    from geneval.clip import load_clip

    clip = load_clip(ICONS / "clip", device="cpu")
    images, texts = pictures()
    reference = np.random.default_rng(0).normal(size=(12, clip.network.visual.output_dim))
    own, found = list(shares[rank]), {}
    for name, metric in metrics(clip_extractor(clip), clip, reference).items():
        for start in range(0, len(own), 3):
            batch = own[start : start + 3]
            more = [] if name == "frechet" else [[texts[i] for i in batch]]
            metric.update([images[i] for i in batch], *more, *([batch] if name == "geneval" else []))
        if name == "geneval":
            # As a sampler does that fills up the processes.
            metric.update([images[0]], [texts[0]], [0])
        value = metric.compute()
        found[name] = {k: float(v) for k, v in value.items()} if isinstance(value, dict) else float(value)
    return found


def main(rank: int, world: int, rendezvous: str, out: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world)
    uneven = results(rank, [range(3), range(3, NUM_IMAGES)])
    with_none = results(rank, [range(NUM_IMAGES), range(0)])
    if rank == 0:
        Path(out).write_text(json.dumps([uneven, with_none]))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
