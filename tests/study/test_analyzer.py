"""Recordings that are analysed at the same time have the results of each alone."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cardiojax.analysis.recording import AnalyzeConfig
from cardiojax.archive.worker import GRID_SIZES
from cardiojax.data import Recording
from cardiojax.study.analyzer import Analyzer


def recording(seed: int) -> Recording:
    """Frames of noise that differ from those of other seeds."""
    frames = np.random.default_rng(seed).random((3 + seed % 2, 64, 64), np.float32)
    return Recording(frames=frames, spacing=(1.0, 1.0), frame_time=0.03, source="test")


def test_threads_share_batches_and_get_the_results_of_each_recording_alone():
    config = AnalyzeConfig(size=32, batch_size=2)
    options = {"anatomical_correction": False, "temporal_correction": False}
    alone, shared = Analyzer(config, **options), Analyzer(config, num_threads=3, **options)
    shared.load()
    recordings = [recording(seed) for seed in range(4)]
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(shared, recordings))
    for result, one in zip(results, map(alone, recordings), strict=True):
        assert (result.predicted.labels == one.predicted.labels).mean() > 0.999  # another program sums otherwise
        np.testing.assert_allclose(result.uncertainty, one.uncertainty, atol=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"model": "nnunet_camus"},
        {"ensemble": ("nnunet_camus",)},
        {"pair_model": "none"},
        {"test_time_augmentation": True},
        {"size": 64},
        {"largest_component": False},
        {"separate_atrium": False},
        {"max_size": 128},
        {"grid_sizes": (128, 256)},
    ],
)
def test_other_outlines_than_the_measured_ones_are_not_validated(options):
    assert not Analyzer(AnalyzeConfig(**options)).is_validated


def test_what_changes_no_outline_leaves_them_validated():
    for options in ({}, {"batch_size": 2}, {"pair_model": "unet_pair_camus"}, {"grid_sizes": GRID_SIZES}):
        assert Analyzer(AnalyzeConfig(**options)).is_validated
    assert Analyzer(AnalyzeConfig(), num_threads=4, temporal_correction=False, crisp=True).is_validated
    assert not Analyzer(AnalyzeConfig(), anatomical_correction=False).is_validated
