"""The detector against mmdet itself: its input, the converted network's logits, its output read, whole runs."""

import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from geneval.convert import convert_checkpoint, converted_model
from geneval.detector import Detector, class_names, masks_at_picture_size, read_output
from geneval.images import read_image
from geneval.preprocessing import Preprocessing, normalize, pad, resize, resize_method
from geneval.prompts import OBJECTS

cv2_only = pytest.mark.skipif(resize_method() != "cv2", reason="bit-exact only with opencv")


@pytest.fixture(scope="module")
def index(mmdet_golden):
    return json.loads((mmdet_golden / "index.json").read_text())


@pytest.fixture(scope="module")
def pictures(index, mmdet_golden):
    """name -> (RGB pixels, what mmdet made of the picture)."""
    entries = {**index["images"], **index["pre_only"]}
    assert len(entries) >= 8
    return {n: (read_image(mmdet_golden / "images" / f"{n}.png")[0], entry) for n, entry in entries.items()}


def _sha256(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def test_pictures_are_read_as_the_original_reads_them(pictures):
    for name, (image, entry) in pictures.items():
        assert _sha256(np.asarray(image)) == entry["sha256_read_rgb_u8"], name


@cv2_only
def test_network_input_is_bit_exact(pictures):
    settings = Preprocessing()
    for name, (image, entry) in pictures.items():
        resized = resize(np.asarray(image), *settings.resized(*image.size), "cv2")
        padded = pad(resized, settings)
        assert _sha256(resized) == entry["sha256_resized_rgb_u8"], name
        assert _sha256(padded) == entry["sha256_padded_rgb_u8"], name
        assert _sha256(normalize(torch.from_numpy(padded[None]), settings)[0].numpy()) == entry["sha256_input_f32"], (
            name
        )


@cv2_only
def test_the_torch_resize_is_within_one_gray_level(pictures):
    settings = Preprocessing()
    for name, (image, _) in pictures.items():
        size, pixels = settings.resized(*image.size), np.asarray(image)
        difference = resize(pixels, *size, "torch").astype(int) - resize(pixels, *size, "cv2")
        assert np.abs(difference).max() <= 1, name


def _rows(detections, names):
    """(label, query) -> row."""
    return {
        (names.index(name), query): row
        for name in detections.rows
        for row, query in zip(detections.rows[name], detections.queries[name])
    }


def _masks(archive, key, width):
    return np.unpackbits(archive[key], axis=-1, count=width).astype(bool)


def test_post_processing_is_mmdets(index, mmdet_golden):
    tensors, archive = load_file(mmdet_golden / "post_cases.safetensors"), np.load(mmdet_golden / "masks.npz")
    assert len(index["post_cases"]) >= 4
    for case in index["post_cases"]:
        one = {k.split("/")[1]: v for k, v in tensors.items() if k.split("/")[0] == str(case["id"])}
        logits = one["mask_logits_x64"].float()[None] / 64
        at_picture = masks_at_picture_size(logits, case["batch_input_shape"], case["img_shape"], case["ori_shape"])
        (found,) = read_output(one["cls_logits"].float()[None], at_picture, OBJECTS)
        masks = _masks(archive, f"post/{case['id']}", case["ori_shape"][1])
        rows = _rows(found, OBJECTS)
        assert len(rows) == len(one["label"])
        for i, (label, query) in enumerate(zip(one["label"].tolist(), one["query"].tolist())):
            expected, row = one["bbox"][i].tolist(), rows[label, query]
            assert row[4] == pytest.approx(expected[4], abs=1e-5)
            if one["stable"][i]:
                assert row[:4] == expected[:4], (case["id"], i)
            assert (found.masks[query].numpy() != masks[one["mask_index"][i]]).sum() <= 4


def network_outputs(model, image):
    """Class logits and every eighth row and column of the mask logits, for the input that mmdet makes."""
    settings = Preprocessing()
    pixels = pad(resize(np.asarray(image), *settings.resized(*image.size), "cv2"), settings)
    with torch.inference_mode():
        output = model(pixel_values=normalize(torch.from_numpy(pixels[None]), settings))
    return output.class_queries_logits[0], output.masks_queries_logits[0][:, ::8, ::8]


@pytest.fixture(scope="module")
def recordings(mmdet_golden):
    """name -> (picture, mmdet's outputs for it); one picture in the default run."""
    tensors, found = load_file(mmdet_golden / "tensors.safetensors"), {}
    for name in ("a_512x512", "c_300x500", "f_64x64_L", "g_333x217_RGBA", "h_512x20"):
        path = mmdet_golden / "images" / f"{name}.png"
        if path.is_file():
            one = {key.split("/")[1]: value for key, value in tensors.items() if key.split("/")[0] == name}
            found[name] = read_image(path)[0], one
    assert "h_512x20" in found
    return found


@cv2_only
def test_whole_detection_is_mmdets(recordings, mmdet_golden, mmdet_checkpoint, tmp_path):
    """Class logits within 2e-4, mask logits within 2e-3, boxes exact, scores within 1e-4, masks within 4 pixels."""
    convert_checkpoint(mmdet_checkpoint, tmp_path / "detector")
    detector = Detector.from_pretrained(tmp_path / "detector", "cpu")
    archive = np.load(mmdet_golden / "masks.npz")
    for name, (image, one) in recordings.items():
        classes, masks_s8 = network_outputs(detector.model, image)
        assert (classes - one["cls_logits"]).abs().max() < 2e-4, name
        assert (masks_s8 - one["mask_logits_s8"]).abs().max() < 2e-3, name
        (found,) = detector.detect([image])
        rows, masks = _rows(found, OBJECTS), _masks(archive, name, image.width)
        assert len(rows) == len(one["label"]) == 100
        for i, (label, query) in enumerate(zip(one["label"].tolist(), one["query"].tolist())):
            assert rows[label, query][:4] == one["bbox"][i, :4].tolist()
            assert rows[label, query][4] == pytest.approx(one["bbox"][i, 4].item(), abs=1e-4)
            assert (found.masks[query].numpy() != masks[one["mask_index"][i]]).sum() <= 4


_PIXELS, _QUERIES = "panoptic_head.pixel_decoder.encoder.layers", "panoptic_head.transformer_decoder.layers"
# Of one shape each: a mapping that confused them would lose no tensor and no value.
CONFUSED = {
    "Swin norms": ("backbone.stages.0.blocks.0.norm1", "backbone.stages.0.blocks.0.norm2"),
    "Swin blocks": ("backbone.stages.1.blocks.0", "backbone.stages.1.blocks.1"),
    "pixel decoder's norms": (f"{_PIXELS}.0.norms.0", f"{_PIXELS}.0.norms.1"),
    "decoder norms 0 and 1": (f"{_QUERIES}.0.norms.0", f"{_QUERIES}.0.norms.1"),
    "decoder norms 1 and 2": (f"{_QUERIES}.3.norms.1", f"{_QUERIES}.3.norms.2"),
    "cross and self attention": (f"{_QUERIES}.1.attentions.0", f"{_QUERIES}.1.attentions.1"),
    "decoder layers": (f"{_QUERIES}.2", f"{_QUERIES}.3"),
    "mask embedding": ("panoptic_head.mask_embed.0", "panoptic_head.mask_embed.2"),
    "level embeddings": ("panoptic_head.level_embed", "panoptic_head.pixel_decoder.level_encoding"),
    "queries": ("panoptic_head.query_embed", "panoptic_head.query_feat"),
}


def swapped(state, first, second):
    """The state with the tensors under two prefixes exchanged."""

    def other(name):
        for one, two in ((first, second), (second, first)):
            if name.startswith(f"{one}."):
                return two + name.removeprefix(one)
        return name

    return {other(name): value for name, value in state.items()}


@cv2_only
@pytest.mark.parametrize("pair", CONFUSED.values(), ids=CONFUSED)
def test_a_confused_pair_of_names_would_be_noticed(pair, mmdet_state, recordings):
    """It moves the class logits a hundred times further than the whole detection's tolerance."""
    state = swapped(mmdet_state, *pair)
    assert state.keys() == mmdet_state.keys()
    image, one = recordings["h_512x20"]
    classes, _ = network_outputs(converted_model(state), image)
    assert (classes - one["cls_logits"]).abs().max() > 100 * 2e-4


def test_settings_of_a_folder_are_honored(tmp_path):
    path = tmp_path / "preprocessor_config.json"
    size = {"size": {"shortest_edge": 32, "longest_edge": 128}, "size_divisor": 8}
    path.write_text(json.dumps(size | {"image_mean": [123.675, 116.28, 103.53], "image_std": [0.5, 0.5, 0.5]}))
    settings = Preprocessing.from_folder(tmp_path)
    assert settings.resized(32, 32) == (32, 32) and settings.padded(33, 32) == (40, 32)
    assert settings.image_mean == pytest.approx((0.485, 0.456, 0.406)) and settings.image_std == (0.5, 0.5, 0.5)
    for text in ('{"size_divisor": "8"}', '{"image_mean": [1, 2]}', "{", '{"pad_value": -1}', "[]"):
        path.write_text(text)
        with pytest.raises(ValueError, match="preprocessor_config"):
            Preprocessing.from_folder(tmp_path)


def test_class_names_are_genevals(tmp_path):
    coco = dict(enumerate(OBJECTS)) | {64: "mouse", 65: "remote", 66: "keyboard"}
    assert class_names(coco, tmp_path) == list(OBJECTS)
    assert class_names({i: f"LABEL_{i}" for i in range(80)}, tmp_path) == list(OBJECTS)
    assert class_names({0: "dog", 1: "cat"}, tmp_path) == ["dog", "cat"]
    with pytest.raises(ValueError, match="id2label"):
        class_names({0: "LABEL_0", 1: "LABEL_1"}, tmp_path)
    for damaged in ({0: 3, 1: "dog"}, {1: "dog"}, {}):
        with pytest.raises(ValueError, match="id2label must name the classes"):
            class_names(damaged, tmp_path)
