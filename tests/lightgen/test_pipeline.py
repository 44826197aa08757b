import shutil

import pytest
import torch
from diffusers import AutoencoderKL
from transformers import T5EncoderModel

from lightgen.model.config import MARConfig, SamplingConfig
from lightgen.model.encoders import load_complete, load_tokenizer
from lightgen.model.mar import MAR
from lightgen.model.pipeline import LightGenPipeline

SAMPLING = SamplingConfig(num_steps=4, num_head_steps=3, guidance_scale=2.0)


def make_pipeline(vae_folder, text_folder, **changes) -> LightGenPipeline:
    sizes = {
        "width": 16,
        "encoder_depth": 1,
        "decoder_depth": 1,
        "cross_depth": 1,
        "heads": 2,
        "text_depth": 1,
        "text_channels": 16,
        "max_text_length": 8,
        "position_grid": 2,
        "head_depth": 1,
        "head_width": 16,
    }
    torch.manual_seed(0)
    model = MAR(MARConfig(**(sizes | changes))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    pipeline = LightGenPipeline(
        load_complete(AutoencoderKL, vae_folder),
        load_complete(T5EncoderModel, text_folder),
        load_tokenizer(text_folder),
        model,
        SAMPLING,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def pipeline(vae_folder, text_folder):
    return make_pipeline(vae_folder, text_folder)


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize("attends", [True, False])
def test_each_image_equals_the_one_made_alone(vae_folder, text_folder, attends, relative_error):
    pipeline = make_pipeline(vae_folder, text_folder, attend_to_padding=attends)
    prompts = ["a red bench", "a photo of two dogs on the left", "a red bench"]
    together = pipeline(prompts, generator=generators(1, 2, 3), output_type="latent").images
    for image, prompt in enumerate(prompts):
        alone = pipeline(prompt, generator=generators(image + 1), output_type="latent").images
        assert relative_error(alone[0], together[image]) < 2e-5
    assert not torch.allclose(together[0], together[2])


def test_output_types_are_one_image_in_three_forms(pipeline):
    images = pipeline("a dog", generator=generators(5)[0]).images
    pixels = pipeline("a dog", generator=generators(5)[0], output_type="pt").images
    latents = pipeline("a dog", generator=generators(5), output_type="latent", return_dict=False)[0]
    assert images[0].size == (32, 32) and pixels.shape == (1, 3, 32, 32) and latents.shape == (1, 16, 4, 4)
    assert images[0].getpixel((3, 4)) == tuple((pixels[0, :, 4, 3] * 255).round().int().tolist())


def test_several_images_per_prompt_differ(pipeline):
    images = pipeline(
        ["a dog", "a bench"], num_images_per_prompt=2, generator=generators(1)[0], output_type="pt"
    ).images
    again = pipeline(["a dog", "a bench"], num_images_per_prompt=2, generator=generators(1)[0], output_type="pt").images
    assert len(images) == 4 and not torch.equal(images[0], images[1])
    assert torch.equal(images, again)


@pytest.mark.parametrize(("height", "width"), [(16, 64), (64, 64), (48, 16)])
def test_other_sizes_and_shapes(pipeline, height, width):
    images = pipeline("a dog", height=height, width=width, num_inference_steps=2, generator=generators(1)).images
    assert images[0].size == (width, height)


def test_a_saved_pipeline_is_the_same_pipeline(pipeline, tmp_path, relative_error):
    pipeline.save_pretrained(tmp_path / "out")
    again = LightGenPipeline.from_pretrained(tmp_path / "out")
    again.set_progress_bar_config(disable=True)
    assert again.sampling == SAMPLING
    arguments = {"generator": generators(3), "output_type": "latent"}
    expected = pipeline("a dog", **arguments).images
    found = again("a dog", generator=generators(3), output_type="latent").images
    assert relative_error(found, expected) < 2e-5, "where the weights lie in memory may change the last digits"


def test_a_callback_sees_every_step(pipeline):
    seen = []
    pipeline(
        "a dog",
        generator=generators(1),
        callback_on_step_end=lambda pipe, step, time, values: seen.append((step, values["tokens"].shape)),
    )
    assert seen == [(step, (1, 4, 64)) for step in range(4)]


def test_a_half_written_folder_is_refused(pipeline, tmp_path):
    folder = tmp_path / "out"
    pipeline.save_pretrained(folder)
    shutil.rmtree(folder / "transformer")
    with pytest.raises(FileNotFoundError, match="transformer"):
        LightGenPipeline.from_pretrained(folder)
    (folder / "model_index.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no model_index\.json"):
        LightGenPipeline.from_pretrained(folder)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"prompt": []}, "no prompts"),
        ({"prompt": [3]}, "must be a string"),
        ({"prompt": "a dog", "height": 40}, "40x32 pixels do not divide into tokens of 16x16"),
        ({"prompt": "a dog", "width": 0}, "do not divide"),
        ({"prompt": "a dog", "height": 160_000}, "a side may have 4,096 at most"),
        ({"prompt": "a dog", "guidance_scale": float("nan")}, "guidance_scale"),
        ({"prompt": "a dog", "temperature": -1.0}, "temperature"),
        ({"prompt": "a dog", "num_inference_steps": 5}, "5 autoregressive steps for 4 tokens"),
        ({"prompt": "a dog", "num_images_per_prompt": 0}, "num_images_per_prompt"),
        ({"prompt": "a dog", "output_type": "jpeg"}, "output_type"),
        ({"prompt": "a dog", "latents": torch.zeros(1, 16, 2, 2)}, "1 images of this size need"),
        ({"prompt": "a dog", "solver": "heun"}, "does not fit a ddpm head"),
    ],
)
def test_calls_that_cannot_work_are_refused(pipeline, call, message):
    with pytest.raises(ValueError, match=message):
        pipeline(**call)


def test_a_generator_list_of_another_length_is_refused(pipeline):
    with pytest.raises(ValueError, match="3 generators for 2 images"):
        pipeline(["a dog", "a bench"], generator=generators(1, 2, 3))


def test_parts_that_do_not_fit_each_other_are_refused(vae_folder, text_folder):
    with pytest.raises(ValueError, match="latents have 16 channels, the model was made for 4"):
        make_pipeline(vae_folder, text_folder, vae_channels=4)
    with pytest.raises(ValueError, match="features have 16 channels"):
        make_pipeline(vae_folder, text_folder, text_channels=24)
