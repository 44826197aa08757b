"""The public names of each package: `__all__` says what there is, and every name loads."""

import importlib

import pytest

PUBLIC = {
    "geneval": {
        *("Prompt", "official_prompts", "prompt_suite", "Detection", "check", "grade", "score_folder"),
        *("summarize", "compare", "Judge", "Judged", "judge_line"),
    },
    "lightgen": {
        *("MAR", "MARConfig", "MARLoss", "Draws", "draw", "ImageTokenizer", "TextEncoder", "LightGenPipeline"),
        *("SamplingConfig", "generate_latents", "TrainConfig", "LoopConfig", "train", "PreferenceConfig", "train_dpo"),
        *("dpo_loss", "load_transformer", "load_pipeline", "export"),
    },
    "benchmarks.quality": {
        *("ExtractionConfig", "MeasureConfig", "Features", "Statistics", "extract", "extract_statistics"),
        *("load_features", "load_statistics", "save_statistics", "measure", "compare_detail", "clip_scores"),
        *("fid", "fid_infinity", "kid", "cmmd", "precision_recall", "density_coverage", "vendi", "prompt_vendi"),
        *("CLIPScore", "FrechetDistance", "KernelDistance", "PrecisionRecall", "Vendi"),
    },
    "ablations": {
        *("Study", "Variant", "Contrast", "Split", "Setting", "Cell", "Step", "Work", "Folder", "Facts", "Store"),
        *("study", "trained", "untrained", "preferred", "tuned", "judged", "plan_cells", "load_study", "study_names"),
    },
    "ablations.icons": {
        *("World", "WORLDS", "IconTeacher", "DatasetConfig", "render_dataset", "split_of", "COMPONENTS"),
    },
    "reports": {"build_report", "read_record", "read_study", "Record", "Study", "frame", "verdicts"},
}


@pytest.mark.parametrize("package", PUBLIC)
def test_public_names(package: str) -> None:
    module = importlib.import_module(package)
    assert set(module.__all__) == PUBLIC[package]
    for name in module.__all__:
        assert getattr(module, name) is not None
    assert len(set(module.__all__)) == len(module.__all__)
    with pytest.raises(AttributeError):
        _ = module.no_such_name
