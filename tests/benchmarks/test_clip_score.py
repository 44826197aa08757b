"""CLIP score against the definition, torchmetrics' formula and its conventions."""

import numpy as np
import pytest

from benchmarks.quality.clip_score import bootstrap_mean, clip_scores, is_truncated, score_images
from geneval.clip import load_clip


@pytest.fixture(scope="module")
def clip(clip_folder):
    return load_clip(clip_folder)


def test_is_the_cosine_of_the_two_embeddings(clip, picture):
    import torch

    images, prompts = [picture(0), picture(1)], ["a red square", "a blue square"]
    pixels = torch.stack([clip.preprocess(image) for image in images])
    with torch.no_grad():
        image_features = clip.network.encode_image(pixels, normalize=True)
        text_features = clip.network.encode_text(clip.tokenizer(prompts), normalize=True)
    expected = 100 * (image_features * text_features).sum(1).numpy()
    np.testing.assert_allclose(clip_scores(images, prompts, clip).values, expected, atol=1e-4)


def test_conventions_differ_by_scale_and_clamp(clip, picture):
    images, prompts = [picture(index) for index in range(12)], [f"{index} squares" for index in range(12)]
    usual = clip_scores(images, prompts, clip)
    clip_s = clip_scores(images, prompts, clip, weight=2.5, clamp=True)
    np.testing.assert_allclose(clip_s.values, (usual.values / 40).clip(0), rtol=1e-9)


def test_batches_and_repeated_prompts_change_nothing(clip, picture):
    images, prompts = [picture(index) for index in range(6)], ["a", "b", "a", "b", "a", "c"]
    whole = clip_scores(images, prompts, clip).values
    np.testing.assert_allclose(clip_scores(images, prompts, clip, batch_size=4).values, whole, atol=1e-4)
    alone = [clip_scores([image], [prompt], clip).values[0] for image, prompt in zip(images, prompts)]
    np.testing.assert_allclose(alone, whole, atol=1e-4)


def test_long_prompts_are_counted_once_each(clip, picture):
    long = "square " * 40
    assert is_truncated(long, clip) and not is_truncated("a square", clip) and not is_truncated("", clip)
    # Start, 14 words and end fill the context of 16 exactly.
    assert not is_truncated("square " * 14, clip) and is_truncated("square " * 15, clip)
    scores = clip_scores([picture(0)] * 3, [long, long, "a square"], clip)
    assert scores.truncated == 1


def test_torchmetrics_gives_the_same_score(clip, picture):
    """Its own adapter fails with transformers 5, so it is given ours; it returns 100 x the mean cosine."""
    import torch
    from torchmetrics.functional.multimodal.clip_score import _clip_score_update

    images, prompts = [picture(0), picture(1)], ["a red square", "two blue squares"]

    class Adapter(torch.nn.Module):
        device = torch.device("cpu")
        config = type("Config", (), {"text_config": type("Text", (), {"max_position_embeddings": 77})})

        def get_image_features(self, pixels):
            return clip.network.encode_image(pixels)

        def get_text_features(self, ids, mask):
            return clip.network.encode_text(ids)

    def processor(text=None, images=None, return_tensors=None, padding=None):
        if images is not None:
            from torchvision.transforms.functional import to_pil_image

            return {"pixel_values": torch.stack([clip.preprocess(to_pil_image(image)) for image in images])}
        ids = clip.tokenizer(text)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    pixels = [torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images]
    theirs, _ = _clip_score_update(pixels, prompts, Adapter(), processor)
    np.testing.assert_allclose(clip_scores(images, prompts, clip).values, theirs.detach().numpy(), atol=1e-3)


def test_interval_draws_prompts_not_images():
    values = np.repeat([0.0, 1.0] * 10, 4)
    clusters = [str(index // 4) for index in range(80)]
    by_prompt, by_image = bootstrap_mean(values, clusters), bootstrap_mean(values, [str(i) for i in range(80)])
    assert by_prompt[1] - by_prompt[0] > 1.7 * (by_image[1] - by_image[0])
    # The bootstrap of a mean of 20 fair coins: 0.5 +- 1.96 sqrt(0.25 / 20).
    assert by_prompt[1] == pytest.approx(0.5 + 1.96 * np.sqrt(0.25 / 20), abs=0.04)


def test_a_folder_is_scored_with_its_prompts(geneval_folder, clip_folder):
    metrics, rows = score_images(geneval_folder, clip_folder, clip_s=True)
    entry = metrics["clip_score[icon-clip,w=2.5,clamped]"]
    assert entry["n"] == 24 and entry["clusters"] == 12
    assert rows[2]["file"] == "00001/samples/00000.png" and rows[2]["prompt"] == "a photo of 1 squares"


def test_mismatched_counts_are_refused(clip, picture):
    with pytest.raises(ValueError, match="1 images and 2 prompts"):
        clip_scores([picture(0)], ["a", "b"], clip)
    with pytest.raises(ValueError, match="at least one image"):
        clip_scores([], [], clip)
