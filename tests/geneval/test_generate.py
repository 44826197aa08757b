"""Images in the original's layout from a real diffusers pipeline: seeds, resume, shards."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from geneval.generate import generate_images, image_seed
from geneval.layout import read_layout, sample_path
from geneval.prompts import Prompt, prompt_suite

PROMPTS = prompt_suite(["cat", "dog"], num_prompts=1)  # six prompts


class _Output:
    def __init__(self, images):
        self.images = images


class NoisePipeline:
    """A text-to-image pipeline that shows its random draws; it counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, prompt, generator=None, num_images_per_prompt=1, scale=1):
        self.calls += 1
        prompts = [prompt] * num_images_per_prompt if isinstance(prompt, str) else prompt
        generators = generator or [None] * len(prompts)
        draws = [torch.randint(0, 256, (8, 8, 3), generator=g, dtype=torch.uint8) for g in generators]
        return _Output([Image.fromarray((draw.numpy().astype(int) // scale).astype(np.uint8)) for draw in draws])


def _pixels(root):
    return {str(path.relative_to(root)): np.asarray(Image.open(path)).tolist() for path in sorted(root.rglob("*.png"))}


def test_original_seeding_starts_every_prompt_from_the_same_seed(tmp_path):
    generate_images(NoisePipeline(), PROMPTS, tmp_path, copies=2)
    torch.manual_seed(42)
    for copy in range(2):
        drawn = torch.randint(0, 256, (8, 8, 3), dtype=torch.uint8).numpy()
        for index in range(len(PROMPTS)):
            assert np.array_equal(np.asarray(Image.open(sample_path(tmp_path, index, copy))), drawn)


def test_the_global_random_state_is_left_as_it_was(tmp_path):
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    generate_images(NoisePipeline(), PROMPTS[:1], tmp_path)
    assert torch.equal(before, torch.random.get_rng_state())


def test_an_image_with_its_own_generator_does_not_depend_on_the_batch(tmp_path):
    for name, size in (("one", 1), ("five", 5)):
        generate_images(NoisePipeline(), PROMPTS, tmp_path / name, copies=3, seeding="image", batch_size=size)
    one, five = _pixels(tmp_path / "one"), _pixels(tmp_path / "five")
    assert one == five and len({json.dumps(p) for p in one.values()}) == 18


def test_image_seeds_depend_on_seed_prompt_and_copy():
    seeds = {image_seed(s, p, c) for s in (0, 1) for p in ("a", "b") for c in (0, 1)}
    assert len(seeds) == 8 and all(0 <= seed < 2**63 for seed in seeds)
    assert image_seed(42, "a photo of a bench", 0) == image_seed(42, "a photo of a bench", 0)


@pytest.mark.parametrize("seeding", ["original", "image"])
def test_a_killed_run_goes_on_and_ends_in_the_same_images(tmp_path, seeding):
    generate_images(NoisePipeline(), PROMPTS, tmp_path / "whole", seeding=seeding)
    generate_images(NoisePipeline(), PROMPTS, tmp_path / "cut", seeding=seeding)
    sample_path(tmp_path / "cut", 1, 2).unlink()
    torn = sample_path(tmp_path / "cut", 3, 0)
    torn.write_bytes(torn.read_bytes()[:-20])
    pipeline = NoisePipeline()
    generate_images(pipeline, PROMPTS, tmp_path / "cut", seeding=seeding)
    assert _pixels(tmp_path / "cut") == _pixels(tmp_path / "whole")
    assert pipeline.calls == (2 if seeding == "image" else 3 + 1)
    generate_images(pipeline, PROMPTS, tmp_path / "cut", seeding=seeding)
    assert pipeline.calls == (2 if seeding == "image" else 4)


def test_shards_make_the_whole(tmp_path):
    seen = []
    for i in range(2):
        generate_images(NoisePipeline(), PROMPTS, tmp_path, copies=1, shard=(i, 2), progress=lambda *p: seen.append(p))
    folders, problems = read_layout(tmp_path)
    assert [folder.metadata for folder in folders] == [prompt.metadata() for prompt in PROMPTS] and not problems
    assert seen == [(1, 3), (2, 3), (3, 3)] * 2


def test_images_do_not_depend_on_the_number_of_processes(tmp_path):
    for n in (1, 2, 3):
        for i in range(n):
            generate_images(NoisePipeline(), PROMPTS, tmp_path / str(n), copies=2, seeding="image", shard=(i, n))
    assert _pixels(tmp_path / "1") == _pixels(tmp_path / "2") == _pixels(tmp_path / "3")
    assert json.loads((tmp_path / "3" / "generation.json").read_text())["processes"] == 3


def test_the_protocol_is_recorded(tmp_path):
    class Steps(NoisePipeline):
        dtype = torch.bfloat16

        def __init__(self):
            super().__init__()
            self.config = {"sampling": {"solver": "euler", "guidance_scale": 3.0, "num_steps": 16}}

        def __call__(self, prompt, generator=None, num_images_per_prompt=1, width=512, num_inference_steps=50):
            self.seen = prompt
            return super().__call__(prompt, generator, num_images_per_prompt)

    first = PROMPTS[0]
    rewritten = Prompt.from_metadata({**first.metadata(), "rewritten": "a sharp photograph"})
    pipeline = Steps()
    generate_images(pipeline, [rewritten], tmp_path, copies=1, seeding="image")
    assert pipeline.seen == ["a sharp photograph"]
    found = json.loads((tmp_path / "generation.json").read_text())["protocol"]
    assert found == {
        "steps": 16, "guidance": 3.0, "solver": "euler", "size": [512, None], "dtype": "bfloat16", "seeding": "image",
        "prompts_rewritten": 1,
    }  # fmt: skip
    folder = read_layout(tmp_path)[0][0]
    assert folder.metadata["prompt"] == first.prompt and folder.metadata["include"] == first.metadata()["include"]


def test_a_folder_of_other_prompts_and_wrong_arguments_are_refused(tmp_path):
    generate_images(NoisePipeline(), PROMPTS[:1], tmp_path, copies=1)
    with pytest.raises(ValueError, match="another prompt"):
        generate_images(NoisePipeline(), PROMPTS[1:2], tmp_path, copies=1)
    for wrong in ({"copies": 0}, {"batch_size": 0}, {"shard": (2, 2)}, {"seeding": "none"}):
        with pytest.raises(ValueError):
            generate_images(NoisePipeline(), PROMPTS, tmp_path, **wrong)


def test_call_arguments_reach_the_pipeline(tmp_path):
    generate_images(NoisePipeline(), PROMPTS[:1], tmp_path, copies=1, call={"scale": 256})
    assert np.asarray(Image.open(sample_path(tmp_path, 0, 0))).max() == 0


def test_images_made_otherwise_are_not_mixed(tmp_path):
    generate_images(NoisePipeline(), PROMPTS[:1], tmp_path, copies=1, seeding="image")
    generate_images(NoisePipeline(), PROMPTS[:1], tmp_path, copies=2, seeding="image", batch_size=2)
    for change in ({"seed": 7}, {"call": {"scale": 2}}, {"seeding": "original"}, {"source": "another"}):
        with pytest.raises(ValueError, match=f"begun with {next(iter(change)).replace('source', 'pipeline')}"):
            generate_images(NoisePipeline(), PROMPTS[:1], tmp_path, **{"copies": 2, "seeding": "image"} | change)
    (tmp_path / "generation.json").write_text("{torn")
    with pytest.raises(ValueError, match=r"generation\.json"):
        generate_images(NoisePipeline(), PROMPTS[:1], tmp_path)


def test_blacked_images_are_not_passed_over(tmp_path):
    class Checked(NoisePipeline):
        def __call__(self, prompt, **call):
            output = super().__call__(prompt, **call)
            output.nsfw_content_detected = [True] * len(output.images)
            return output

    with pytest.warns(UserWarning, match="safety checker"):
        generate_images(Checked(), PROMPTS[:1], tmp_path, copies=1)
