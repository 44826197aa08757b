"""What users of diffusers rely on in any pipeline, held by this one too: its arguments' names and their meaning."""

import numpy as np
import pytest
import torch

from lightgen.model.folder import load_pipeline
from lightgen.model.pipeline import LightGenPipeline
from tests.lightgen.test_pipeline import generators, make_pipeline


@pytest.fixture(scope="module")
def pipeline(vae_folder, text_folder):
    return make_pipeline(vae_folder, text_folder)


@pytest.fixture(scope="module")
def folder(pipeline, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "pipeline"
    pipeline.save_pretrained(path)
    return path


def pixels(pipeline, **call):
    call = {"prompt": "a dog", "generator": generators(5), "output_type": "np", **call}
    return pipeline(**call).images


def test_np_is_an_array_of_the_pt_pictures(pipeline):
    array = pixels(pipeline)
    assert isinstance(array, np.ndarray) and array.shape == (1, 32, 32, 3) and 0 <= array.min() <= array.max() <= 1
    assert np.array_equal(array, pixels(pipeline, output_type="pt").permute(0, 2, 3, 1).numpy())
    (same,) = pipeline("a dog", generator=generators(5), output_type="np", return_dict=False)
    assert np.array_equal(array, same)


@pytest.mark.parametrize("objective", ["ddpm", "flow"])
def test_latents_are_the_noise_that_tokens_are_made_from(vae_folder, text_folder, objective):
    pipeline = make_pipeline(vae_folder, text_folder, head_objective=objective)
    solver = {"solver": "euler"} if objective == "flow" else {}
    noise = torch.randn((1, 16, 4, 4), generator=generators(1)[0])
    first = pixels(pipeline, latents=noise, **solver)
    assert np.array_equal(first, pixels(pipeline, latents=noise.clone(), **solver))
    assert not np.array_equal(first, pixels(pipeline, latents=-noise, **solver))
    assert not np.array_equal(first, pixels(pipeline, **solver))
    if objective == "flow":  # a flow's only noise: of one step the generators choose nothing more
        one, other = (
            pixels(pipeline, latents=noise, num_inference_steps=1, generator=generators(seed), **solver)
            for seed in (5, 6)
        )
        assert np.allclose(one, other, atol=1e-5)


def test_components_are_the_arguments_of_the_constructor(pipeline):
    assert set(pipeline.components) == {"vae", "text_encoder", "tokenizer", "transformer", "sampling"}
    again = LightGenPipeline(**pipeline.components)
    again.set_progress_bar_config(disable=True)
    assert again.sampling == pipeline.sampling and np.array_equal(pixels(again), pixels(pipeline))


@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
def test_the_type_of_the_weights_has_both_names(folder, name):
    loaded = LightGenPipeline.from_pretrained(folder, **{name: torch.bfloat16})
    parts = (loaded.vae, loaded.text_encoder, loaded.transformer)
    assert {parameter.dtype for part in parts for parameter in part.parameters()} == {torch.bfloat16}
    loaded.set_progress_bar_config(disable=True)
    assert np.isfinite(pixels(loaded)).all()


def test_parts_may_have_types_of_their_own(folder):
    loaded = load_pipeline(folder, dtype={"transformer": torch.bfloat16, "default": torch.float16})
    assert (loaded.transformer.dtype, loaded.vae.dtype) == (torch.bfloat16, torch.float16)
    assert LightGenPipeline.from_pretrained(folder, dtype={"vae": torch.float16}).transformer.dtype == torch.float32
    with pytest.raises(ValueError, match=r"dtype names unet; the parts are vae, text_encoder, transformer"):
        LightGenPipeline.from_pretrained(folder, dtype={"unet": torch.float16})
    with pytest.raises(ValueError, match="give dtype alone"):
        LightGenPipeline.from_pretrained(folder, dtype=torch.float16, torch_dtype=torch.float16)


def test_a_variant_is_saved_and_loaded_by_its_name(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path, variant="fp16")
    assert (tmp_path / "transformer" / "diffusion_pytorch_model.fp16.safetensors").is_file()
    loaded = LightGenPipeline.from_pretrained(tmp_path, variant="fp16")
    loaded.set_progress_bar_config(disable=True)
    assert np.allclose(pixels(loaded), pixels(pipeline), atol=1e-5)
    with pytest.raises(ValueError, match="load the model files of the `variant=bf16`, but no such modeling files are"):
        LightGenPipeline.from_pretrained(tmp_path, variant="bf16")


def test_a_device_map_places_the_parts(folder, pipeline):
    for places in ("cpu", {"transformer": "cpu", "vae": "cpu"}):
        loaded = LightGenPipeline.from_pretrained(folder, device_map=places)
        loaded.set_progress_bar_config(disable=True)
        assert loaded.hf_device_map["transformer"] == "cpu" and np.allclose(pixels(loaded), pixels(pipeline), atol=1e-5)
    with pytest.raises(ValueError, match="device_map names unet"):
        LightGenPipeline.from_pretrained(folder, device_map={"unet": "cpu"})
    if not torch.accelerator.is_available():
        with pytest.raises(ValueError, match="needs an accelerator"):
            LightGenPipeline.from_pretrained(folder, device_map="balanced")


@pytest.mark.parametrize("objective", ["ddpm", "flow"])
def test_weights_may_be_stored_as_float8(vae_folder, text_folder, objective):
    """Layerwise casting: stored in 8 bits, computed in bfloat16, by every path of generation."""
    pipeline = make_pipeline(vae_folder, text_folder, head_objective=objective)
    solver = {"solver": "euler"} if objective == "flow" else {}
    pipeline.transformer.to(torch.bfloat16)
    expected = pixels(pipeline, **solver)
    pipeline.transformer.enable_layerwise_casting(torch.float8_e4m3fn, compute_dtype=torch.bfloat16)
    sizes = {p.dtype: 0 for p in pipeline.transformer.parameters()}
    for parameter in pipeline.transformer.parameters():
        sizes[parameter.dtype] += parameter.numel()
    assert sizes[torch.float8_e4m3fn] > sizes[torch.bfloat16]
    found = pixels(pipeline, **solver)
    assert np.isfinite(found).all() and not np.array_equal(found, expected) and np.abs(found - expected).mean() < 0.2


def test_pickled_weights_are_refused_with_the_reason(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(ValueError, match=r"as a pickle .*save them again with safe_serialization=True"):
        LightGenPipeline.from_pretrained(tmp_path)
