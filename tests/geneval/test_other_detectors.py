"""Detectors that are not GenEval's: as they come from the Hub, and of boxes without masks; every output is marked."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from geneval.__main__ import detect, score, summary
from geneval.agreement import agreement, agreement_text
from geneval.box_detector import BoxDetector, geneval_name
from geneval.comparability import NOT_COMPARABLE
from geneval.detectors import load_detector
from geneval.judge import Judge
from geneval.layout import sample_path, write_prompt_folder
from geneval.preprocessing import Preprocessing
from geneval.prompts import OBJECTS, prompt_suite, write_prompts
from tests.geneval import tiny

NAMES = tiny.BOXES
PROMPTS = prompt_suite(["cat", "computer mouse", "tv"], num_prompts=1)


@pytest.fixture(scope="module")
def detr(tmp_path_factory):
    return tiny.make_box_detector(tmp_path_factory.mktemp("detr"))


@pytest.fixture(scope="module")
def rt_detr(tmp_path_factory):
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrImageProcessor, RTDetrResNetConfig

    torch.manual_seed(0)
    backbone = RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1] * 4, layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = RTDetrConfig(
        backbone_config=backbone, encoder_hidden_dim=16, encoder_in_channels=[8, 8, 8], encoder_layers=1,
        encoder_ffn_dim=16, encoder_attention_heads=2, d_model=16, num_queries=10, decoder_in_channels=[16, 16, 16],
        decoder_ffn_dim=16, decoder_layers=1, decoder_attention_heads=2, num_denoising=0, decoder_n_points=2,
        id2label=NAMES, label2id={v: k for k, v in NAMES.items()},
    )  # fmt: skip
    processor = RTDetrImageProcessor(size={"height": 64, "width": 64})
    return tiny.save_box_detector(RTDetrForObjectDetection(config), tmp_path_factory.mktemp("rt_detr"), processor)


@pytest.fixture(scope="module")
def hub(detector_folder, tmp_path_factory):
    """A Mask2Former folder as the Hub has it: an older preprocessor, COCO's 80 names."""
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation

    folder = tmp_path_factory.mktemp("hub")
    config = Mask2FormerConfig.from_pretrained(detector_folder)
    coco = [
        {"computer mouse": "mouse", "tv remote": "remote", "computer keyboard": "keyboard"}.get(n, n) for n in OBJECTS
    ]
    config.id2label, config.label2id = dict(enumerate(coco)), {name: i for i, name in enumerate(coco)}
    Mask2FormerForUniversalSegmentation(config).save_pretrained(folder)
    settings = {"size": 32, "max_size": 64, "size_divisor": 16, "do_resize": True, "ignore_index": 255}
    settings |= {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "resample": 2}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture
def images(tmp_path):
    root, rng = tmp_path / "images", np.random.default_rng(0)
    for index, prompt in enumerate(PROMPTS):
        write_prompt_folder(root, index, prompt)
        noise = rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((40, 32)).save(sample_path(root, index, 0))
    write_prompts(PROMPTS, tmp_path)
    return root


@pytest.mark.parametrize("kind", ["detr", "rt_detr", "hub"])
def test_another_detector_works_and_every_output_says_so(kind, images, clip_folder, tmp_path, request, capsys):
    folder, out = request.getfixturevalue(kind), tmp_path / "results.jsonl"
    detect(images, str(folder), str(clip_folder), device="cpu")
    assert NOT_COMPARABLE in capsys.readouterr().err
    score(images, out, prompts=tmp_path, copies=1)
    assert NOT_COMPARABLE in capsys.readouterr().err
    summary(out, json=True)
    assert json.loads(capsys.readouterr().out)["note"] == NOT_COMPARABLE
    assert json.loads((tmp_path / "results.jsonl.json").read_text())["note"] == NOT_COMPARABLE
    judge = Judge.from_pretrained(folder, clip_folder, device="cpu")
    pictures = [Image.open(sample_path(images, i, 0)) for i in range(len(PROMPTS))]
    assert judge.note == NOT_COMPARABLE and all(v.note == NOT_COMPARABLE for v in judge(pictures, PROMPTS))
    found = judge.detect(pictures[:1], PROMPTS[:1])[0]
    boxes = [row for rows in found.detections.values() for row in rows]
    assert boxes and all(0 <= row[0] <= row[2] <= 40 and 0 <= row[1] <= row[3] <= 32 for row in boxes)


def test_labels_become_genevals_names(detr):
    found = load_detector(detr, "cpu")
    assert isinstance(found, BoxDetector) and found.names == ("cat", "computer mouse", "tv")
    seen = found.detect([Image.new("RGB", (40, 32)), Image.new("RGB", (32, 40))])
    assert [one.size for one in seen] == [(40, 32), (32, 40)]
    assert set(seen[0].rows) <= {"cat", "computer mouse", "tv"} and seen[0].mask("cat", 0) is None
    assert geneval_name("dining table") == "dining table"


def test_a_broken_folder_of_boxes_is_refused(detr, hub, tmp_path):
    folder = Path(shutil.copytree(detr, tmp_path / "broken"))
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:500])
    with pytest.raises(ValueError, match="not a folder of a detector"):
        load_detector(folder)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(FileNotFoundError, match="preprocessor_config"):
        load_detector(folder)
    (folder / "config.json").write_text('{"model_type": "no_such_detector"}')
    with pytest.raises(FileNotFoundError, match="preprocessor_config"):
        load_detector(folder)
    assert Preprocessing.from_folder(hub).longest_edge == 64


# --- two judges -----------------------------------------------------------------------------------------------------


def _rows(verdicts, prefix="a"):
    """Rows of four images a prompt, from strings of 0 and 1."""
    return [
        {
            "filename": f"{prefix}/{i:05}/samples/{copy:05}.png",
            "tag": "counting" if i % 2 else "colors",
            "metadata": f"prompt {i}",
            "correct": verdict == "1",
            "reason": "" if verdict == "1" else "expected cat>=2, found 1",
        }
        for i, row in enumerate(verdicts)
        for copy, verdict in enumerate(row)
    ]


def test_kappa_is_its_formula():
    a, b = _rows(["1111", "0000", "1100", "1010"]), _rows(["1110", "0001", "1100", "1010"], "b")
    found = agreement(a, b)["overall"]
    assert found["n"] == 16 and found["clusters"] == 4 and found["agree"] == 14 / 16
    assert found["kappa"] == pytest.approx((14 / 16 - 0.5) / 0.5) and found["only_a"] == found["only_b"] == 1
    low, high = found["ci"]
    assert low <= found["kappa"] <= high <= 1
    result = agreement(a, b)
    assert {d["kind"] for d in result["differing"]} == {
        "only A says correct; missing object",
        "only B says correct; missing object",
    }
    assert result["tasks"]["colors"]["only_a"] == 1 and result["tasks"]["counting"]["only_b"] == 1
    text = agreement_text(result)
    assert "00000/samples/00003.png: A 'correct', B 'expected cat>=2, found 1'" in text and "0.750" in text


def test_equal_judges_and_constant_ones():
    a = _rows(["1111", "0000"])
    assert agreement(a, a)["overall"]["kappa"] == 1
    same = agreement(_rows(["1111", "1111"]), _rows(["1111", "1111"]))["overall"]
    assert same["agree"] == 1 and same["kappa"] is None and same["ci"] is None


def test_other_images_are_refused():
    a = _rows(["11", "00"])
    with pytest.raises(ValueError, match="2 are in one of them only"):
        agreement(a, a[:2])
    with pytest.raises(ValueError, match="by another prompt"):
        agreement(a, [{**row, "metadata": "x"} for row in a])
    with pytest.raises(ValueError, match="occurs twice"):
        agreement(a + a, a)
