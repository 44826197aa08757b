"""Image quality: FID, KID, CMMD, precision and recall, density and coverage, Vendi score, CLIP score, fine detail."""

from benchmarks.quality.clip_score import clip_scores
from benchmarks.quality.features import Features, extract, extract_statistics, load_features
from benchmarks.quality.frechet import fid, fid_infinity
from benchmarks.quality.kernels import cmmd, kid
from benchmarks.quality.manifold import density_coverage, precision_recall, prompt_vendi, vendi
from benchmarks.quality.measure import measure
from benchmarks.quality.moments import Statistics, load_statistics, save_statistics
from benchmarks.quality.spectrum import compare_detail

__all__ = [
    "Features",
    "Statistics",
    "clip_scores",
    "cmmd",
    "compare_detail",
    "density_coverage",
    "extract",
    "extract_statistics",
    "fid",
    "fid_infinity",
    "kid",
    "load_features",
    "load_statistics",
    "measure",
    "precision_recall",
    "prompt_vendi",
    "save_statistics",
    "vendi",
]
