"""The public names of each package: `__all__` says what there is, and every name loads."""

import importlib

import pytest

PUBLIC = {
    "geneval": {"Prompt", "official_prompts", "Detection", "check", "score_folder", "summarize", "compare"},
    "lightgen": {"MAR", "MARConfig", "LightGenPipeline", "SamplingConfig", "TrainConfig", "PreferenceConfig", "train"},
    "benchmarks.quality": {"extract", "fid", "kid", "clip_scores", "measure"},
    "ablations": {"Study", "Variant", "Contrast"},
    "ablations.icons": {"World", "WORLDS", "IconTeacher", "DatasetConfig", "render_dataset", "split_of"},
    "reports": {"Record", "Study", "build_report", "frame", "read_record", "read_study", "verdicts"},
}


@pytest.mark.parametrize("package", PUBLIC)
def test_public_names(package: str) -> None:
    module = importlib.import_module(package)
    assert set(module.__all__) >= PUBLIC[package]
    for name in module.__all__:
        assert getattr(module, name) is not None
    assert len(set(module.__all__)) == len(module.__all__)
    with pytest.raises(AttributeError):
        _ = module.no_such_name
