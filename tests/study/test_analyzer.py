"""Recordings that are analysed at the same time have the results of each alone."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cardiojax.analysis.recording import AnalyzeConfig
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
