"""The analysis of recordings with its networks loaded once."""

import dataclasses
import functools
from collections.abc import Callable
from typing import cast

import numpy as np

from cardiojax.analysis.crisp import make_crisp_estimator
from cardiojax.analysis.pairs import choose_pair_model, make_pair_segment
from cardiojax.analysis.recording import Analysis, AnalyzeConfig, analyze, make_segment
from cardiojax.analysis.segmentation import Segment
from cardiojax.correction.anatomical import make_anatomical_corrector
from cardiojax.correction.temporal import make_temporal_corrector
from cardiojax.data import Recording
from cardiojax.runtime import SharedBatches

#: Frames below which a loop is not corrected over time.
_MIN_LOOP = 3


class Analyzer:
    """Analyses recordings; each network is loaded when a recording first needs it.

    Several threads may call it after `load`. The frames of their recordings share the batches of the networks, each
    ``num_threads / 2`` times as large, so that a GPU is kept busy while other threads read, correct and measure.

    Args:
        config: How they are analysed.
        num_threads: Recordings that are analysed at the same time.
        anatomical_correction: Whether anatomically invalid outlines are replaced by the nearest valid ones.
        temporal_correction: Whether temporally inconsistent frames of a loop are corrected.
        crisp: Whether uncertainty is estimated by CRISP instead of the entropy.

    Example:
        >>> analyzer = Analyzer(AnalyzeConfig(model="unet_camus"))
        >>> analyzer.is_validated
        True
    """

    def __init__(
        self,
        config: AnalyzeConfig,
        *,
        num_threads: int = 1,
        anatomical_correction: bool = True,
        temporal_correction: bool = True,
        crisp: bool = False,
    ):
        self._config, self._temporal_correction = config, temporal_correction
        self._num_shares = max(1, num_threads // 2)  # the other threads read, correct and measure meanwhile
        self._anatomical_correction, self._crisp = anatomical_correction, crisp

    @property
    def is_validated(self) -> bool:
        """Whether `cardiojax.study.precision` was measured with these networks and options.

        It was measured with the default ones, on stills, to which no temporal correction applies.
        """
        config, default = self._config, AnalyzeConfig()
        has_same_model = config.model == default.model  # first, since the pair network of another one must be loaded
        return has_same_model and _of_outlines(config) == _of_outlines(default) and self._anatomical_correction

    def prepare(self) -> None:
        """Loads the network that every recording needs, and one that was asked for, and begins to compile them."""
        _ = self._segment
        if self._config.pair_model not in ("auto", "none"):
            _ = self._pair_segment  # a wrong name is found before the work, also where all recordings are stills

    def load(self) -> None:
        """Loads all networks and begins to compile them."""
        _ = self._segment, self._pair_segment
        _ = self._anatomical_corrector, self._temporal_corrector, self._uncertainty_estimator

    @property
    def frame_batches(self) -> SharedBatches:
        """The batches of the network that segments single frames, with their counts."""
        return cast(SharedBatches, self._segment.segment)

    def __call__(self, recording: Recording, *, on_progress: Callable[[int], None] = lambda done: None) -> Analysis:
        """Analyses a recording of an apical view.

        Args:
            recording: The recording.
            on_progress: Called with the number of frames segmented so far.

        Returns:
            The analysis.
        """
        num_frames = len(recording.frames)
        return analyze(
            recording,
            self._segment,
            config=self._config,
            anatomical_corrector=self._anatomical_corrector,
            pair_segment=self._pair_segment if num_frames > 1 else None,
            uncertainty_estimator=self._uncertainty_estimator,
            temporal_corrector=self._temporal_corrector if num_frames >= _MIN_LOOP else None,
            on_progress=on_progress,
        )

    @functools.cached_property
    def _segment(self):
        batch_size = self._config.batch_size * self._num_shares
        segment = make_segment(dataclasses.replace(self._config, batch_size=batch_size))
        return segment._replace(segment=SharedBatches(segment.segment, batch_size=batch_size))

    @functools.cached_property
    def _anatomical_corrector(self):
        return make_anatomical_corrector() if self._anatomical_correction else None

    @functools.cached_property
    def _pair_segment(self):
        config = self._config
        pair_model = choose_pair_model(config.model, config.pair_model)
        if pair_model is None:
            return None
        segment = make_pair_segment(
            pair_model,
            size=config.size,
            batch_size=self._num_shares,
            test_time_augmentation=config.test_time_augmentation,
        )
        return _share_pairs(segment, batch_size=self._num_shares)

    @functools.cached_property
    def _uncertainty_estimator(self):
        return make_crisp_estimator() if self._crisp else None

    @functools.cached_property
    def _temporal_corrector(self):
        if not self._temporal_correction:
            return None
        return make_temporal_corrector(
            anatomical_corrector=self._anatomical_corrector,
            size=self._config.size,
            separate_atrium=self._config.separate_atrium,
        )


def _of_outlines(config: AnalyzeConfig) -> AnalyzeConfig:
    """A configuration without what changes no outline, so that two that give the same outlines are equal."""
    return dataclasses.replace(
        config,
        pair_model=choose_pair_model(config.model, config.pair_model) or "none",
        batch_size=AnalyzeConfig().batch_size,
        max_size=max(config.grid_sizes, default=config.max_size),  # the largest takes its place, see `make_grid`
        grid_sizes=(),  # the others change the margin around the sector alone
    )


def _share_pairs(segment: Segment, *, batch_size: int) -> Segment:
    """Shares the batches of a pair network between threads, so that both frames of a pair are in one batch."""

    def segment_pairs(pairs: np.ndarray) -> np.ndarray:
        probs = segment(pairs.reshape(-1, *pairs.shape[2:]))
        return probs.reshape(*pairs.shape[:2], *probs.shape[1:])

    share = SharedBatches(segment_pairs, batch_size=batch_size)

    def segment_images(images: np.ndarray) -> np.ndarray:
        probs = share(images.reshape(-1, 2, *images.shape[1:]))
        return probs.reshape(len(images), *probs.shape[2:])

    return segment_images
