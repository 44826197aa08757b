"""Crops against the original's, the classifier's formula, and the activation trap."""

import json

import numpy as np
import torch
from PIL import Image

from geneval.color import ColorClassifier, color_candidates, object_crop
from geneval.images import rgb
from geneval.options import Options
from geneval.prompts import COLORS


def test_crops_are_the_originals(geneval_golden):
    folder = geneval_golden / "crops"
    for case in json.loads((folder / "index.json").read_text()):
        mask = None if case["mask"] is None else np.asarray(Image.open(folder / case["mask"])) > 0
        box = np.float32(case["box"]).tolist()
        crop = object_crop(rgb(Image.open(folder / case["image"])), mask, box, Options.parse(case["options"]))
        expected = Image.open(folder / case["crop"])
        assert crop.size == tuple(case["crop_size"])
        assert np.array_equal(np.asarray(crop), np.asarray(expected.convert("RGB"))), case["crop"]


def test_colors_come_from_the_averaged_templates(clip_folder):
    import open_clip

    rng = np.random.default_rng(0)
    crops = [Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)) for _ in range(6)]
    names = ["cat", "dog", "cat", "wine glass", "dog", "cat"]
    found = ColorClassifier.from_pretrained(clip_folder, "cpu").classify(crops, names)

    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{clip_folder}", require_pretrained=True)
    tokenizer = open_clip.get_tokenizer(f"local-dir:{clip_folder}")
    model.eval()
    for crop, name, color in zip(crops, names, found):
        scores = []
        with torch.no_grad():
            feature = model.encode_image(transform(crop)[None], normalize=True)[0]
            for c in COLORS:
                texts = [f"a photo of a {c} {name}", f"a photo of a {c}-colored {name}", f"a photo of a {c} object"]
                mean = model.encode_text(tokenizer(texts), normalize=True).mean(0)
                scores.append(100 * feature @ (mean / mean.norm()))
        assert color == COLORS[int(torch.stack(scores).argmax())]


def test_colors_do_not_depend_on_the_batch(clip_folder):
    rng = np.random.default_rng(1)
    crops = [Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)) for _ in range(9)]
    classifier = ColorClassifier.from_pretrained(clip_folder, "cpu")
    alone = [classifier.classify([crop], ["cat"])[0] for crop in crops]
    assert classifier.classify(crops, ["cat"] * 9) == alone
    assert classifier.classify([], []) == []


def test_only_objects_that_the_prompt_asks_for_are_classified():
    metadata = {
        "tag": "color_attr",
        "include": [{"class": "cat", "count": 1, "color": "red"}, {"class": "dog", "count": 2, "color": "blue"}],
        "prompt": "p",
    }
    detections = {
        "cat": [[0, 0, 1, 1, 0.2], [0, 0, 1, 1, 0.8], [0, 0, 1, 1, 0.7]],
        "dog": [[0, 0, 1, 1, 0.9]],
        "bus": [[0, 0, 1, 1, 0.9]],
    }
    assert color_candidates(metadata, detections, Options(), 0.1) == [("cat", 1)]
    detections["dog"].append([0, 0, 1, 1, 0.15])
    assert color_candidates(metadata, detections, Options(), 0.1) == [("cat", 1), ("dog", 0), ("dog", 1)]
    assert color_candidates(metadata, detections, Options(), 0.3) == [("cat", 1)]
    assert color_candidates({"tag": "x", "include": [], "prompt": ""}, detections, Options(), 0.1) == []
